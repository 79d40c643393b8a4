"""Moves of single atoms in an unchanged cell: moves 1, 2 and 5 of the FUSE2 paper, Section 2.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import MoveName
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.base import first_success

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import BlockStructure

_PERMUTED_ATOMS = 4
"""Smallest structure for which permuting all atoms is more than an exchange of two."""


def has_two_elements(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: species can only be exchanged between different elements."""
    return None if len(np.unique(structure.numbers)) > 1 else "only one element"


def has_atoms_to_permute(structure: BlockStructure, context: MoveContext) -> str | None:
    """Guard: two elements and at least four atoms."""
    return has_two_elements(structure, context) or ("too few atoms" if len(structure) < _PERMUTED_ATOMS else None)


def has_two_atoms(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: moving the only atom of a cell is a translation."""
    return None if len(structure) > 1 else "only one atom"


def swap_atoms(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 1: exchange two atoms of different elements.

    Parameters
    ----------
    structure
        The relaxed structure.
    context
        Surroundings.
    rng
        Source of randomness.

    Returns
    -------
    BlockStructure
        The new structure.

    Raises
    ------
    MoveFailed
        If there is one element only, or every exchange gives the parent.
    """
    if (reason := has_two_elements(structure, context)) is not None:
        raise MoveFailed(MoveName.SWAP_ATOMS, reason)

    def attempt() -> BlockStructure:
        numbers = structure.numbers.copy()
        one = int(rng.integers(len(numbers)))
        other = int(rng.choice(np.flatnonzero(numbers != numbers[one])))
        numbers[[one, other]] = numbers[[other, one]]
        return structure.with_atoms(numbers, structure.frac_coords)

    return first_success(MoveName.SWAP_ATOMS, structure, context, attempt)


def permute_all_atoms(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 5: distribute all atoms over the present positions at random.

    Parameters
    ----------
    structure
        The relaxed structure.
    context
        Surroundings.
    rng
        Source of randomness.

    Returns
    -------
    BlockStructure
        The new structure.

    Raises
    ------
    MoveFailed
        If there is one element only or fewer than four atoms, or every permutation tried gives the parent.
    """
    if (reason := has_atoms_to_permute(structure, context)) is not None:
        raise MoveFailed(MoveName.PERMUTE_ALL_ATOMS, reason)

    def attempt() -> BlockStructure:
        return structure.with_atoms(rng.permutation(structure.numbers), structure.frac_coords)

    return first_success(MoveName.PERMUTE_ALL_ATOMS, structure, context, attempt)


def atom_to_vacancy(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 2: put one atom of any element on a vacant point.

    Parameters
    ----------
    structure
        The relaxed structure.
    context
        ``config.moves`` holds the spacing of the points and their least distance from all atoms.
    rng
        Source of randomness.

    Returns
    -------
    BlockStructure
        The new structure.

    Raises
    ------
    MoveFailed
        If there is one atom only or no vacant point, or every attempt gives the parent.
    """
    if (reason := has_two_atoms(structure, context)) is not None:
        raise MoveFailed(MoveName.ATOM_TO_VACANCY, reason)
    moves = context.config.moves
    points = vacant_points(structure, spacing=moves.vacancy_grid, distance=moves.vacancy_distance)
    if not len(points):
        raise MoveFailed(MoveName.ATOM_TO_VACANCY, "no vacant point")

    def attempt() -> BlockStructure:
        coords = structure.frac_coords.copy()
        coords[int(rng.integers(len(coords)))] = points[int(rng.integers(len(points)))]
        return structure.with_atoms(structure.numbers, coords)

    return first_success(MoveName.ATOM_TO_VACANCY, structure, context, attempt)


def vacant_points(structure: BlockStructure, *, spacing: float, distance: float) -> NDArray[np.float64]:
    """List the points of a grid over the whole cell that are far from every atom and all its images.

    Parameters
    ----------
    structure
        The structure.
    spacing
        Largest spacing of the grid along each lattice vector, angstrom.
    distance
        Points closer to an atom than this are left out, angstrom.

    Returns
    -------
    numpy.ndarray
        Fractional coordinates in [0, 1), shape (n_points, 3).
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    counts = np.maximum(1, np.ceil(structure.lengths / spacing)).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in counts), indexing="ij"), axis=-1).reshape(-1, 3)
    lattice = np.array(structure.lattice)
    atoms, points = np.ascontiguousarray(structure.frac_coords @ lattice), np.ascontiguousarray(grid @ lattice)
    # atoms as centres: there are far fewer of them than points
    _, near, _, _ = find_points_in_spheres(points, atoms, distance, np.ones(3, dtype=np.int64), lattice)
    free = np.ones(len(grid), dtype=bool)
    free[near] = False
    return np.asarray(grid[free])
