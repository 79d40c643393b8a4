"""What all moves share: their surroundings, their signature, and a bounded number of attempts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from fuse_flows.errors import MoveFailed
from fuse_flows.moves.repair import MAX_GROWTH
from fuse_flows.structures.comparison import same_arrangement
from fuse_flows.structures.composition import CompositionError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from fuse_flows.config import MoveName, SearchConfig
    from fuse_flows.structures.blocks import BlockStructure
    from fuse_flows.structures.composition import FormulaUnit
    from fuse_flows.structures.volumes import VolumeWindow

SAME_AS_PARENT = "result is the parent"


@dataclass(frozen=True)
class MoveContext:
    """What the moves of one search have in common.

    Parameters
    ----------
    formula_unit
        What structures are made of.
    config
        The search.
    edge
        Edge I_p of a sub-module, angstrom.
    window
        Volumes per atom that a result may have, and the one that assembled structures are scaled to; None: any.
    """

    formula_unit: FormulaUnit
    config: SearchConfig
    edge: float
    window: VolumeWindow | None = None


class MoveFunction(Protocol):
    """A move: from one structure to another, all randomness from ``rng``; raises MoveFailed."""

    def __call__(self, structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
        """Return a new structure; raise MoveFailed if there is none."""
        ...


class Guard(Protocol):
    """A quick look at whether a move can be made at all: None, or the reason why not."""

    def __call__(self, structure: BlockStructure, context: MoveContext) -> str | None:
        """Return None if the move may be tried, else why not."""
        ...


def always(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - signature of a guard
    """Let every structure pass."""
    return None


@dataclass(frozen=True)
class Move:
    """One move of the search.

    Parameters
    ----------
    name
        Its name in the configuration.
    function
        What it does; called only where the guard lets the structure pass.
    guard
        Whether it can be made.
    """

    name: MoveName
    function: MoveFunction
    guard: Guard = always

    @property
    def number(self) -> int:
        """Number of the move in the FUSE2 paper, Section 2.2."""
        return self.name.number

    def apply(self, structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
        """Make the move.

        Parameters
        ----------
        structure
            The structure to start from, as it was relaxed; it is not changed.
        context
            Surroundings.
        rng
            Source of all randomness.

        Returns
        -------
        BlockStructure
            Whole formula units, at most ``max_atoms`` atoms, and not the structure it started from.

        Raises
        ------
        MoveFailed
            If the move cannot be made, or every attempt failed.
        """
        if not is_composed_of(structure, context):
            raise MoveFailed(self.name, "wrong composition of the parent")
        reason = self.guard(structure, context)
        if reason is not None:
            raise MoveFailed(self.name, reason)
        moved = self.function(structure, _with_room_for(structure, context), rng)
        if not is_composed_of(moved, context) or len(moved) > context.config.max_atoms:
            raise MoveFailed(self.name, "wrong composition of the result")
        return moved


def _with_room_for(structure: BlockStructure, context: MoveContext) -> MoveContext:
    """Open the window for a parent that lies out of it, and for what the repair of contacts makes of it."""
    if context.window is None:
        return context
    volume = structure.volume / len(structure)
    return replace(context, window=context.window.including(volume).including(MAX_GROWTH * volume))


def is_composed_of(structure: BlockStructure, context: MoveContext) -> bool:
    """Tell whether a structure holds a whole number of formula units."""
    try:
        context.formula_unit.count_in(structure.numbers)
    except CompositionError:
        return False
    return True


def first_success(
    name: MoveName,
    parent: BlockStructure,
    context: MoveContext,
    attempt: Callable[[], BlockStructure | str],
) -> BlockStructure:
    """Try until there is a structure that is not the parent.

    Parameters
    ----------
    name
        The move.
    parent
        The structure it started from.
    context
        ``config.moves.attempts`` bounds the number of tries.
    attempt
        One try: a structure, or the reason why there is none.

    Returns
    -------
    BlockStructure
        The first success.

    Raises
    ------
    MoveFailed
        After the last try, with the most frequent reason.
    """
    reasons: Counter[str] = Counter()
    for _ in range(context.config.moves.attempts):
        result = attempt()
        if not isinstance(result, str):
            if not same_arrangement(parent, result):
                return result
            result = SAME_AS_PARENT
        reasons[result] += 1
    raise MoveFailed(name, reasons.most_common(1)[0][0])
