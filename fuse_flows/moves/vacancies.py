"""Moves of atoms to vacant points of an unchanged cell: moves 2, 4 and 6 of the FUSE2 paper, Section 2.2.

Vacant points lie on a grid over the whole cell, far from every atom; atoms that one move puts there also keep their
distance from each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import MoveName
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.base import first_success

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import BlockStructure


def has_two_atoms(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: moving the only atom of a cell is a translation."""
    return None if len(structure) > 1 else "only one atom"


def has_four_atoms(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: three atoms to permute and one that stays; of one element is enough, as the vacancies are the other."""
    return None if len(structure) > 3 else "too few atoms"


def has_three_atoms(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: three atoms to permute."""
    return None if len(structure) > 2 else "too few atoms"


def clearance(context: MoveContext) -> float:
    """Return how far vacant points lie from atoms, angstrom: never less than the shortest contact allowed."""
    return max(context.config.moves.vacancy_distance, context.config.checks.min_distance)


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
        If there is no vacant point, or every attempt gives the parent.
    """
    moves = context.config.moves
    points = vacant_points(structure, spacing=moves.vacancy_grid, distance=clearance(context))
    if not len(points):
        raise MoveFailed(MoveName.ATOM_TO_VACANCY, "no vacant point")

    def attempt() -> BlockStructure:
        coords = structure.frac_coords.copy()
        coords[int(rng.integers(len(coords)))] = points[int(rng.integers(len(points)))]
        return structure.with_atoms(structure.numbers, coords)

    return first_success(MoveName.ATOM_TO_VACANCY, structure, context, attempt)


def permute_atoms_and_vacancies(
    structure: BlockStructure, context: MoveContext, rng: np.random.Generator
) -> BlockStructure:
    """Move 4: permute at least three atoms, but not all of them, with vacancies.

    The number of atoms is uniform between three and one less than all; see :func:`permute_all_atoms_and_vacancies`.

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
        The new structure, in the cell of the old one.

    Raises
    ------
    MoveFailed
        If there is no vacant point, or every attempt gives the parent.
    """

    def some() -> NDArray[np.int64]:
        return rng.choice(len(structure), size=int(rng.integers(3, len(structure))), replace=False)

    return _permuted(MoveName.PERMUTE_ATOMS_AND_VACANCIES, structure, context, rng, some)


def permute_all_atoms_and_vacancies(
    structure: BlockStructure, context: MoveContext, rng: np.random.Generator
) -> BlockStructure:
    """Move 6: distribute all atoms over their positions and vacant points at random.

    Each atom goes to a vacant point with a chance of one half, at least one does, and no more than there is room for.
    The others are distributed over the positions of all, so that vacated positions become vacancies anywhere.

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
        The new structure, in the cell of the old one.

    Raises
    ------
    MoveFailed
        If there is no vacant point, or every attempt gives the parent.
    """
    everyone = np.arange(len(structure))
    return _permuted(MoveName.PERMUTE_ALL_ATOMS_AND_VACANCIES, structure, context, rng, lambda: everyone)


def _permuted(
    name: MoveName,
    structure: BlockStructure,
    context: MoveContext,
    rng: np.random.Generator,
    pick: Callable[[], NDArray[np.int64]],
) -> BlockStructure:
    """Permute the atoms that ``pick`` draws with each other and with vacancies."""
    moves = context.config.moves
    points = vacant_points(structure, spacing=moves.vacancy_grid, distance=clearance(context))
    if not len(points):
        raise MoveFailed(name, "no vacant point")

    def attempt() -> BlockStructure:
        picked = pick()
        wanted = max(1, int(rng.binomial(len(picked), 0.5)))
        vacancies = separate_points(points, structure, count=wanted, distance=clearance(context), rng=rng)
        kept = rng.choice(picked, size=len(picked) - len(vacancies), replace=False)
        coords = structure.frac_coords.copy()
        coords[picked] = rng.permutation(np.concatenate([structure.frac_coords[kept], vacancies]))
        return structure.with_atoms(structure.numbers, coords)

    return first_success(name, structure, context, attempt)


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


def separate_points(
    points: NDArray[np.float64],
    structure: BlockStructure,
    *,
    count: int,
    distance: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw points that are far from each other and all images of each other.

    Parameters
    ----------
    points
        Fractional coordinates to draw from, shape (n_points, 3).
    structure
        Gives the cell.
    count
        How many are wanted.
    distance
        Two points are never closer than this, angstrom.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        Shape (n, 3), n <= count: fewer if there is no room for more. At least one if there are points at all.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice, pbc = np.array(structure.lattice), np.ones(3, dtype=np.int64)
    shuffled = rng.permutation(points)
    positions, left = shuffled @ lattice, np.arange(len(points))
    chosen: list[int] = []
    while len(left) and len(chosen) < count:
        chosen.append(int(left[0]))
        _, near, _, _ = find_points_in_spheres(positions[left], positions[left[:1]], distance, pbc, lattice)
        left = np.delete(left, near)
    return np.asarray(shuffled[np.array(chosen, dtype=np.int64)])
