"""Which move is drawn next: the weights of the user, equal chances, or chances that are learnt on the way.

The learning follows Zamaraeva et al., Digital Discovery 2023, 2, 1831 (10.1039/d3dd00063j): the policy is a softmax
over moves with the preference ``h(E, b) = slope_b z(E) + offset_b c``, where z(E) is the scaled energy per atom of the
structure that the moves start from. Every step is an episode: the reward is the fall in z, and REINFORCE with a
confidence penalty changes the preferences. Where ours differs:

* The gradient of the softmax is the exact one, for all moves: ``d ln pi_a / d h_b = delta_ab - pi_b``; the confidence
  penalty uses the exact gradient of the entropy, ``dH / d h_b = -pi_b (ln pi_b + H)``, not a sample of it.
* The probabilities in the gradient are those of the moves among which the one that was used was drawn: a move that the
  user excluded, or that failed before, was no choice. Every step is learnt from.
* Energies are scaled with the newest ``energy_window`` different ones, not with the first of the search, so the policy
  goes on seeing differences once the search has come down. What counts as a failure is the outcome of the
  relaxation, not the sign of the energy: with EMT energies are positive.
* Rewards are scaled with the mean and deviation of those before them and bounded, so one odd energy upsets nothing.
* The learning rate of the paper (0.0005) learns nothing in 2000 steps; the default is 0.05 (``benchmarks/policy.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import MoveName
from fuse_flows.search.energies import quantised
from fuse_flows.search.policy_state import LARGEST, PolicyState
from fuse_flows.search.visited import VISITED_MINIMUM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.config import SearchConfig
    from fuse_flows.search.judge import Evaluation
    from fuse_flows.search.propose import Proposal
    from fuse_flows.search.state import SearchState

_NO_PREFERENCE = (0.0, 0.0)


def allowed_moves(state: SearchState, config: SearchConfig) -> list[MoveName]:
    """Return the moves that may be drawn: those to which the user gave a weight above zero, whatever the policy.

    Parameters
    ----------
    state
        Where the walker stands; while it is melted, the melted weights count.
    config
        The search.

    Returns
    -------
    list of MoveName
        In the order of their numbers.
    """
    weights = _weights(state, config)
    return [name for name in MoveName if weights.get(name, 0.0) > 0]


def probabilities(state: SearchState, config: SearchConfig, names: Sequence[MoveName]) -> NDArray[np.float64]:
    """Return the chances of moves under ``move_policy``.

    Parameters
    ----------
    state
        Where the walker stands.
    config
        The search.
    names
        The moves to draw from, all of them allowed and none that failed before.

    Returns
    -------
    ndarray, shape (len(names),)
        Adding up to one.
    """
    if config.move_policy == "reinforce" and state.policy is not None:
        learnt = _softmax(_preferences(state.policy, names) @ _features(state, config))
        return (1 - config.reinforce.epsilon) * learnt + config.reinforce.epsilon / len(names)
    weights = _weights(state, config)
    share = np.array([weights[name] if config.move_policy == "weights" else 1.0 for name in names])
    return np.asarray(share / share.sum())


def first_policy(config: SearchConfig, population: Sequence[Evaluation]) -> PolicyState | None:
    """Return what is known before the first step: the energies of the first population.

    Parameters
    ----------
    config
        The search.
    population
        The evaluated members; their order does not matter.

    Returns
    -------
    PolicyState or None
        None unless ``move_policy`` is ``reinforce``.
    """
    if config.move_policy != "reinforce":
        return None
    policy = PolicyState()
    for member in sorted(population, key=lambda member: member.index):
        policy = _with_new_energy(policy, member, config)
    return policy


def learn(
    state: SearchState, results: Sequence[tuple[Proposal, Evaluation]], config: SearchConfig
) -> PolicyState | None:
    """Learn from the proposals of one step and what became of them.

    The gradients of all proposals are taken where the policy stood when it drew them, and added up. A proposal without
    a move (the first structures of a search in which all have failed) is not learnt from: there was nothing to start
    from. While the search is melted the policy draws and learns as before, because the reward compares two energies
    and knows no temperature; of the melted weights only the zeros count.

    Parameters
    ----------
    state
        Where the walker stood when it made the proposals.
    results
        The proposals of the step with their evaluations; their order does not matter.
    config
        The search.

    Returns
    -------
    PolicyState or None
        None unless ``move_policy`` is ``reinforce``.
    """
    if config.move_policy != "reinforce" or state.policy is None:
        return None
    rules, after = config.reinforce, state.policy
    allowed = allowed_moves(state, config)
    features = _features(state, config)
    change = np.zeros((len(allowed), 2))
    for proposal, evaluation in sorted(results, key=lambda result: result[0].index):
        if proposal.move in allowed and state.current is not None:
            unscaled = _reward(state.policy, after, state.current.energy_per_atom, evaluation, config)
            if state.policy.rewards.count >= rules.warmup:
                names = _drawn_among(allowed, proposal)
                gradient = softmax_gradient(
                    _softmax(_preferences(state.policy, names) @ features),
                    names.index(proposal.move),
                    state.policy.rewards.scaled(unscaled),
                    beta=rules.beta,
                    entropy_threshold=rules.entropy_threshold,
                )
                change[[allowed.index(name) for name in names]] += rules.learning_rate * np.outer(gradient, features)
            rewards = after.rewards.with_value(unscaled, rules.reward_window)
            after = after.model_copy(update={"rewards": rewards})
        after = _with_new_energy(after, evaluation, config)
    learnt = zip(allowed, _preferences(state.policy, allowed) + change, strict=True)
    preferences = state.policy.preferences | {name: (float(slope), float(offset)) for name, (slope, offset) in learnt}
    return after.model_copy(update={"preferences": preferences})


def softmax_gradient(
    chances: NDArray[np.float64], drawn: int, reward: float, *, beta: float = 0.0, entropy_threshold: float = 0.0
) -> NDArray[np.float64]:
    """Return the gradient of ``reward * ln pi_drawn``, and of ``beta * H`` while H is below the threshold.

    Parameters
    ----------
    chances
        Probabilities pi of the softmax, shape (moves,), adding up to one.
    drawn
        Position of the move that was drawn.
    reward
        Scaled reward.
    beta
        Weight of the entropy H (confidence penalty).
    entropy_threshold
        The penalty acts below this entropy, nats.

    Returns
    -------
    ndarray, shape (moves,)
        Derivatives with respect to the preferences; they add up to zero.
    """
    gradient = -reward * chances
    gradient[drawn] += reward
    logarithms = np.log(np.maximum(chances, np.finfo(float).tiny))
    entropy = -float(chances @ logarithms)
    if entropy < entropy_threshold:
        gradient -= beta * chances * (logarithms + entropy)
    return np.asarray(gradient)


def _weights(state: SearchState, config: SearchConfig) -> dict[MoveName, float]:
    """Return the weights that are in force."""
    return config.moves.melted_weights if state.melted else config.moves.weights


def _preferences(policy: PolicyState, names: Sequence[MoveName]) -> NDArray[np.float64]:
    """Return slopes and offsets, shape (len(names), 2)."""
    return np.array([policy.preferences.get(name, _NO_PREFERENCE) for name in names])


def _features(state: SearchState, config: SearchConfig) -> NDArray[np.float64]:
    """Return the scaled energy of the current candidate and the free term, shape (2,)."""
    if state.current is None or state.policy is None:
        return np.array([0.0, config.reinforce.free_term])
    return np.array([state.policy.scaled(state.current.energy_per_atom), config.reinforce.free_term])


def _softmax(preferences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities that add up to one."""
    shares = np.exp(preferences - preferences.max())
    return np.asarray(shares / shares.sum())


def _drawn_among(allowed: Sequence[MoveName], proposal: Proposal) -> list[MoveName]:
    """Return the moves among which the used one was drawn; a visited minimum left its move among them."""
    failed = {name for name, reason in proposal.failures if reason != VISITED_MINIMUM}
    return [name for name in allowed if name not in failed]


def _reward(
    scale: PolicyState, seen: PolicyState, energy_before: float, evaluation: Evaluation, config: SearchConfig
) -> float:
    """Return the fall in scaled energy; for a failure or an energy that was seen, that of a rise to the highest tenth.

    A failure never gains, even if the walker stands higher than that.
    """
    energy = _energy(evaluation, config)
    if energy is None or evaluation.is_duplicate or energy == energy_before or energy in seen.energies:
        fall = min(energy_before - scale.high_energy, 0.0) if scale.energies else 0.0
    else:
        fall = energy_before - energy
    return float(np.clip(fall / scale.deviation, -LARGEST, LARGEST))


def _with_new_energy(policy: PolicyState, evaluation: Evaluation, config: SearchConfig) -> PolicyState:
    """Keep the energy of a candidate, unless it failed or is a copy."""
    energy = _energy(evaluation, config)
    if energy is None or evaluation.is_duplicate:
        return policy
    return policy.with_energy(energy, config.reinforce.energy_window)


def _energy(evaluation: Evaluation, config: SearchConfig) -> float | None:
    """Return the rounded energy, as the verdicts compare it."""
    energy = evaluation.energy_per_atom
    return None if energy is None else quantised(energy, config.acceptance.energy_precision)
