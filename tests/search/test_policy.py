"""Moves are drawn by weights, evenly, or with chances that are learnt by the exact policy gradient."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.config import MoveName, SearchConfig
from fuse_flows.search.judge import Evaluation, judge, start
from fuse_flows.search.policy import allowed_moves, learn, probabilities, softmax_gradient
from fuse_flows.search.policy_state import LARGEST, PolicyState, RunningStatistics
from fuse_flows.search.propose import Proposal, propose
from fuse_flows.search.state import SearchState

SWAP, DOUBLE, SHAPE = MoveName.SWAP_ATOMS, MoveName.DOUBLE_CELL, MoveName.NEW_CELL_SHAPE
FAILED = "TOO_CLOSE"
preferences = st.lists(st.floats(-4, 4), min_size=2, max_size=14).map(np.array)


def config(policy="reinforce", **changes):
    return SearchConfig(formula="MgO", move_policy=policy, stop={"patience": 10**6, "max_structures": 10**6}, **changes)


def evaluation(energy, step=0, index=0, cluster=None):
    outcome = FAILED if energy is None else "CONVERGED"
    return Evaluation(f"{step}-{index}", step, index, outcome, energy, 2, {"energy": energy}, cluster_id=cluster)


def begun(search, *energies):
    return start(search, [evaluation(energy, index=i) for i, energy in enumerate(energies)])


def proposed(move, step=1, index=0, failures=()):
    return Proposal(f"{step}-{index}", 0, step, index, "move", None, move=move, failures=failures)


def step_with(state, search, move, energy, cluster=None):
    step = state.step + 1
    return judge(state, [(proposed(move, step), evaluation(energy, step, cluster=cluster))], search).state


def chance(state, search, move):
    names = allowed_moves(state, search)
    return probabilities(state, search, names)[names.index(move)]


def rewarded(rate=0.1, **rules):
    """A search that learns from its first step on, and its state with a history of rewards of mean 0, deviation 1."""
    search = config(reinforce={"learning_rate": rate, "warmup": 2, **rules})
    state = begun(search, -1.0, -2.0, -3.0, -4.0)
    policy = state.policy.model_copy(update={"rewards": RunningStatistics(count=100, mean=0.0, variance=1.0)})
    return search, state.model_copy(update={"policy": policy})


def log_softmax(h):
    return h - h.max() - np.log(np.exp(h - h.max()).sum())


def entropy(h):
    return -(np.exp(log_softmax(h)) * log_softmax(h)).sum()


@settings(deadline=None, max_examples=60)
@given(h=preferences, data=st.data(), reward=st.floats(-5, 5), beta=st.floats(0, 2), threshold=st.sampled_from([0, 99]))
def test_gradient_is_the_derivative_of_log_softmax_and_entropy(h, data, reward, beta, threshold):
    drawn = data.draw(st.integers(0, len(h) - 1))

    def objective(point):
        return reward * log_softmax(point)[drawn] + (beta * entropy(point) if threshold else 0)

    steps = 1e-5 * np.eye(len(h))
    numerical = np.array([(objective(h + step) - objective(h - step)) / 2e-5 for step in steps])
    found = softmax_gradient(np.exp(log_softmax(h)), drawn, reward, beta=beta, entropy_threshold=threshold)
    assert found == pytest.approx(numerical, abs=1e-7)
    assert found.sum() == pytest.approx(0, abs=1e-12)


def test_step_follows_the_gradient_of_both_parameters():
    """The change of slope and offset is rate times reward times (delta - pi) times (z, c), for every move."""
    search, state = rewarded(rate=0.1, free_term=2.0)
    names = allowed_moves(state, search)
    deviation = np.std([-1, -2, -3, -4])
    scaled, reward = (-4.0 + 2.5) / deviation, 0.5 / deviation
    after = learn(state, [(proposed(SWAP), evaluation(-4.5, 1))], search)
    expected = reward * (np.eye(14)[names.index(SWAP)] - 1 / 14)
    assert [after.preferences[name] for name in names] == [
        pytest.approx((0.1 * e * scaled, 0.1 * e * 2.0)) for e in expected
    ]


@pytest.mark.parametrize("policy", ["uniform", "weights", "reinforce"])
def test_probabilities_add_up_to_one_without_the_moves_of_weight_zero(policy):
    search = config(policy, moves={"weights": {SWAP: 3, DOUBLE: 1, SHAPE: 0}, "melted_weights": {DOUBLE: 1, SHAPE: 1}})
    state = begun(search, -1.0, -2.0)
    assert allowed_moves(state, search) == [SWAP, SHAPE, DOUBLE][::2]
    assert probabilities(state, search, [SWAP, DOUBLE]).sum() == pytest.approx(1, abs=1e-15)
    assert probabilities(state, search, [DOUBLE]) == pytest.approx([1])
    assert probabilities(state, search, [SWAP, DOUBLE])[0] == (0.75 if policy == "weights" else 0.5)
    assert allowed_moves(state.model_copy(update={"melted": True}), search) == [SHAPE, DOUBLE]


def test_learnt_probabilities_mix_in_equal_chances_and_depend_on_the_energy():
    search = config(reinforce={"epsilon": 0.2})
    slopes = PolicyState(preferences={SWAP: (3.0, 0.0)}, energies=(-1.0, -2.0, -3.0))
    low, high = (begun(search, energy).model_copy(update={"policy": slopes}) for energy in (-3.0, -1.0))
    names = list(MoveName)
    for state in (low, high):
        found = probabilities(state, search, names)
        assert found.sum() == pytest.approx(1, abs=1e-14)
        assert found.min() >= 0.2 / 14
    assert chance(low, search, SWAP) < 1 / 14 < chance(high, search, SWAP)


def bandit(seed, steps=600, rate=0.05):
    """A search in which one move of fourteen finds lower energies and the others mostly fail."""
    search = config(seed=seed, reinforce={"learning_rate": rate})
    rng = np.random.default_rng(seed)
    state = begun(search, *(-5 + rng.normal(size=20)))
    for _ in range(steps):
        names = allowed_moves(state, search)
        move = names[rng.choice(len(names), p=probabilities(state, search, names))]
        good = rng.random() < (0.7 if move == SWAP else 0.1)
        change = -rng.exponential(0.02) if good else rng.exponential(0.3)
        energy = state.current.energy_per_atom + change
        state = step_with(state, search, move, None if not good and rng.random() < 0.5 else energy)
    return search, state


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_better_move_is_learnt(seed):
    search, state = bandit(seed)
    assert chance(state, search, SWAP) > 3 / 14
    assert chance(state, search, SWAP) == max(probabilities(state, search, list(MoveName)))


def test_learning_is_deterministic():
    assert bandit(5, steps=60) == bandit(5, steps=60)
    assert bandit(5, steps=60)[1].policy != bandit(6, steps=60)[1].policy


def test_state_is_small_and_survives_json_after_2000_steps():
    search, state = bandit(7, steps=2000, rate=0.01)
    dumped = state.policy.model_dump_json()
    assert len(dumped) < 5000
    assert len(state.policy.energies) == search.reinforce.energy_window
    assert SearchState.model_validate_json(state.model_dump_json()) == state
    again = SearchState.model_validate(state.model_dump(mode="json"))
    assert step_with(again, search, SWAP, -70.0) == step_with(state, search, SWAP, -70.0)


def test_without_a_parent_nothing_is_learnt_but_the_energy():
    search = config(reinforce={"warmup": 2})
    state = begun(search, None, None)
    assert state.policy == PolicyState()
    failed = learn(state, [(proposed(SWAP), evaluation(None, 1))], search)
    assert (failed.rewards.count, failed.energies) == (0, ())
    after = step_with(state, search, None, -3.0)
    assert (after.policy.rewards.count, after.policy.energies) == (0, (-3.0,))
    assert set(after.policy.preferences.values()) <= {(0.0, 0.0)}
    assert probabilities(after, search, list(MoveName)) == pytest.approx(np.full(14, 1 / 14))


def test_first_population_seeds_the_statistics_in_any_order():
    search = config()
    members = [evaluation(energy, index=i) for i, energy in enumerate([-1.0, None, -3.0, -1.0000001, 2.0])]
    assert start(search, members).policy.energies == (-1.0, -3.0, 2.0)
    assert start(search, members[::-1]).policy == start(search, members).policy
    assert start(config("weights"), members).policy is None


@pytest.mark.parametrize(
    ("energy", "cluster"),
    [(None, None), (-4.0, None), (-4.000004, None), (-3.0, None), (-4.7, "seen before")],
    ids=["failed", "no change", "rounded", "seen", "copy"],
)
def test_failures_and_visited_energies_are_punished_alike(energy, cluster):
    search, state = rewarded()
    after = step_with(state, search, SWAP, energy, cluster)
    expected = np.clip((-4.0 - -1.0) / np.std([-1, -2, -3, -4]), -LARGEST, LARGEST)
    assert after.policy.rewards.mean == pytest.approx(expected / 101)
    assert after.policy.energies == state.policy.energies
    assert chance(after, search, SWAP) != chance(state, search, SWAP)


def test_failure_never_gains():
    """Also where the walker stands above the highest tenth."""
    search, state = rewarded()
    policy = state.policy.model_copy(update={"energies": (-9.0, -8.0)})
    after = learn(state.model_copy(update={"policy": policy}), [(proposed(SWAP), evaluation(None, 1))], search)
    assert after.rewards.mean == 0


def test_moves_that_failed_before_are_no_choice():
    search, state = rewarded()
    failures = ((DOUBLE, "too large"), (SHAPE, "visited minimum"))
    after = learn(state, [(proposed(SWAP, failures=failures), evaluation(-5.0, 1))], search)
    assert after.preferences[DOUBLE] == (0, 0)
    assert after.preferences[SWAP][1] > 0 > after.preferences[SHAPE][1]
    assert sum(offset for _, offset in after.preferences.values()) == pytest.approx(0)


def test_proposals_of_one_step_are_learnt_from_together_in_any_order():
    search, state = rewarded()
    results = [
        (proposed(move, index=i), evaluation(energy, 1, i))
        for i, (move, energy) in enumerate([(SWAP, -5.0), (DOUBLE, None), (SHAPE, -5.0)])
    ]
    together = learn(state, results, search)
    assert learn(state, results[::-1], search) == together
    singly = [learn(state, [result], search) for result in results[:2]]
    singly += [learn(state, [(results[2][0], evaluation(None, 1, 2))], search)]  # -5.0 was seen in this very step
    for name in MoveName:
        assert together.preferences[name] == pytest.approx(np.sum([one.preferences[name] for one in singly], axis=0))
    assert together.energies == (*state.policy.energies, -5.0)
    assert together.rewards.count == 103


def test_nothing_is_learnt_before_enough_rewards_are_known():
    search = config(reinforce={"warmup": 4})
    states = [begun(search, -1.0, -2.0, -3.0)]
    for k in range(6):
        states.append(step_with(states[-1], search, SWAP, -3.5 - k))
    learnt = [any(any(pair) for pair in state.policy.preferences.values()) for state in states]
    assert learnt == [False] * 5 + [True] * 2


def test_learning_goes_on_while_melted_and_the_policy_draws():
    search, state = rewarded()
    molten = state.model_copy(update={"melted": True})
    after = step_with(molten, search, SWAP, -3.9)
    assert after.policy.preferences == step_with(state, search, SWAP, -3.9).policy.preferences
    assert chance(after, search, SWAP) != pytest.approx(1 / 14, abs=1e-12)


def test_odd_energies_upset_nothing():
    search, state = rewarded(rate=1.0)
    for energy in (-1e6, None, 1e9, -1e6 - 1, -1e6 - 2, None):
        state = step_with(state, search, SWAP, energy)
        found = probabilities(state, search, list(MoveName))
        assert np.isfinite(found).all()
        assert found.sum() == pytest.approx(1)


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_running_statistics_are_mean_and_variance(values):
    running = RunningStatistics()
    for value in values:
        running = running.with_value(value, 30)
    assert running.count == len(values)
    assert running.mean == pytest.approx(np.mean(values), abs=1e-8)
    assert running.variance == pytest.approx(np.var(values), abs=1e-6)


def test_older_values_fade_once_the_window_is_full():
    running = RunningStatistics()
    for value in [100.0] * 20 + [1.0, 2.0] * 200:
        running = running.with_value(value, 20)
    assert running.mean == pytest.approx(1.5, abs=0.1)
    assert running.variance == pytest.approx(0.25, abs=0.15)


ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def proposals_of(policy, n=6, **changes):
    search = config(policy, max_atoms=16, **changes)
    parent = Evaluation("parent", 0, 0, "CONVERGED", -6.0, len(ROCKSALT), ROCKSALT.as_dict())
    state = start(search, [parent])
    return [propose(state.model_copy(update={"step": step}), search)[0] for step in range(n)]


def test_proposal_tells_the_probability_of_its_move_among_those_that_had_not_failed():
    weights = {MoveName.SWAP_SUBMODULES: 3, DOUBLE: 1, SHAPE: 4}
    for proposal in proposals_of("weights", 12, moves={"weights": weights}):
        failed = {name for name, _ in proposal.failures}
        left = {name: weight for name, weight in weights.items() if name not in failed}
        assert proposal.move_probability == pytest.approx(left[proposal.move] / sum(left.values()))
    copper = Structure(Lattice.cubic(2.6), ["Cu"], [[0, 0, 0]])
    search = SearchConfig(formula="Cu", max_atoms=8, moves={"weights": {SWAP: 1}})
    state = start(search, [Evaluation("parent", 0, 0, "CONVERGED", 0.0, 1, copper.as_dict())])
    assert propose(state, search)[0].move_probability is None


def test_equal_weights_and_an_unlearnt_policy_draw_like_uniform():
    found = [[(p.move, p.failures) for p in proposals_of(policy)] for policy in ("uniform", "weights", "reinforce")]
    assert all(one == other for one, other in pairwise(found))
    skewed = {name: 1 + 99 * (name == SHAPE) for name in MoveName}
    assert [(p.move, p.failures) for p in proposals_of("uniform", moves={"weights": skewed})] == found[0]
    assert {p.move for p in proposals_of("weights", moves={"weights": skewed})} == {SHAPE}
