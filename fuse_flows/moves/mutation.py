"""The move that gives a sub-module one of the eight motifs: move 10 of the FUSE2 paper, Section 2.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import MoveName
from fuse_flows.moves.base import first_success
from fuse_flows.moves.repair import with_open_contacts
from fuse_flows.moves.vacancies import separate_points, vacant_points
from fuse_flows.structures.blocks import Block, BlockStructure
from fuse_flows.structures.motifs import MOTIFS, SITES_PER_BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.moves.base import MoveContext


def has_small_block(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: a sub-module holds atoms, but not more than there are sites."""
    return None if _small_blocks(structure.blocks()) else "no sub-module of one to four atoms"


def mutate_submodule(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 10: arrange the atoms of one sub-module as one of the eight motifs.

    The sub-module holds one to four atoms. With a chance of one half the motif has as many, otherwise it has fewer and
    the atoms without a site go to vacant points in other sub-modules.

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
        The new structure; atoms are pushed apart, or the cell scaled up, if contacts would else be too short.

    Raises
    ------
    MoveFailed
        If no attempt gives another structure that passes the checks.
    """
    blocks = structure.blocks()
    small = _small_blocks(blocks)

    def attempt() -> BlockStructure | str:
        place = small[int(rng.integers(len(small)))]
        numbers = rng.permutation(blocks[place].numbers)
        fewer = rng.random() < 0.5
        motifs = [m for m in MOTIFS if (m.n_atoms < len(numbers) if fewer else m.n_atoms == len(numbers))]
        positions = motifs[int(rng.integers(len(motifs)))].positions(rng)
        hosts = list(blocks)
        hosts[place] = Block(numbers[: len(positions)], positions)
        if not any(map(len, hosts)):
            return "no atom left in the cell"
        moved = BlockStructure.from_blocks(structure.lattice, structure.grid, hosts)
        guests = numbers[len(positions) :]
        if len(guests):
            points = _points_elsewhere(moved, place, len(guests), context, rng)
            if len(points) < len(guests):
                return "no vacant point"
            coords = np.concatenate([moved.frac_coords, points])
            moved = moved.with_atoms(np.concatenate([moved.numbers, guests]), coords)
        return with_open_contacts(moved, context)

    return first_success(MoveName.MUTATE_SUBMODULE, structure, context, attempt)


def _small_blocks(blocks: Sequence[Block]) -> list[int]:
    """List the blocks with one to four atoms."""
    return [i for i, block in enumerate(blocks) if 0 < len(block) <= SITES_PER_BLOCK]


def _points_elsewhere(
    structure: BlockStructure, place: int, count: int, context: MoveContext, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw up to ``count`` vacant points outside one sub-module, shape (n, 3)."""
    moves = context.config.moves
    points = vacant_points(structure, spacing=moves.vacancy_grid, distance=moves.vacancy_distance)
    points = points[structure.block_index(points) != place]
    return separate_points(points, structure, count=count, distance=moves.vacancy_distance, rng=rng)
