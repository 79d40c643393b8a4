"""Jobs of the chain: begin the walk, and take steps until the segment or the search is at its end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jobflow import CURRENT_JOB, Job, OutputReference, Response

from fuse_flows.config import SearchConfig
from fuse_flows.jobs.base import describe, own_output, read_output, search_job
from fuse_flows.jobs.continuation import Segment, respond_and_replace, respond_and_start
from fuse_flows.jobs.evaluate import evaluate, evaluation_of
from fuse_flows.jobs.interruption import interrupted
from fuse_flows.jobs.pool import stored_pool
from fuse_flows.jobs.visited import cluster_fields, minima_of, read_visited
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.step import StepDoc
from fuse_flows.search.judge import judge, should_stop, start
from fuse_flows.search.propose import propose
from fuse_flows.search.state import SearchState
from fuse_flows.search.visited import VisitedMinima, clusters_of


@search_job
def begin_walk(config: dict[str, Any], populations: list[OutputReference], walker: int = 0) -> Response:
    """Begin a walk at the lowest member of the first population, and add the first segment.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    populations
        References to the jobs that relaxed the first population.
    walker
        The walker that begins.

    Returns
    -------
    Response
        With a :class:`.StepDoc` of step 0.
    """
    search = SearchConfig.model_validate(config)
    stored = own_output()
    if stored is None:
        members = [member for population in populations for member in read_output(population.uuid)["candidates"]]
        begun = start(search, [evaluation_of(member) for member in members], walker, began=datetime.now(UTC))
        state = interrupted(begun, search)
        clusters = clusters_of(search.duplicates, minima_of(members)) if search.duplicates.enabled else None
    else:
        state, clusters = SearchState.model_validate(stored["state"]), stored["clusters"]
    return _go_on(search, state, candidates=[], kind="start", jobs_left=0, clusters=clusters)


@search_job
def take_steps(config: dict[str, Any], previous: tuple[str, int], jobs_left: int, walker: int = 0) -> Response:
    """Take the next ``steps_per_job`` steps of a walk.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    previous
        Identifier and index of the job whose state this one goes on from.
    jobs_left
        Jobs that may follow in this segment.
    walker
        The walker that steps.

    Returns
    -------
    Response
        With a :class:`.StepDoc`.
    """
    search = SearchConfig.model_validate(config)
    stored = own_output()
    if stored is None:
        uuid, index = previous
        before = SearchState.model_validate(read_output(uuid, index)["state"])
        visited = read_visited(search, before) if search.duplicates.enabled else None
        state, candidates = walk(search, before, visited)
    else:
        state, candidates = SearchState.model_validate(stored["state"]), stored["candidates"]
    return _go_on(search, state, candidates, kind="steps", jobs_left=jobs_left, walker=walker)


def walk(
    config: SearchConfig, state: SearchState, visited: VisitedMinima | None = None
) -> tuple[SearchState, list[dict[str, Any]]]:
    """Propose, relax and judge up to ``steps_per_job`` candidates.

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
        One :class:`.CandidateDoc` per step, as plain values.
    """
    candidates, pool = [], stored_pool(config)
    for _ in range(config.execution.steps_per_job):
        if should_stop(state, config):
            break
        proposal = propose(state, config, pool, visited)
        candidate = evaluate(proposal, config)
        if visited is not None:
            candidate |= cluster_fields(candidate, visited)
        verdict = judge(state, proposal, evaluation_of(candidate), config)
        candidate |= {"accepted": verdict.accepted, "verdict": verdict.reason, "temperature": state.temperature}
        candidates.append(candidate)
        state = interrupted(verdict.state, config)
        if state.stop_reason:
            break
    return state, candidates


def first_job_of_segment(config: SearchConfig, state: SearchState, previous: tuple[str, int]) -> Segment:
    """Return the segment that goes on from a state.

    Parameters
    ----------
    config
        The search.
    state
        The state after the last judged step.
    previous
        Identifier and index of the job that stored it.

    Returns
    -------
    Segment
        Its key holds search, walker and step, so that no two segments go on from the same step.
    """
    following = _step_job(config, state, previous, jobs_left=config.execution.jobs_per_segment - 1)
    first = state.step + 1
    describe(following, config, walker=state.walker, segment=first, place=f"from step {first}")
    return Segment(following, key=f"{config.search_id}/{state.walker}/{first}")


def _go_on(
    config: SearchConfig,
    state: SearchState,
    candidates: list[dict[str, Any]],
    *,
    kind: str,
    jobs_left: int,
    walker: int = 0,
    clusters: dict[str, str] | None = None,
) -> Response:
    """Store a step and continue with the next job, the next segment, or not at all."""
    document = StepDoc(
        kind=kind,
        search_id=config.search_id,
        walker=walker,
        step=state.step,
        candidates=candidates,
        state=state,
        clusters=clusters,
        config=config.model_dump(mode="json") if kind == "start" else None,
    )
    output = to_mongo(document)
    this = (CURRENT_JOB.job.uuid, CURRENT_JOB.job.index)
    if state.stop_reason or should_stop(state, config):
        return Response(output=output)
    if jobs_left > 0:
        return respond_and_replace(output, _step_job(config, state, this, jobs_left=jobs_left - 1))
    return respond_and_start(output, first_job_of_segment(config, state, this))


def _step_job(config: SearchConfig, state: SearchState, previous: tuple[str, int], jobs_left: int) -> Job:
    """Return the job that goes on from a state, with a title that reads like prose."""
    following = take_steps(config.model_dump(mode="json"), list(previous), jobs_left, state.walker)
    first, last = state.step + 1, state.step + config.execution.steps_per_job
    steps = f"step {first}" if first == last else f"steps {first}-{last}"
    following.name = f"search {steps} of {config.formula}"
    return following
