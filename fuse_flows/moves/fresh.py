"""Moves that start afresh from the random assembler: moves 13 and 14 of the FUSE2 paper, Section 2.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_flows.config import MoveName
from fuse_flows.errors import GenerationError, MoveFailed
from fuse_flows.structures.assembly import random_structure

if TYPE_CHECKING:
    import numpy as np

    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import BlockStructure


def new_structure_current_size(
    structure: BlockStructure, context: MoveContext, rng: np.random.Generator
) -> BlockStructure:
    """Move 13: a random structure of at most the present number of formula units.

    Parameters
    ----------
    structure
        The relaxed structure; only its size matters.
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
        If the assembler finds none.
    """
    units = context.formula_unit.count_in(structure.numbers)
    return _assembled(MoveName.NEW_STRUCTURE_CURRENT_SIZE, min(units, _most_units(context)), context, rng)


def new_structure_maximum_size(
    structure: BlockStructure,  # noqa: ARG001 - signature of a move
    context: MoveContext,
    rng: np.random.Generator,
) -> BlockStructure:
    """Move 14: a random structure of any allowed size; otherwise as move 13."""
    return _assembled(MoveName.NEW_STRUCTURE_MAXIMUM_SIZE, _most_units(context), context, rng)


def _most_units(context: MoveContext) -> int:
    """Return the number of formula units of the largest structure."""
    return context.config.max_atoms // context.formula_unit.n_atoms


def _assembled(name: MoveName, units: int, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Draw from the assembler."""
    try:
        return random_structure(
            context.formula_unit, max_formula_units=units, config=context.config, rng=rng, window=context.window
        )
    except GenerationError as error:
        raise MoveFailed(name, "no random structure found") from error
