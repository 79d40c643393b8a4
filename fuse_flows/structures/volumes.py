"""How much room atoms need: an estimate of the volume per atom, a window around it, and structures scaled to it.

The volumes of the elements are in ``fuse_flows/data/element_volumes.json``, fitted to the crystals of the Materials
Project. Of these, 99 % lie between 0.79 and 1.60 times the estimate, and 99.9 % between 0.5 and 2.5 times.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.structures.checks import atom_table
from fuse_flows.structures.neighbours import neighbour_pairs
from fuse_flows.structures.radii import element_radius

if TYPE_CHECKING:
    from fuse_flows.structures.blocks import BlockStructure
    from fuse_flows.structures.composition import FormulaUnit

OPEN_CONTACT = 0.65
"""Of the crystals of the Materials Project, 99.4 % have no contact below this times the sum of the two radii."""

_CLOSE_PACKING = np.pi / np.sqrt(18)
"""Share of the volume that equal spheres fill at most; for elements without a fitted volume."""

OUT_OF_WINDOW = "volume out of the window"


@dataclass(frozen=True)
class VolumeWindow:
    """Volumes per atom that a structure may have before it is relaxed, A^3.

    Parameters
    ----------
    target
        The most likely one.
    low, high
        Smallest and largest.
    """

    target: float
    low: float
    high: float

    def holds(self, structure: BlockStructure) -> bool:
        """Tell whether the volume of a structure lies in the window."""
        return self.low <= structure.volume / len(structure) <= self.high

    def including(self, volume: float) -> VolumeWindow:
        """Return a window that holds a volume per atom (A^3), and those within 5 % of it, too."""
        return VolumeWindow(self.target, min(self.low, volume / 1.05), max(self.high, volume * 1.05))


@cache
def _table() -> dict[str, Any]:
    """Read the shipped table, once."""
    path = resources.files("fuse_flows").joinpath("data/element_volumes.json")
    table: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return table


def element_volume(symbol: str, *, with_anion: bool) -> float:
    """Return the volume that an atom of an element takes in a crystal.

    Parameters
    ----------
    symbol
        Element symbol.
    with_anion
        Whether the crystal holds one of N, O, F, S, Cl, Se, Br, I; metals are much smaller there.

    Returns
    -------
    float
        In A^3. Where there were too few crystals: the volume in the other kind, or that of a close packing of spheres.

    Raises
    ------
    ConfigError
        If the element has neither a volume nor a radius.
    """
    fitted, other = _table()["volumes"].get(symbol, (None, None))[:: 1 if with_anion else -1]
    volume = other if fitted is None else fitted
    return float(4 / 3 * np.pi * element_radius(symbol) ** 3 / _CLOSE_PACKING if volume is None else volume)


@cache
def estimated_volume(formula_unit: FormulaUnit) -> float:
    """Return the volume per atom that a crystal of a composition is likely to have, before anything was relaxed.

    Parameters
    ----------
    formula_unit
        The composition; charges do not matter.

    Returns
    -------
    float
        Mean volume of its atoms, A^3.

    Raises
    ------
    ConfigError
        If an element has neither a volume nor a radius.
    """
    with_anion = not set(formula_unit.elements).isdisjoint(_table()["about"]["anions"])
    total = sum(n * element_volume(el, with_anion=with_anion) for el, n in formula_unit.counts)
    return total / formula_unit.n_atoms


def scaled_towards(
    structure: BlockStructure, volume: float, formula_unit: FormulaUnit, min_distance: float
) -> BlockStructure:
    """Scale all lengths of a structure so that it has a volume per atom, or comes as near as its contacts allow.

    Parameters
    ----------
    structure
        The structure.
    volume
        The volume per atom that is wanted, A^3.
    formula_unit
        Gives the radii.
    min_distance
        Shortest contact, angstrom.

    Returns
    -------
    BlockStructure
        The scaled structure. It is not made smaller than to contacts of 0.65 times the sum of the radii and of
        ``min_distance``, and not at all if it has shorter ones.
    """
    factor = (volume * len(structure) / structure.volume) ** (1 / 3)
    if factor < 1:
        factor = max(factor, min(1.0, _least_factor(structure, formula_unit, min_distance, factor)))
    return structure.scaled(factor)


def _least_factor(structure: BlockStructure, formula_unit: FormulaUnit, min_distance: float, smallest: float) -> float:
    """Return the factor on all lengths that leaves the tightest contact just open; 0 if ``smallest`` closes none."""
    radii = atom_table(formula_unit).radius[structure.numbers]
    reach = max(min_distance, 2 * OPEN_CONTACT * float(radii.max())) / smallest
    first, second, distance = neighbour_pairs(structure.lattice, structure.frac_coords, reach)
    if not distance.size:
        return 0.0
    wanted = np.maximum(min_distance, OPEN_CONTACT * (radii[first] + radii[second])) * (1 + 1e-6)
    return float((wanted / np.maximum(distance, 1e-9)).max())
