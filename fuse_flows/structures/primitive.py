"""The primitive cell of a noisy crystal, from its translations alone.

spglib finds it too, but only together with the space group, which takes 20 ms for rocksalt; the search asks for it with
every candidate and every proposal.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYMPREC_LOOSE = 0.1
"""Tolerance (angstrom) at which a relaxed structure shows the translations that it would have without its noise."""

_SHRINK = 0.9
_ATTEMPTS = 30


class _Translation(NamedTuple):
    """A vector (fractional), and the atom on which it puts each atom, of which ``image`` is the copy next to it."""

    vector: NDArray[np.float64]
    target: NDArray[np.int64]
    image: NDArray[np.float64]


def primitive_cell(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.int64],
    tolerance: float = SYMPREC_LOOSE,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Reduce a crystal to a primitive cell; the noise of what becomes one atom is averaged.

    Parameters
    ----------
    lattice
        (3, 3) rows are the lattice vectors, angstrom.
    frac_coords
        (n, 3) fractional coordinates.
    numbers
        (n,) atomic numbers.
    tolerance
        How far an atom may lie from where a translation puts another one, angstrom. Where the translations found do not
        form a group, it is lowered until they do.

    Returns
    -------
    lattice, frac_coords, numbers
        Of a primitive cell, whose vectors are not reduced any further; what was given if it is primitive.
    """
    divisor = math.gcd(*np.unique(numbers, return_counts=True)[1].tolist())
    for _ in range(_ATTEMPTS if divisor > 1 else 0):
        found = _translations(lattice, frac_coords, numbers, tolerance)
        if not found:
            break
        size = len(found) + 1
        steps = np.round(size * np.array([translation.vector for translation in found])).astype(np.int64) % size
        if divisor % size == 0 and _is_group(steps, size):
            return _folded(lattice, frac_coords, numbers, found, _basis(steps, size) / size)
        tolerance *= _SHRINK
    return lattice, frac_coords, numbers


def _translations(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: NDArray[np.int64], tolerance: float
) -> list[_Translation]:
    """Return the translations, beside those of the lattice, that put every atom on one of its kind."""
    species, counts = np.unique(numbers, return_counts=True)
    rarest = np.flatnonzero(numbers == species[counts.argmin()])
    other_kind = np.where(numbers[:, None] == numbers[None, :], 0.0, np.inf)
    rows = np.arange(len(numbers))
    found = []
    for atom in rarest[1:]:
        vector = frac_coords[atom] - frac_coords[rarest[0]]
        delta = frac_coords[None, :, :] - (frac_coords + vector)[:, None, :]
        delta -= np.round(delta)
        target = (((delta @ lattice) ** 2).sum(axis=-1) + other_kind).argmin(axis=1)
        misfit = delta[rows, target]
        shift = misfit.mean(axis=0)  # the two atoms that define the vector have their noise, too
        if len(set(target.tolist())) < len(target):
            continue
        if np.linalg.norm((misfit - shift) @ lattice, axis=1).max() > tolerance:
            continue
        found.append(_Translation(vector + shift, target, frac_coords + misfit - shift))
    return found


def _is_group(steps: NDArray[np.int64], size: int) -> bool:
    """Tell whether translations, in multiples of 1/size of the lattice vectors, form a group with the identity."""
    elements = {(0, 0, 0), *map(tuple, steps.tolist())}
    sums = (steps[:, None, :] + steps[None, :, :]).reshape(-1, 3) % size
    return len(elements) == size and all(tuple(total) in elements for total in sums.tolist())


def _basis(steps: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return a basis (3, 3) of the integer lattice that the steps and ``size`` times the unit vectors span."""
    rows = [list(map(int, row)) for row in [*steps, *(size * np.eye(3, dtype=np.int64))]]
    basis = []
    for column in range(3):
        while True:  # Euclid's algorithm on whole rows
            rows = [row for row in rows if any(row)]
            here = [row for row in rows if row[column]]
            pivot = min(here, key=lambda row: abs(row[column]))
            if len(here) == 1:
                break
            for row in here:
                if row is not pivot:
                    times = row[column] // pivot[column]
                    row[:] = [value - times * step for value, step in zip(row, pivot, strict=True)]
        basis.append(pivot)
        rows = [row for row in rows if row is not pivot]
    return np.array(basis)


def _folded(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.int64],
    translations: list[_Translation],
    basis: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Keep one atom of those that the translations put on one another, at their mean position."""
    targets = np.array([translation.target for translation in translations])
    keep = np.flatnonzero((targets > np.arange(len(numbers))).all(axis=0))
    mean = np.mean([frac_coords, *(translation.image for translation in translations)], axis=0)[keep]
    return basis @ lattice, mean @ np.linalg.inv(basis), numbers[keep]
