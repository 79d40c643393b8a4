"""Compiled passes over many crystals of one composition: contacts that are too short, and pushing atoms apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.kernels import determinant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_MOST_IMAGES = 1_000
"""Cells that need more images along one axis to be searched are thinner than any atom."""
_LONGEST_PUSH = 0.4
"""Largest displacement of an atom in one round, A."""
_CLOSE_ENOUGH = 0.03
"""Contacts may be shorter than the limit by this fraction."""


@compiled(inner=True)
def _triangle_of(cell: Array, low: Array) -> bool:
    """Write the cell in its own frame (a along x, b in the xy plane) to ``low``; False if it has no volume."""
    volume = abs(determinant(cell))
    if not volume > 0.0:
        return False
    ab, ac, bc, bb = 0.0, 0.0, 0.0, 0.0
    aa = 0.0
    for x in range(3):
        aa += cell[0, x] * cell[0, x]
        ab += cell[0, x] * cell[1, x]
        ac += cell[0, x] * cell[2, x]
        bb += cell[1, x] * cell[1, x]
        bc += cell[1, x] * cell[2, x]
    low[0, 0] = math.sqrt(aa)
    low[1, 0] = ab / low[0, 0]
    low[1, 1] = math.sqrt(max(bb - low[1, 0] * low[1, 0], 1e-300))
    low[2, 0] = ac / low[0, 0]
    low[2, 1] = (bc - low[1, 0] * low[2, 0]) / low[1, 1]
    low[2, 2] = volume / (low[0, 0] * low[1, 1])
    return True


@compiled()
def short_contacts(lattices: Array, frac_coords: Array, limits: Array) -> NDArray[np.bool_]:
    """Tell which crystals have a contact below the limit of the two atoms, every image included.

    Parameters
    ----------
    lattices
        Lattice vectors as rows, A, shape (n, 3, 3).
    frac_coords
        Fractional coordinates, shape (n, atoms, 3).
    limits
        Shortest contact of each two atoms, A, shape (atoms, atoms).

    Returns
    -------
    numpy.ndarray
        True for crystals with a short contact and for cells without volume, shape (n,).
    """
    n, atoms = frac_coords.shape[0], limits.shape[0]
    short = np.zeros(n, np.bool_)
    low = np.zeros((3, 3))
    for k in range(n):
        if not _triangle_of(lattices[k], low):
            short[k] = True
            continue
        thinnest = min(low[0, 0], low[1, 1], low[2, 2])
        for i in range(atoms):
            if short[k]:
                break
            for j in range(i, atoms):
                reach = limits[i, j]
                if not reach < _MOST_IMAGES * thinnest:
                    short[k] = True
                    break
                f0 = frac_coords[k, j, 0] - frac_coords[k, i, 0]
                f1 = frac_coords[k, j, 1] - frac_coords[k, i, 1]
                f2 = frac_coords[k, j, 2] - frac_coords[k, i, 2]
                reach2 = reach * reach
                for c in range(math.ceil(-reach / low[2, 2] - f2), math.floor(reach / low[2, 2] - f2) + 1):
                    z = (f2 + c) * low[2, 2]
                    left = max(reach2 - z * z, 0.0)
                    half = math.sqrt(left) / low[1, 1]
                    middle = f1 + (f2 + c) * low[2, 1] / low[1, 1]
                    for b in range(math.ceil(-half - middle), math.floor(half - middle) + 1):
                        y = (middle + b) * low[1, 1]
                        width = math.sqrt(max(left - y * y, 0.0)) / low[0, 0]
                        centre = f0 + ((f1 + b) * low[1, 0] + (f2 + c) * low[2, 0]) / low[0, 0]
                        images = math.floor(width - centre) - math.ceil(-width - centre) + 1
                        if i == j and b == 0 and c == 0:
                            images -= 1
                        if images > 0:
                            short[k] = True
                if short[k]:
                    break
    return short


@compiled()
def push_apart(
    lattices: Array,
    coordinates: Array,
    rotations: Array,
    translations: Array,
    orbits: NDArray[np.int64],
    backs: Array,
    limits: Array,
    rounds: int,
) -> None:
    """Move the orbits of symmetric crystals until no two atoms are closer than a limit, or the rounds are over.

    Each round moves the first atom of every orbit out of the atoms that are too close, by half of what is lacking to
    each, and the others follow by symmetry. Where the limits cannot be kept, what is left is a compromise.

    Parameters
    ----------
    lattices
        Lattice vectors as rows, A, shape (n, 3, 3).
    coordinates
        Changed: coordinates of the orbits, shape (n, orbits, 3).
    rotations, translations, orbits
        Atom i lies at ``rotations[i] @ coordinates[orbits[i]] + translations[i]`` (fractions of the cell); shapes
        (n, atoms, 3, 3), (n, atoms, 3) and (n, atoms).
    backs
        Pseudo-inverse of the rotation of the first atom of each orbit, at that atom, shape (n, atoms, 3, 3).
    limits
        Shortest contact of each two atoms, A, shape (atoms, atoms).
    rounds
        Largest number of rounds.
    """
    n, atoms = orbits.shape
    low, frac, move = np.zeros((3, 3)), np.empty((atoms, 3)), np.empty(3)
    for k in range(n):
        if not _triangle_of(lattices[k], low):
            continue
        thinnest = min(low[0, 0], low[1, 1], low[2, 2])
        for _ in range(rounds):
            worst = 0.0
            for i in range(atoms):
                o = orbits[k, i]
                for x in range(3):
                    value = translations[k, i, x]
                    for y in range(3):
                        value += rotations[k, i, x, y] * coordinates[k, o, y]
                    frac[i, x] = value
            for i in range(atoms):
                o = orbits[k, i]
                if i > 0 and orbits[k, i - 1] == o:
                    continue
                move[0], move[1], move[2] = 0.0, 0.0, 0.0  # in the frame of ``low``
                for j in range(atoms):
                    reach = limits[i, j]
                    if not reach < _MOST_IMAGES * thinnest:
                        continue
                    f0, f1, f2 = frac[j, 0] - frac[i, 0], frac[j, 1] - frac[i, 1], frac[j, 2] - frac[i, 2]
                    reach2 = reach * reach
                    for c in range(math.ceil(-reach / low[2, 2] - f2), math.floor(reach / low[2, 2] - f2) + 1):
                        z = (f2 + c) * low[2, 2]
                        half = math.sqrt(max(reach2 - z * z, 0.0)) / low[1, 1]
                        middle = f1 + (f2 + c) * low[2, 1] / low[1, 1]
                        for b in range(math.ceil(-half - middle), math.floor(half - middle) + 1):
                            y0 = (middle + b) * low[1, 1]
                            width = math.sqrt(max(reach2 - z * z - y0 * y0, 0.0)) / low[0, 0]
                            centre = f0 + ((f1 + b) * low[1, 0] + (f2 + c) * low[2, 0]) / low[0, 0]
                            for a in range(math.ceil(-width - centre), math.floor(width - centre) + 1):
                                x0 = (centre + a) * low[0, 0]
                                r = math.sqrt(x0 * x0 + y0 * y0 + z * z)
                                if r < 1e-6 or r >= reach:
                                    continue
                                lack = 0.5 * (reach - r) / r
                                move[0] -= lack * x0
                                move[1] -= lack * y0
                                move[2] -= lack * z
                                if i != j:
                                    worst = max(worst, (reach - r) / reach)
                size = math.sqrt(move[0] * move[0] + move[1] * move[1] + move[2] * move[2])
                if size > _LONGEST_PUSH:
                    for x in range(3):
                        move[x] *= _LONGEST_PUSH / size
                g2 = move[2] / low[2, 2]
                g1 = (move[1] - g2 * low[2, 1]) / low[1, 1]
                g0 = (move[0] - g2 * low[2, 0] - g1 * low[1, 0]) / low[0, 0]
                for x in range(3):
                    coordinates[k, o, x] += backs[k, i, x, 0] * g0 + backs[k, i, x, 1] * g1 + backs[k, i, x, 2] * g2
            if worst < _CLOSE_ENOUGH:
                break
