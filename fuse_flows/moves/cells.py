"""Moves that put two or three cells together: moves 11 and 12 of the FUSE2 paper, Section 2.2.

The cell is taken as a slab that goes on without end along two of its vectors, u and v, and copies of it are stacked
along the third, w. Each copy is an isometric image with the same u and v, so that all distances inside the slabs are
kept in any triclinic cell:

* repeat: the supercell;
* translate: the copy is shifted along u and v;
* invert: x -> 2p - x, an inversion at a point p of the joining face. It takes every lattice into itself;
* mirror: a reflection in the joining face. It takes u and v into themselves, but w into an image w' which is another
  vector unless w is normal to the face. The image of the crystal therefore has another lattice, and what fits on the
  slab is the slab of this lattice: the stack has the period w - w', along the normal, as in a polysynthetic twin. A
  reflection in fractional coordinates (w -> -w at constant u and v) would keep the period but shear the copy.

A slab is cut between two layers of atoms, never through one, so that no atom lies in a joining face, where the mirror
would put its image on top of it. Where atoms of neighbouring slabs come too close, the slabs are moved apart.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import MoveName
from fuse_flows.moves.base import first_success
from fuse_flows.moves.repair import with_checked_contacts, with_open_joins
from fuse_flows.structures.blocks import BlockStructure

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import Grid

    Stacking = Callable[[BlockStructure, int], BlockStructure]
    """From a structure and an axis to the stack, its slabs cut at the faces of the cell."""


def can_be_doubled(structure: BlockStructure, context: MoveContext) -> str | None:
    """Guard: two cells are not too large."""
    return None if 2 * len(structure) <= context.config.max_atoms else "too many atoms"


def can_be_tripled(structure: BlockStructure, context: MoveContext) -> str | None:
    """Guard: three cells are not too large."""
    return None if 3 * len(structure) <= context.config.max_atoms else "too many atoms"


def double_cell(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 11: double the cell along one axis; the second half is repeated, translated, inverted or mirrored.

    Axis and kind are drawn, and but for the repetition the height at which the slab is cut.

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
        The new structure, with twice the grid along the axis.

    Raises
    ------
    MoveFailed
        If no attempt gives a structure that passes the checks.
    """
    stackings = (partial(repeated, count=2), partial(translated, count=2), inverted, mirrored)
    return _stacked(MoveName.DOUBLE_CELL, structure, context, rng, stackings)


def triple_cell(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 12: triple the cell along one axis; the other thirds are repeated or translated; else as move 11."""
    stackings = (partial(repeated, count=3), partial(translated, count=3))
    return _stacked(MoveName.TRIPLE_CELL, structure, context, rng, stackings)


def _stacked(
    name: MoveName,
    structure: BlockStructure,
    context: MoveContext,
    rng: np.random.Generator,
    stackings: tuple[Stacking, ...],
) -> BlockStructure:
    """Try axes, kinds and cuts; the first of the kinds is the repetition."""

    def attempt() -> BlockStructure | str:
        axis, kind = int(rng.integers(3)), int(rng.integers(len(stackings)))
        if kind == 0:
            return with_checked_contacts(stackings[0](structure, axis), context)
        stack = stackings[kind](cut_between_layers(structure, axis, float(rng.random())), axis)
        return with_open_joins(stack, context, axis=axis, slabs=stack.grid[axis] // structure.grid[axis])

    return first_success(name, structure, context, attempt)


def cut_between_layers(structure: BlockStructure, axis: int, height: float) -> BlockStructure:
    """Shift the origin along one axis into the middle of the gap between two atoms.

    Parameters
    ----------
    structure
        The structure.
    axis
        Lattice vector.
    height
        Fractional coordinate that lies in the gap; if it is uniform in [0, 1), wide gaps are more likely.

    Returns
    -------
    BlockStructure
        The same crystal.
    """
    layers = np.unique(structure.frac_coords[:, axis])
    above = int(np.searchsorted(layers, height, side="right"))
    top = layers[above] if above < len(layers) else layers[0] + 1
    shift = np.zeros(3)
    shift[axis] = (layers[above - 1] - (above == 0) + top) / 2
    return structure.with_atoms(structure.numbers, structure.frac_coords - shift)


def repeated(structure: BlockStructure, axis: int, *, count: int) -> BlockStructure:
    """Stack ``count`` equal cells along an axis: a supercell."""
    return translated(structure, axis, count=count, shift=0.0)


def translated(structure: BlockStructure, axis: int, *, count: int, shift: float | None = None) -> BlockStructure:
    """Stack ``count`` cells, each shifted against the last by ``shift`` (None: 1 / count) of both other vectors."""
    step = np.full(3, 1 / count if shift is None else shift)
    step[axis] = 1.0
    return _stack(structure, structure.lattice, axis, [structure.frac_coords + n * step for n in range(count)])


def inverted(structure: BlockStructure, axis: int) -> BlockStructure:
    """Stack a cell and its inverted image; the inversion centre is a corner of the joining face."""
    centre = np.zeros(3)
    centre[axis] = 1.0
    return _stack(structure, structure.lattice, axis, [structure.frac_coords, 2 * centre - structure.frac_coords])


def mirrored(structure: BlockStructure, axis: int) -> BlockStructure:
    """Stack a cell and its image in the joining face; the period along the axis is normal to the face."""
    straight = structure.lattice.copy()
    normal = np.cross(straight[axis - 2], straight[axis - 1])
    straight[axis] = (straight[axis] @ normal) / (normal @ normal) * normal
    coords = structure.frac_coords @ structure.lattice @ np.linalg.inv(straight)
    coords[:, axis] = structure.frac_coords[:, axis]  # equal but for rounding
    image = coords.copy()
    image[:, axis] = 2 - image[:, axis]
    return _stack(structure, straight, axis, [coords, image])


def _stack(
    structure: BlockStructure, lattice: NDArray[np.float64], axis: int, slabs: list[NDArray[np.float64]]
) -> BlockStructure:
    """Put slabs, shape (N, 3) in fractional coordinates of one cell, into the cell that holds all of them."""
    times = np.ones(3)
    times[axis] = len(slabs)
    nx, ny, nz = (int(n) for n in np.array(structure.grid) * times)
    grid: Grid = (nx, ny, nz)
    numbers = np.tile(structure.numbers, len(slabs))
    return BlockStructure(lattice * times[:, None], numbers, np.concatenate(slabs) / times, grid)
