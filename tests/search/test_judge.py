"""The Metropolis rule, counters, melting and stop conditions."""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from fuse_flows.config import DuplicatesConfig, MoveName, SearchConfig, StopConfig
from fuse_flows.search.judge import Evaluation, judge, quantised, should_stop, start
from fuse_flows.search.propose import Proposal
from fuse_flows.search.state import SearchState, candidate_id

CONFIG = SearchConfig(
    formula="MgO",
    acceptance={"temperature": 0.05, "melt_threshold": 3, "max_temperature": 0.06},
    duplicates={"reject": True},
)


def evaluation(energy, step=0, index=0, n_atoms=2):
    outcome = "TOO_CLOSE" if energy is None else "CONVERGED"
    key = candidate_id(CONFIG.search_id, 0, step, index)
    return Evaluation(key, step, index, outcome, energy, n_atoms, {"energy": energy})


def begun(*energies, config=CONFIG):
    return start(config, [evaluation(energy, index=i) for i, energy in enumerate(energies)])


@dataclass(frozen=True)
class Single:
    """The verdict on a step with one proposal."""

    state: SearchState
    accepted: bool
    reason: str


def single(verdict):
    (accepted,), (reason,) = verdict.accepted, verdict.reasons
    return Single(verdict.state, accepted, reason)


def step_with(state, energy, config=CONFIG, **proposal):
    step = state.step + 1
    values = {"source": "move", "structure": None, "move": MoveName.SWAP_ATOMS} | proposal
    made = Proposal(candidate_id(CONFIG.search_id, 0, step, 0), 0, step, 0, **values)
    return single(judge(state, [(made, evaluation(energy, step))], config))


def test_walk_begins_at_the_lowest_success():
    state = begun(None, -1.0, -3.0, None, -2.0)
    assert state.current == state.best
    assert (state.best.energy_per_atom, state.best.index) == (-3.0, 2)
    assert state.current_structure == {"energy": -3.0}
    assert state.outcomes == {"TOO_CLOSE": 2, "CONVERGED": 3}
    assert (state.n_structures, state.step) == (5, 0)


def test_failures_never_win_whatever_their_size():
    state = begun(None, None)
    assert state.current is None
    assert state.best is None
    verdict = step_with(state, None)
    assert not verdict.accepted
    verdict = step_with(verdict.state, 12.5)
    assert verdict.accepted
    assert verdict.reason == "first success"
    assert verdict.state.best.energy_per_atom == 12.5


def test_downhill_is_accepted_and_resets_the_counters():
    state = begun(-1.0).model_copy(update={"since_best": 4, "since_downhill": 4, "temperature": 0.055, "melted": True})
    verdict = step_with(state, -1.5)
    after = verdict.state
    assert verdict.accepted
    assert (after.since_best, after.since_downhill, after.temperature, after.melted) == (0, 0, 0.05, False)
    assert after.current.energy_per_atom == after.best.energy_per_atom == -1.5
    assert after.current_structure == {"energy": -1.5}


def test_downhill_above_the_best_keeps_the_count_since_best():
    state = begun(-2.0)
    uphill = state.current.model_copy(update={"energy_per_atom": -1.0})
    state = state.model_copy(update={"current": uphill, "since_best": 4, "since_downhill": 4})
    after = step_with(state, -1.5).state
    assert (after.since_best, after.since_downhill) == (4, 0)
    assert (after.current.energy_per_atom, after.best.energy_per_atom) == (-1.5, -2.0)


@pytest.mark.parametrize("energy", [-1.0, -1.0 + 4e-6, -1.0 - 4e-6])
def test_equal_energy_is_rejected(energy):
    verdict = step_with(begun(-1.0), energy)
    assert not verdict.accepted
    assert verdict.reason == "equal energy"
    assert (verdict.state.since_best, verdict.state.since_downhill) == (1, 1)


def test_uphill_acceptance_follows_the_boltzmann_factor():
    rise, trials = 0.03, 4000
    accepted = 0
    for seed in range(trials):
        config = CONFIG.model_copy(update={"seed": seed})
        verdict = step_with(begun(-1.0, config=config), -1.0 + rise, config)
        accepted += verdict.accepted
        assert verdict.state.since_best == verdict.state.since_downhill == 1
        assert verdict.state.best.energy_per_atom == -1.0
    expected = math.exp(-rise / CONFIG.acceptance.temperature)
    assert accepted / trials == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / trials))


def test_melting_begins_at_the_threshold_and_heats_up_to_the_limit():
    state = begun(-1.0)
    temperatures = []
    for _ in range(12):
        state = step_with(state, None).state
        temperatures.append(state.temperature)
    assert temperatures[:2] == [0.05, 0.05]
    assert 0.05 < temperatures[2] <= 0.06
    assert temperatures == sorted(temperatures)
    assert temperatures[-1] == CONFIG.acceptance.max_temperature
    assert state.melted


def uphill_accepted(state, config=CONFIG):
    """The next step with a tiny rise, which any draw accepts."""
    verdict = step_with(state, state.current.energy_per_atom + 1e-5, config)
    assert verdict.reason == "uphill, accepted"
    return verdict.state


def test_uphill_acceptance_resets_no_counter():
    state = begun(-1.0).model_copy(update={"since_best": 7, "since_downhill": 1})
    after = uphill_accepted(state)
    assert (after.since_best, after.since_downhill) == (8, 2)
    assert (after.temperature, after.melted) == (0.05, False)
    assert after.current.energy_per_atom > after.best.energy_per_atom


def test_uphill_acceptance_neither_heats_nor_cools_while_melted():
    """Melting begins, and goes on, with rejections only; only a downhill step ends it."""
    state = begun(-1.0).model_copy(update={"since_downhill": 40})
    assert not uphill_accepted(state).melted
    hot = state.model_copy(update={"temperature": 0.055, "melted": True})
    after = uphill_accepted(hot)
    assert (after.temperature, after.melted, after.since_downhill) == (0.055, True, 41)
    melted = step_with(after, None).state
    assert melted.temperature > 0.055
    cooled = step_with(melted, melted.current.energy_per_atom - 1e-5).state
    assert (cooled.temperature, cooled.melted, cooled.since_downhill) == (0.05, False, 0)
    # back at the lowest energy, but not below it
    assert cooled.since_best == melted.since_best


@pytest.mark.parametrize("energy", [None, -1.0, 5.0])
def test_every_kind_of_rejection_heats_past_the_threshold(energy):
    state = begun(-1.0).model_copy(update={"since_downhill": 2})
    verdict = step_with(state, energy)
    assert not verdict.accepted
    assert verdict.state.melted
    assert 0.05 < verdict.state.temperature < 0.06


def test_melting_heats_by_uniform_draws():
    config = CONFIG.model_copy(
        update={"acceptance": CONFIG.acceptance.model_copy(update={"max_temperature": 99.0, "melt_threshold": 1})}
    )
    state, rises = begun(-1.0, config=config), []
    for _ in range(600):
        after = step_with(state, None, config).state
        rises.append(after.temperature - state.temperature)
        state = after
    assert 0 <= min(rises) < 0.001
    assert 0.009 < max(rises) < 0.01
    assert sum(rises) / len(rises) == pytest.approx(0.005, abs=0.0005)


def test_statistics_count_moves_failures_and_outcomes():
    failures = ((MoveName.NEW_CELL_SHAPE, "no other shape"), (MoveName.SWAP_SUBMODULES, "one block"))
    state = step_with(begun(-1.0), -2.0, failures=failures).state
    state = step_with(state, None, failures=failures[:1]).state
    assert (state.moves[MoveName.SWAP_ATOMS].proposed, state.moves[MoveName.SWAP_ATOMS].accepted) == (2, 1)
    assert state.moves[MoveName.NEW_CELL_SHAPE].failed == {"no other shape": 2}
    assert state.moves[MoveName.SWAP_SUBMODULES].failed == {"one block": 1}
    assert state.outcomes == {"CONVERGED": 2, "TOO_CLOSE": 1}


def test_stop_conditions():
    state = begun(-1.0, -2.0)
    stop = {"max_structures": 30, "patience": 10, "target_energy": -2.5}
    config = SearchConfig(formula="MgO", stop=stop)
    assert should_stop(state, config) is None
    assert should_stop(state.model_copy(update={"n_structures": 30}), config) == "max_structures reached"
    assert should_stop(state.model_copy(update={"since_best": 10}), config) == "patience exhausted"
    assert step_with(state, -2.6, config).state.stop_reason == "target_energy reached"


def test_wall_clock_counts_from_the_beginning_of_the_walk():
    began = datetime(2025, 3, 30, 1, tzinfo=UTC)
    config = SearchConfig(formula="MgO", stop={"wall_hours": 1.5})
    state = start(config, [evaluation(-1.0)], began=began)
    late, later = began + timedelta(hours=1.4), began + timedelta(hours=1.5)
    assert should_stop(state, config, late) is None
    assert should_stop(state, config, later) == "wall_hours reached"
    assert should_stop(state, config) is None
    assert should_stop(state, SearchConfig(formula="MgO"), later) is None
    after = step_with(state, -2.0, config).state
    assert after.began == began
    assert after.stop_reason is None
    assert SearchState.model_validate(after.model_dump(mode="json")) == after


def test_every_limit_ends_the_search_for_its_own_reason():
    stop = {"max_structures": 3, "patience": 3, "wall_hours": 1}
    config = SearchConfig(formula="MgO", stop=stop, generator={"initial_structures": 1})
    began = datetime(2025, 1, 1, tzinfo=UTC)
    state = start(config, [evaluation(-1.0)], began=began)
    assert step_with(step_with(state, -1.5, config).state, -1.7, config).state.stop_reason == "max_structures reached"
    longer = SearchConfig(formula="MgO", stop=stop | {"max_structures": 99}, generator={"initial_structures": 1})
    for _ in range(3):
        state = step_with(state, None, longer).state
    assert state.stop_reason == "patience exhausted"
    assert should_stop(state, longer, began + timedelta(hours=2)) == "patience exhausted"


def test_state_survives_json():
    state = step_with(begun(-1.0, None), -1.2, failures=((MoveName.NEW_CELL_SHAPE, "none"),)).state
    assert SearchState.model_validate_json(state.model_dump_json()) == state


@pytest.mark.parametrize(("energy", "precision", "expected"), [(-1.234567, 1e-5, -1.23457), (0.3, 0.25, 0.25)])
def test_energies_are_rounded_to_multiples(energy, precision, expected):
    assert quantised(energy, precision) == expected


def visit(state, energy, cluster=None, config=CONFIG):
    """Take a step whose candidate belongs to a cluster; None: it opens one."""
    step = state.step + 1
    made = Proposal(
        candidate_id(CONFIG.search_id, 0, step, 0), 0, step, 0, source="move", structure=None, move=MoveName.SWAP_ATOMS
    )
    found = evaluation(energy, step)
    return single(judge(state, [(made, replace(found, cluster_id=cluster or found.candidate_id))], config))


@pytest.mark.parametrize("energy", [-1.5, -1.0, -0.5])
def test_visited_minimum_is_no_change_whatever_its_energy(energy):
    state = begun(-2.0)
    uphill = state.current.model_copy(update={"energy_per_atom": -1.0})
    state = state.model_copy(update={"current": uphill, "since_best": 4, "since_downhill": 1})
    verdict = visit(state, energy, cluster="seen before")
    after = verdict.state
    assert (verdict.accepted, verdict.reason) == (False, "visited minimum")
    assert (after.current, after.current_structure, after.best) == (uphill, state.current_structure, state.best)
    assert (after.since_best, after.since_downhill, after.n_structures, after.step) == (5, 2, 2, 1)
    assert (after.moves[MoveName.SWAP_ATOMS].proposed, after.moves[MoveName.SWAP_ATOMS].accepted) == (1, 0)


def test_copies_are_judged_as_ever_unless_they_are_to_be_rejected():
    lenient = CONFIG.model_copy(update={"duplicates": DuplicatesConfig()})
    for energy in (-1.5, -1.0, -0.99):
        copy = visit(begun(-1.0), energy, cluster="seen before", config=lenient)
        assert copy == step_with(begun(-1.0), energy, lenient)


def test_new_minimum_is_judged_as_ever():
    for energy in (-1.5, -1.0, -0.99, None):
        assert visit(begun(-1.0), energy) == step_with(begun(-1.0), energy)


def test_lower_copy_refines_the_best_and_resets_nothing():
    state = begun(-1.0).model_copy(update={"since_best": 4, "since_downhill": 1})
    verdict = visit(state, -1.0004, cluster=state.best.candidate_id)
    after = verdict.state
    assert (verdict.accepted, verdict.reason) == (False, "visited minimum")
    assert (after.best.energy_per_atom, after.best.step) == (-1.0004, 1)
    assert after.current == state.current
    assert (after.since_best, after.since_downhill) == (5, 2)
    assert visit(after, -1.0002, cluster=state.best.candidate_id).state.best == after.best


def test_visited_minima_let_the_search_melt_and_end():
    state = begun(-1.0)
    config = CONFIG.model_copy(update={"stop": StopConfig(patience=4)})
    for _ in range(4):
        state = visit(state, -1.0, cluster=state.best.candidate_id, config=config).state
    assert state.melted
    assert state.stop_reason == "patience exhausted"
