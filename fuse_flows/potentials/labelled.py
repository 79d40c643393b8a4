"""Equations of labelled cells: the pair potentials shall have the forces and virials of a better method.

    sum_s w / N_s [ sum_i |F_i - F_i(label)|^2 / (3 f_s^2) + weight N_s |W - W(label)|^2 / (6 w_s^2) ],

with f_s = force_floor + relative * rms(F(label)), likewise for the virial per atom: what is small near a minimum
decides where it is, so it counts relatively more. Energies are not used: along a way downhill they follow from the
forces.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from fuse_flows.potentials.crystals import has_anions
from fuse_flows.potentials.restoring import RestoringProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.labels import LabelledCells

_BENT = 0.5  # eV


@dataclass(frozen=True)
class LabelSettings:
    """Weights of the labelled cells.

    Attributes
    ----------
    weight
        w: of a labelled cell against a displaced crystal of a formula that comes once.
    force_floor, virial_floor
        eV/A, and eV per atom.
    relative
        Share of the label's own size that is added to these.
    virial_weight
        Of the virial equations.
    crystals
        Displaced crystals that are kept in the problem, so that crystals go on being at rest.
    amplitudes
        How large the corrections are likely to be (``sharing.shared_parts``): the pair's own, then the shared ones.
    circles
        Which circles of relatives share.
    iterations
        Steps of conjugate gradients.
    highest
        The potentials that the fit begins with are bent so that they stay below this, eV: the walls that keep atoms
        apart where no data are would outweigh everything else in cells with close contacts.
    inside
        The labels tell about distances so much inside the first shell of the crystals, A.
    """

    weight: float = 1.0
    force_floor: float = 0.3
    virial_floor: float = 0.5
    relative: float = 0.5
    virial_weight: float = 3.0
    crystals: int = 1500
    amplitudes: tuple[float, ...] = (10.0, 20.0, 20.0, 40.0)
    circles: tuple[int, ...] = (0, 2, 3)
    iterations: int = 24
    highest: float = 1.5
    inside: float = 0.4


def labelled(cells: LabelledCells, symbols: Sequence[str], settings: LabelSettings) -> RestoringProblem:
    """Write down the equations.

    Parameters
    ----------
    cells
        The cells; those with elements that are not in ``symbols`` are left out.
    symbols
        The elements of the library.
    settings
        Weights.

    Returns
    -------
    RestoringProblem
        To be joined with that of the displaced crystals (:func:`joined`).
    """
    position = np.full(len(atomic_numbers) + 1, -1, dtype=np.int64)
    position[[atomic_numbers[symbol] for symbol in symbols]] = np.arange(len(symbols))
    kinds = position[cells.numbers]
    known = np.minimum.reduceat(kinds, cells.offsets[:-1]) >= 0
    sizes = cells.sizes
    owner = np.repeat(np.arange(len(cells)), sizes)
    mean_square = np.add.reduceat((cells.forces**2).sum(axis=1), cells.offsets[:-1]) / (3 * sizes)
    force_unit = settings.force_floor + settings.relative * np.sqrt(mean_square)
    pressure = np.sqrt((cells.virials**2).sum(axis=(1, 2)) / 6) / sizes
    virial_unit = sizes * (settings.virial_floor + settings.relative * pressure)
    weight = settings.weight * known
    return RestoringProblem(
        offsets=cells.offsets,
        kinds=np.maximum(kinds, 0),
        surroundings=_surroundings(cells),
        positions=np.einsum("ni,nij->nj", cells.frac, cells.cells[owner]),
        cells=cells.cells,
        forces=cells.forces,
        virials=cells.virials,
        force_scales=weight / (3 * sizes * force_unit**2),
        virial_scales=weight * settings.virial_weight / (6 * virial_unit**2),
        elements=len(symbols),
    )


def _surroundings(cells: LabelledCells) -> NDArray[np.int64]:
    parts = np.split(cells.numbers, cells.offsets[1:-1])
    return np.array([0 if has_anions(chemical_symbols[int(z)] for z in part) else 1 for part in parts], dtype=np.int64)


def softened(values: NDArray[np.float64], highest: float) -> NDArray[np.float64]:
    """Bend potentials (eV, any shape) above ``_BENT`` so that they stay below ``highest``."""
    room = highest - _BENT
    return np.where(values > _BENT, _BENT + room * np.tanh((values - _BENT) / room), values)


def joined(one: RestoringProblem, two: RestoringProblem) -> RestoringProblem:
    """Return the equations of both; their elements must be the same."""
    names = ("kinds", "surroundings", "positions", "cells", "forces", "virials", "force_scales", "virial_scales")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in names}
    return replace(one, offsets=np.concatenate([one.offsets, two.offsets[1:] + one.offsets[-1]]), **arrays)
