from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from fuse_flows.config import MoveName, make_config
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.base import SAME_AS_PARENT, Move, MoveContext, first_success
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.composition import FormulaUnit

ROCKSALT = BlockStructure(np.eye(3) * 2.1 + 0.5, [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], (1, 1, 1))


def context_of(**values):
    config = make_config({"formula": "MgO", **values})
    return MoveContext(FormulaUnit.from_config(config), config, 4.68)


def test_attempts_are_counted_and_the_most_frequent_reason_is_reported():
    reasons = iter(["odd", "common", "common", SAME_AS_PARENT])
    tries = []

    def attempt():
        tries.append(1)
        reason = next(reasons)
        return ROCKSALT if reason == SAME_AS_PARENT else reason

    with pytest.raises(MoveFailed) as caught:
        first_success(MoveName.SWAP_ATOMS, ROCKSALT, context_of(moves={"attempts": 4}), attempt)
    assert len(tries) == 4
    assert (caught.value.move, caught.value.reason) == ("swap_atoms", "common")


def test_the_parent_itself_is_not_a_result():
    with pytest.raises(MoveFailed, match=SAME_AS_PARENT):
        first_success(MoveName.SWAP_ATOMS, ROCKSALT, context_of(), lambda: ROCKSALT)


def test_a_move_that_loses_atoms_is_caught():
    def lossy(structure, context, rng):  # noqa: ARG001 - signature of a move
        return BlockStructure(structure.lattice, [12], [[0, 0, 0]], structure.grid)

    with pytest.raises(MoveFailed, match="wrong composition of the result"):
        Move(MoveName.SWAP_ATOMS, lossy).apply(ROCKSALT, context_of(), np.random.default_rng(0))


def test_a_parent_of_another_composition_is_refused():
    other = BlockStructure(np.eye(3) * 4, [12, 12, 8], [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]], (1, 1, 1))
    move = Move(MoveName.SWAP_ATOMS, lambda structure, context, rng: structure)  # noqa: ARG005 - signature of a move
    with pytest.raises(MoveFailed, match="wrong composition of the parent"):
        move.apply(other, context_of(), np.random.default_rng(0))


def test_a_guard_speaks_before_the_move():
    def never(structure, context, rng):
        raise AssertionError((structure, context, rng))

    with pytest.raises(MoveFailed, match="not today"):
        Move(MoveName.SWAP_ATOMS, never, lambda structure, context: "not today").apply(  # noqa: ARG005 - a guard
            ROCKSALT, context_of(), np.random.default_rng(0)
        )


def test_the_context_is_frozen():
    with pytest.raises(FrozenInstanceError):
        context_of().edge = 1.0
