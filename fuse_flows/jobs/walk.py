"""Steps of a walk, without a word about which job comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.jobs.allocation import begin_structures, must_hand_over
from fuse_flows.jobs.evaluate import evaluate_all, evaluation_of
from fuse_flows.jobs.interruption import interrupted
from fuse_flows.jobs.pool import stored_pool
from fuse_flows.jobs.visited import cluster_fields
from fuse_flows.schemas.size import ENOUGH_BYTES, bytes_of
from fuse_flows.search.judge import judge, should_stop
from fuse_flows.search.propose import propose
from fuse_flows.search.walkers import steps_to_meeting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.config import SearchConfig
    from fuse_flows.search.propose import Proposal
    from fuse_flows.search.state import SearchState
    from fuse_flows.search.visited import VisitedMinima


def walk(
    config: SearchConfig, state: SearchState, visited: VisitedMinima | None = None
) -> tuple[SearchState, list[dict[str, Any]]]:
    """Propose, relax and judge for up to ``steps_per_job`` steps, at most to the next meeting of the walkers.

    It takes at least one step, and ends after the present one when the allocation of the process comes to its end, or
    when its candidates are as much as one document should hold.

    Parameters
    ----------
    config
        The search.
    state
        Where the walker stands.
    visited
        The minima it has visited so far, to which those of its steps are added; None not to compare.

    Returns
    -------
    state
        Where it stands afterwards.
    candidates
        One :class:`.CandidateDoc` per proposal, as plain values.
    """
    candidates, pool, size = [], stored_pool(config), 0
    begin_structures()
    for _ in range(int(min(config.execution.steps_per_job, steps_to_meeting(config, state.step)))):
        if should_stop(state, config):
            break
        proposals = propose(state, config, pool, visited)
        relaxed = evaluate_all(proposals, config, state.references)
        state, judged = judge_candidates(config, state, proposals, relaxed, visited)
        candidates += judged
        size += bytes_of(judged)
        if state.stop_reason or must_hand_over() or size > ENOUGH_BYTES:
            break
    return state, candidates


def judge_candidates(
    config: SearchConfig,
    state: SearchState,
    proposals: Sequence[Proposal],
    relaxed: Sequence[dict[str, Any]],
    visited: VisitedMinima | None,
) -> tuple[SearchState, list[dict[str, Any]]]:
    """Judge the candidates of one step.

    Parameters
    ----------
    config
        The search.
    state
        Where the walker stood when it made the proposals.
    proposals
        The proposals of the step.
    relaxed
        What became of each: a :class:`.CandidateDoc` as plain values.
    visited
        The minima visited before, to which new ones are added; None not to compare.

    Returns
    -------
    state
        The state after the step.
    candidates
        The documents with their clusters and verdicts.
    """
    candidates = [
        candidate if visited is None else candidate | cluster_fields(candidate, visited) for candidate in relaxed
    ]
    step = [(proposal, evaluation_of(candidate)) for proposal, candidate in zip(proposals, candidates, strict=True)]
    verdict = judge(state, step, config)
    judged = [
        candidate | {"accepted": accepted, "verdict": reason, "temperature": state.temperature}
        for candidate, accepted, reason in zip(candidates, verdict.accepted, verdict.reasons, strict=True)
    ]
    return interrupted(verdict.state, config), judged
