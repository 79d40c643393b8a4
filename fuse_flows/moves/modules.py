"""Moves of sub-modules and modules: moves 7, 8 and 9 of the FUSE2 paper, Section 2.2.

Sub-modules are cut from the relaxed structure and keep its block vectors, unless the shape of the cell is what changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import MoveName
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.base import first_success
from fuse_flows.moves.repair import with_open_contacts, with_open_joins
from fuse_flows.structures.blocks import Block, BlockStructure
from fuse_flows.structures.lattices import angle_factor, cell_vectors, draw_angles, shapes_with

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import Grid
    from fuse_flows.structures.lattices import Angles, LatticeSystem

_SAME_ANGLE = 5.0
"""Angles closer than this (degrees) do not make another shape."""


def has_two_blocks(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: two sub-modules are needed for an exchange."""
    return None if structure.n_blocks > 1 else "only one sub-module"


def has_three_modules(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: exchanging the only two modules is a translation."""
    return None if structure.grid[2] > 2 else "fewer than three modules"


def has_shape(structure: BlockStructure, context: MoveContext) -> str | None:
    """Guard: there is a shape with this number of sub-modules."""
    return None if _shapes(structure, context) else "no cell shape"


def swap_submodules(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 7: exchange two sub-modules.

    If both hold atoms, they are shifted such that the atoms next to the origins of the blocks exchange places.

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
        The new structure; scaled up if contacts would else be too short.

    Raises
    ------
    MoveFailed
        If no attempt gives another structure that passes the checks.
    """
    blocks, vectors = structure.blocks(), structure.block_vectors

    def attempt() -> BlockStructure | str:
        one, other = (int(i) for i in rng.choice(len(blocks), size=2, replace=False))
        first, second = blocks[one], blocks[other]
        if len(first) and len(second):
            shift = _reference(second, vectors) - _reference(first, vectors)
            first, second = first.shifted(shift), second.shifted(-shift)
        swapped = list(blocks)
        swapped[one], swapped[other] = second, first
        moved = BlockStructure.from_blocks(structure.lattice, structure.grid, swapped)
        return with_open_contacts(moved, context)

    return first_success(MoveName.SWAP_SUBMODULES, structure, context, attempt)


def _reference(block: Block, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the position (3,) of the atom next to the origin of its block, in units of the block vectors."""
    position: NDArray[np.float64] = block.frac_coords[np.linalg.norm(block.frac_coords @ vectors, axis=1).argmin()]
    return position


def swap_modules(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 8: exchange two modules, which are whole layers of sub-modules.

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
        The new structure; modules are moved apart where contacts would else be too short.

    Raises
    ------
    MoveFailed
        If no attempt gives another structure that passes the checks.
    """
    blocks, (nx, ny, nz) = structure.blocks(), structure.grid

    def attempt() -> BlockStructure | str:
        one, other = rng.choice(nz, size=2, replace=False)
        order = np.arange(nz)
        order[[one, other]] = other, one
        swapped = [blocks[i] for i in np.arange(nx * ny * nz).reshape(nz, nx * ny)[order].ravel()]
        moved = BlockStructure.from_blocks(structure.lattice, structure.grid, swapped)
        return with_open_joins(moved, context, axis=2, slabs=nz)

    return first_success(MoveName.SWAP_MODULES, structure, context, attempt)


def new_cell_shape(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 9: lay the same sub-modules out in a cell of another shape.

    The new sub-modules are e x e x e/2 at the angles of the new shape, with e such that they have the volume of the
    old ones.

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
        The new structure; scaled up if contacts would else be too short.

    Raises
    ------
    MoveFailed
        If there is no other shape, or no attempt gives a structure that passes the checks.
    """
    shapes = _shapes(structure, context)
    if not shapes:
        raise MoveFailed(MoveName.NEW_CELL_SHAPE, "no cell shape")
    blocks = structure.blocks()
    volume = structure.volume / structure.n_blocks

    def attempt() -> BlockStructure | str:
        system, grid = shapes[int(rng.integers(len(shapes)))]
        angles = draw_angles(system, rng)
        if _is_shape_of(structure, grid, angles):
            return "no other shape drawn"
        edge = (2 * volume / angle_factor(angles)) ** (1 / 3)
        lattice = cell_vectors((grid[0] * edge, grid[1] * edge, grid[2] * edge / 2), angles)
        return with_open_contacts(BlockStructure.from_blocks(lattice, grid, blocks), context)

    return first_success(MoveName.NEW_CELL_SHAPE, structure, context, attempt)


def _shapes(structure: BlockStructure, context: MoveContext) -> tuple[tuple[LatticeSystem, Grid], ...]:
    """List the allowed shapes with as many sub-modules as a structure has."""
    generator = context.config.generator
    return shapes_with(structure.n_blocks, generator.max_axis, generator.max_aspect)


def _is_shape_of(structure: BlockStructure, grid: Grid, angles: Angles) -> bool:
    """Tell whether a structure has this grid and, within a few degrees, these angles."""
    return structure.grid == grid and bool(np.abs(np.subtract(structure.angles, angles)).max() < _SAME_ANGLE)
