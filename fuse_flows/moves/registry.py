"""The moves by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from fuse_flows.config import MoveName
from fuse_flows.moves import atoms, cells, fresh, modules, mutation, vacancies
from fuse_flows.moves.base import Move

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import BlockStructure

_ALL = (
    Move(MoveName.SWAP_ATOMS, atoms.swap_atoms, atoms.has_two_elements),
    Move(MoveName.ATOM_TO_VACANCY, vacancies.atom_to_vacancy, vacancies.has_two_atoms),
    Move(MoveName.PERMUTE_ATOMS, atoms.permute_atoms, atoms.has_atoms_to_permute),
    Move(MoveName.PERMUTE_ATOMS_AND_VACANCIES, vacancies.permute_atoms_and_vacancies, vacancies.has_four_atoms),
    Move(MoveName.PERMUTE_ALL_ATOMS, atoms.permute_all_atoms, atoms.has_atoms_to_permute),
    Move(
        MoveName.PERMUTE_ALL_ATOMS_AND_VACANCIES, vacancies.permute_all_atoms_and_vacancies, vacancies.has_three_atoms
    ),
    Move(MoveName.SWAP_SUBMODULES, modules.swap_submodules, modules.has_two_blocks),
    Move(MoveName.SWAP_MODULES, modules.swap_modules, modules.has_three_modules),
    Move(MoveName.NEW_CELL_SHAPE, modules.new_cell_shape, modules.has_shape),
    Move(MoveName.MUTATE_SUBMODULE, mutation.mutate_submodule, mutation.has_small_block),
    Move(MoveName.DOUBLE_CELL, cells.double_cell, cells.can_be_doubled),
    Move(MoveName.TRIPLE_CELL, cells.triple_cell, cells.can_be_tripled),
    Move(MoveName.NEW_STRUCTURE_CURRENT_SIZE, fresh.new_structure_current_size),
    Move(MoveName.NEW_STRUCTURE_MAXIMUM_SIZE, fresh.new_structure_maximum_size),
)

MOVES: Mapping[MoveName, Move] = MappingProxyType({move.name: move for move in _ALL})
"""Every move of :class:`fuse_flows.config.MoveName`."""


def apply_move(
    name: MoveName, structure: BlockStructure, context: MoveContext, rng: np.random.Generator
) -> BlockStructure:
    """Make a move by name.

    Parameters
    ----------
    name
        The move.
    structure
        The structure to start from, as it was relaxed.
    context
        Surroundings.
    rng
        Source of all randomness.

    Returns
    -------
    BlockStructure
        The new structure.

    Raises
    ------
    MoveFailed
        If the move cannot be made, or every attempt failed.
    """
    return MOVES[name].apply(structure, context, rng)
