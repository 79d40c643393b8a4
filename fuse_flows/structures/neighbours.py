"""Pairs of atoms in a crystal, periodic images included, and the shortest distance among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_DENSEST_PACKING = 2 ** (1 / 6)
"""No arrangement of points has a shortest distance above this times the cube root of the volume per point (Kepler)."""

LEAST_SPACING = 0.05
"""Cells thinner than this (angstrom, between opposite faces) are degenerate."""


def neighbour_pairs(
    lattice: ArrayLike, frac_coords: ArrayLike, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """List all pairs of atoms within a distance, periodic images of every cell and of the atom itself included.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, shape (3, 3), angstrom.
    frac_coords
        Fractional coordinates, shape (N, 3).
    cutoff
        Largest distance, angstrom.

    Returns
    -------
    first, second, distance
        Indices and distances (angstrom) of the pairs, shape (n_pairs,); each pair appears from both sides, and atoms
        that coincide appear with distance 0.
    """
    first, second, _, distance = neighbour_vectors(lattice, frac_coords, cutoff)
    return first, second, distance


def neighbour_vectors(
    lattice: ArrayLike, frac_coords: ArrayLike, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """List the same pairs with the vectors between them.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, shape (3, 3), angstrom.
    frac_coords
        Fractional coordinates, shape (N, 3).
    cutoff
        Largest distance, angstrom.

    Returns
    -------
    first, second, vectors, distance
        As :func:`neighbour_pairs`; the vectors (angstrom) lead from the first atom to the second, shape (n_pairs, 3).
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cell = np.array(lattice, dtype=np.float64, order="C")  # a strained lattice of pymatgen is a transposed view
    coords = np.asarray(frac_coords, dtype=np.float64)
    points = np.ascontiguousarray((coords - np.floor(coords)) @ cell)
    first, second, offsets, distance = find_points_in_spheres(
        points, points, float(cutoff), np.ones(3, dtype=np.int64), cell
    )
    other = (first != second) | offsets.any(axis=1)
    first, second = first[other], second[other]
    return first, second, points[second] - points[first] + offsets[other] @ cell, distance[other]


def shortest_distance(lattice: ArrayLike, frac_coords: ArrayLike) -> float:
    """Return the shortest distance between any two atoms, images of the same atom included.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, shape (3, 3), angstrom.
    frac_coords
        Fractional coordinates, shape (N, 3).

    Returns
    -------
    float
        In angstrom; 0 for coincident atoms and for a cell without volume.
    """
    vectors = np.asarray(lattice, dtype=np.float64)
    if thinnest_spacing(vectors) < LEAST_SPACING:
        return 0.0
    n_atoms = len(np.asarray(frac_coords))
    bound = min(longest_possible(abs(np.linalg.det(vectors)), n_atoms), np.linalg.norm(vectors, axis=1).min())
    return float(neighbour_pairs(vectors, frac_coords, bound * (1 + 1e-6))[2].min())


def longest_possible(volume: float, n_atoms: int) -> float:
    """Return the shortest distance that so many atoms have in the densest packing of spheres, angstrom.

    Parameters
    ----------
    volume
        Volume of the cell, A^3.
    n_atoms
        Atoms in it.
    """
    return float(_DENSEST_PACKING * (volume / n_atoms) ** (1 / 3))


def thinnest_spacing(lattice: NDArray[np.float64]) -> float:
    """Return the smallest distance between opposite faces of a cell, angstrom; 0 if it has no volume.

    Parameters
    ----------
    lattice
        Lattice vectors as rows, shape (3, 3), angstrom.
    """
    normals = np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]])
    areas = np.linalg.norm(normals, axis=1).max()
    return float(abs(np.linalg.det(lattice)) / areas) if areas > 0 else 0.0
