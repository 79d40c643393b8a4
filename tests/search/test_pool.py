"""The pool in the engine: who comes first, who is drawn later, and that nobody is drawn twice."""

from collections import Counter

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import MoveName, SearchConfig
from fuse_flows.generators.pool import PoolMember
from fuse_flows.search.judge import Evaluation, judge, start
from fuse_flows.search.pool import PoolDraw, no_pool
from fuse_flows.search.propose import propose, propose_initial

FRESH = {MoveName.NEW_STRUCTURE_CURRENT_SIZE: 1, MoveName.NEW_STRUCTURE_MAXIMUM_SIZE: 1}


def member(number, repeat=1):
    structure = Structure(Lattice.cubic(2.6 + number / 10), ["Mg", "O"], [[0, 0, 0], [0.5] * 3]) * (repeat, 1, 1)
    return PoolMember.from_structure(f"{number}.cif", structure)


MEMBERS = [member(0), member(1), member(2, 3), member(3), member(4, 4)]


def pool():
    return MEMBERS


def config(**changes):
    return SearchConfig(formula="MgO", max_atoms=8, moves={"weights": FRESH}, **changes)


def state_at(search, *used, n_atoms=2):
    structure = member(9, n_atoms // 2).to_structure()
    state = start(search, [Evaluation("parent", 0, 0, "CONVERGED", -6.0, n_atoms, structure.as_dict())])
    return state.model_copy(update={"used_pool_members": list(used)})


def walk(search, state, steps):
    """Take steps whose relaxations give nothing new; return the proposals and the last state."""
    proposals = []
    for _ in range(steps):
        (made,) = propose(state, search, pool)
        proposals.append(made)
        state = judge(state, [(made, Evaluation(made.candidate_id, made.step, 0, "EXPLODED"))], search).state
    return proposals, state


def test_first_population_is_the_pool_in_order_then_the_assembler():
    search = config(rattle=0)
    proposals = [propose_initial(search, index, pool=pool) for index in range(7)]
    assert [p.source for p in proposals] == ["file"] * 5 + ["random"] * 2
    assert [p.pool_member for p in proposals] == [0, 1, 2, 3, 4, None, None]
    assert [p.origin for p in proposals[:5]] == [m.name for m in MEMBERS]
    for proposal, taken in zip(proposals, MEMBERS, strict=False):
        assert np.allclose(proposal.structure.lattice.matrix, taken.to_structure().lattice.matrix)
    assert proposals[6] == propose_initial(search, 6)


def test_members_are_rattled_like_everything_else():
    proposal = propose_initial(config(rattle=0.05), 0, pool=pool)
    assert not np.allclose(proposal.structure.frac_coords, MEMBERS[0].frac_coords, atol=1e-4)
    assert proposal == propose_initial(config(rattle=0.05), 0, pool=pool)


def test_population_marks_the_members_it_used():
    search = config()
    population = [Evaluation(str(i), 0, i, "CONVERGED", -1.0, 2, {}, pool_member=i) for i in (2, 0, 1)]
    assert start(search, [*population, Evaluation("x", 0, 3, "CONVERGED", -1.0, 2, {})]).used_pool_members == [0, 1, 2]


def test_each_member_is_drawn_once_and_then_the_assembler_goes_on():
    search = config()
    proposals, state = walk(search, state_at(search, 0, n_atoms=8), 40)
    drawn = [p.pool_member for p in proposals if p.source == "file"]
    assert sorted(drawn) == [1, 2, 3, 4]
    assert state.used_pool_members == [0, *drawn]
    assert all(p.source == "move" and p.origin is None for p in proposals[-5:])
    for proposal in proposals:
        assert proposal.move in FRESH
        assert proposal.parent_id == "parent"
        if proposal.source == "file":
            assert proposal.origin == MEMBERS[proposal.pool_member].name
    assert sum(statistics.proposed for statistics in state.moves.values()) == 40


def test_move_13_draws_no_member_larger_than_the_current_structure():
    search = SearchConfig(formula="MgO", max_atoms=8, moves={"weights": {MoveName.NEW_STRUCTURE_CURRENT_SIZE: 1}})
    proposals, state = walk(search, state_at(search, n_atoms=2), 30)
    assert set(state.used_pool_members) == {0, 1, 3}
    assert all(len(p.structure) == 2 for p in proposals)


def test_other_moves_leave_the_pool_alone():
    search = SearchConfig(
        formula="MgO", max_atoms=8, moves={"weights": {MoveName.SWAP_ATOMS: 1, MoveName.DOUBLE_CELL: 1}}
    )
    state = state_at(search, n_atoms=4)

    def unread():
        raise AssertionError("the pool was read")

    for step in range(10):
        at = state.model_copy(update={"step": step})
        assert propose(at, search, unread) == propose(at, search)


def test_an_empty_or_used_up_pool_changes_nothing():
    search = config()
    for step in range(10):
        alone = propose(state_at(search).model_copy(update={"step": step}), search)
        used = state_at(search, 0, 1, 2, 3, 4).model_copy(update={"step": step})
        assert propose(used, search, pool) == propose(used, search, no_pool) == alone


def test_without_any_success_the_pool_goes_on_too():
    search = config()
    state = start(search, [Evaluation("bad", 0, 0, "TOO_CLOSE", pool_member=0)])
    proposals, state = walk(search, state, 30)
    assert {p.source for p in proposals} == {"file", "random"}
    assert sorted(state.used_pool_members) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["uniform", "ranked"])
def test_chance_is_even_between_pool_and_assembler(how):
    draw = PoolDraw(pool, frozenset({1}), how)
    drawn = [draw.draw(np.random.default_rng(seed)) for seed in range(2000)]
    counts = Counter(None if d is None else d.index for d in drawn)
    assert counts[None] == pytest.approx(1000, abs=120)
    if how == "ranked":
        assert set(counts) == {None, 0}
    else:
        assert set(counts) == {None, 0, 2, 3, 4}
        assert all(counts[i] == pytest.approx(250, abs=75) for i in (0, 2, 3, 4))


def test_toss_is_left_out_when_nothing_can_be_drawn():
    rng, untouched = np.random.default_rng(1), np.random.default_rng(1)
    assert PoolDraw(pool, frozenset(range(5)), "uniform").draw(rng) is None
    assert PoolDraw(pool, frozenset({0, 1, 3}), "uniform").draw(rng, largest=4) is None
    assert PoolDraw(pool, frozenset(), "uniform").for_move(MoveName.SWAP_ATOMS, 8, rng) is None
    assert rng.random() == untouched.random()
