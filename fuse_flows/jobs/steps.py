"""Jobs of the chain: begin the walk, and take steps until the segment or the search is at its end."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Flow, Job, OutputReference, Response

from fuse_flows.config import SearchConfig
from fuse_flows.jobs.base import describe, own_output, read_output, search_job
from fuse_flows.jobs.continuation import Segment, respond_and_replace, respond_and_start
from fuse_flows.jobs.evaluate import evaluate, evaluation_of
from fuse_flows.jobs.interruption import interrupted
from fuse_flows.jobs.meetings import Place, newest_steps, state_after
from fuse_flows.jobs.pool import search_of, stored_pool
from fuse_flows.jobs.queue import accept_failures, collected, prepare, prepared_output, relax_further
from fuse_flows.jobs.visited import minima_of, read_visited
from fuse_flows.jobs.walk import judge_candidates, walk
from fuse_flows.relax.queue_tiers import first_queue_tier
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.step import ProposalDoc, StepDoc
from fuse_flows.schemas.tally import moment, tally_of
from fuse_flows.search.judge import should_stop, start
from fuse_flows.search.propose import proposals, propose
from fuse_flows.search.state import SearchState
from fuse_flows.search.visited import clusters_of
from fuse_flows.search.walkers import is_meeting, may_leave
from fuse_flows.store.processes import worker_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobflow import JobStore

    from fuse_flows.search.propose import Proposal
    from fuse_flows.search.visited import VisitedMinima


@search_job
def begin_walk(
    config: dict[str, Any], populations: list[OutputReference], walker: int = 0, pool: OutputReference | None = None
) -> Response:
    """Begin a walk at the lowest member of the first population, and add the first segment.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    populations
        References to the jobs that relaxed the first population.
    walker
        The walker that begins.
    pool
        Reference to the job that stores the pool, to be waited for; None if the first population has waited for it.

    Returns
    -------
    Response
        With a :class:`.StepDoc` of step 0.
    """
    del pool  # the reference alone makes this job wait
    search = SearchConfig.model_validate(config)
    stored = own_output()
    if stored is not None:
        return _go_on(search, stored, jobs_left=0)
    members = [member for population in populations for member in read_output(population.uuid)["candidates"]]
    begun = start(search, [evaluation_of(member) for member in members], walker, began=datetime.now(UTC))
    document = StepDoc(
        kind="start",
        search_id=search.search_id,
        walker=walker,
        step=0,
        state=interrupted(begun, search),
        clusters=clusters_of(search.duplicates, minima_of(members)) if search.duplicates.enabled else None,
        config=config,
    )
    return _go_on(search, to_mongo(document), jobs_left=0)


@search_job
def take_steps(config: dict[str, Any], previous: Place, jobs_left: int, walker: int = 0) -> Response:
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
    search = search_of(config)
    stored = own_output()
    if stored is None:
        before, visited = _standing(search, previous, walker)
        stored = _step_document(search, *walk(search, before, visited))
    return _go_on(search, stored, jobs_left=jobs_left)


@search_job
def relax_proposal(config: dict[str, Any], previous: Place, index: int, walker: int = 0) -> dict[str, Any]:
    """Make one of the proposals of a step, and relax it.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    previous
        Identifier and index of the job whose state the step goes on from.
    index
        Number of the proposal.
    walker
        The walker that steps.

    Returns
    -------
    dict
        A :class:`.ProposalDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search = search_of(config)
    proposal, references = _proposal(search, previous, index, walker)
    relaxed = evaluate(proposal, search, references)
    return to_mongo(ProposalDoc(search_id=search.search_id, walker=walker, relaxed=relaxed))


@search_job
def prepare_proposal(config: dict[str, Any], previous: Place, index: int, walker: int = 0) -> Response:
    """Make one of the proposals of a step of a search with a queue tier, and add the job that relaxes it.

    Parameters
    ----------
    config, previous, index, walker
        As of :func:`relax_proposal`.

    Returns
    -------
    Response
        With a :class:`.PreparedDoc`.
    """
    search, stored = search_of(config), own_output()
    if stored is None:
        proposal, references = _proposal(search, previous, index, walker)
        entries = prepare({f"proposal {index + 1} of step {proposal.step}": proposal}, search, references)
        stored = prepared_output(entries, search, walker, references)
    return relax_further(search, stored, CURRENT_JOB.job.metadata["segment"])


@search_job
def judge_proposals(
    config: dict[str, Any], previous: Place, relaxed: list[OutputReference], jobs_left: int, walker: int = 0
) -> Response:
    """Judge the proposals of a step, which jobs of their own have relaxed.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    previous
        Identifier and index of the job whose state the step goes on from.
    relaxed
        References to the jobs that relaxed the proposals.
    jobs_left
        Jobs that may follow in this segment.
    walker
        The walker that steps.

    Returns
    -------
    Response
        With a :class:`.StepDoc`.
    """
    search = search_of(config)
    stored = own_output()
    if stored is None:
        before, visited = _standing(search, previous, walker)
        made = propose(before, search, stored_pool(search), visited)
        outputs = [read_output(reference.uuid) for reference in relaxed]
        candidates = [_relaxed(output, proposal, search) for output, proposal in zip(outputs, made, strict=True)]
        stored = _step_document(search, *judge_candidates(search, before, made, candidates, visited))
    return _go_on(search, stored, jobs_left=jobs_left)


def _proposal(
    config: SearchConfig, previous: Place, index: int, walker: int
) -> tuple[Proposal, Sequence[float | None]]:
    """Make one of the proposals of a step; returned with the energies that it is screened against."""
    before, visited = _standing(config, previous, walker)
    return next(islice(proposals(before, config, stored_pool(config), visited), index, None)), before.references


def _relaxed(output: dict[str, Any], proposal: Proposal, config: SearchConfig) -> dict[str, Any]:
    """Return the candidate that a job relaxed, or that it prepared and the queue relaxed."""
    return collected(output["prepared"][0], proposal, config) if "prepared" in output else output["relaxed"]


def open_segments(
    config: SearchConfig, newest: Mapping[int, tuple[SearchState, Place]], walkers: Iterable[int]
) -> list[Segment]:
    """Return the segments that may begin.

    Parameters
    ----------
    config
        The search, with the limits that are to hold from now on.
    newest
        The newest state of each walker that has begun, and the job that stored it.
    walkers
        Walkers that nothing is on its way for.

    Returns
    -------
    list of Segment
        One for each of these walkers unless it has come to its end, or has to wait for others. Their keys hold
        search, walker and step, so that no two segments go on from the same step.
    """
    states = [state for state, _ in newest.values()]
    segments = []
    for state, job in (newest[walker] for walker in walkers):
        waits = is_meeting(config, state.step) and not may_leave(config, state.step, states)
        if not waits and not should_stop(state, config):
            segments.append(_segment(config, state, job))
    return segments


def _segment(config: SearchConfig, state: SearchState, previous: Place) -> Segment:
    """Return the segment that goes on from a state, which the given job stored."""
    following = _next_step(config, state, previous, jobs_left=config.execution.jobs_per_segment, segment=state.step + 1)
    return Segment(following, key=f"{config.search_id}/{state.walker}/{state.step + 1}")


def _standing(config: SearchConfig, previous: Place, walker: int) -> tuple[SearchState, VisitedMinima | None]:
    """Return the state with which a walker goes on, and the minima it knows; None not to compare."""
    before = state_after(config, previous, walker)
    return before, read_visited(config, before) if config.duplicates.enabled else None


def _step_document(config: SearchConfig, state: SearchState, candidates: list[dict[str, Any]]) -> dict[str, Any]:
    document = StepDoc(
        search_id=config.search_id,
        walker=state.walker,
        step=state.step,
        candidates=candidates,
        state=state,
        ended=moment(),
        tally=tally_of(candidates, worker_name()),
    )
    return to_mongo(document)


def _go_on(config: SearchConfig, output: dict[str, Any], *, jobs_left: int) -> Response:
    """Store a step and continue with the next job, the next segment, or not at all."""
    state = SearchState.model_validate(output["state"])
    this = (CURRENT_JOB.job.uuid, CURRENT_JOB.job.index)
    if state.stop_reason or should_stop(state, config):
        return Response(output=output)
    if is_meeting(config, state.step):
        return respond_and_start(output, partial(_leave_meeting, config, state, this, CURRENT_JOB.store))
    if jobs_left > 0:
        segment = CURRENT_JOB.job.metadata["segment"]
        return respond_and_replace(output, _next_step(config, state, this, jobs_left, segment))
    return respond_and_start(output, lambda: [_segment(config, state, this)])


def _leave_meeting(config: SearchConfig, state: SearchState, this: Place, store: JobStore) -> list[Segment]:
    """Return the segments of all walkers at a meeting if this one was the last to come.

    Run again later, it finds that others are further on: they have left already.
    """
    newest = newest_steps(store, config) | {state.walker: (state, this)}
    here = [walker for walker, (found, _) in newest.items() if found.step == state.step and not found.stop_reason]
    return open_segments(config, newest, here)


def _next_step(config: SearchConfig, state: SearchState, previous: Place, jobs_left: int, segment: int) -> Job | Flow:
    """Return the job, or the jobs, of the next step, with titles that read like prose."""
    side_by_side = config.proposals_per_step > 1 and config.execution.parallel_proposals
    if side_by_side or first_queue_tier(config.tiers) is not None:
        return _step_of_proposals(config, state, previous, jobs_left, segment)
    following = take_steps(config.model_dump(mode="json"), list(previous), jobs_left - 1, state.walker)
    first, last = state.step + 1, state.step + config.execution.steps_per_job
    steps = f"step {first}" if first == last else f"steps {first}-{last}"
    following.name = f"search {steps} of {title(config, state.walker)}"
    return describe(following, config, walker=state.walker, segment=segment, place=f"from step {segment}")


def _step_of_proposals(config: SearchConfig, state: SearchState, previous: Place, jobs_left: int, segment: int) -> Flow:
    """Return the jobs of a step whose proposals are relaxed side by side, or in the queue."""
    values, step = config.model_dump(mode="json"), state.step + 1
    queue = first_queue_tier(config.tiers) is not None
    verb, make = ("prepare", prepare_proposal) if queue else ("relax", relax_proposal)
    jobs = []
    for index in range(config.proposals_per_step):
        job = make(values, list(previous), index, state.walker)
        place = f"proposal {index + 1} of step {step}"
        job.name = f"{verb} {place} of {title(config, state.walker)}"
        jobs.append(describe(job, config, walker=state.walker, segment=segment, place=place))
    left = jobs_left - len(jobs) * (2 if queue else 1) - 1
    judging = judge_proposals(values, list(previous), [job.output for job in jobs], left, state.walker)
    if queue:
        accept_failures(judging)
    judging.name = f"judge step {step} of {title(config, state.walker)}"
    describe(judging, config, walker=state.walker, segment=segment, place=f"judge step {step}")
    return Flow([*jobs, judging], name=f"step {step} of {title(config, state.walker)}")


def title(config: SearchConfig, walker: int) -> str:
    """Return the formula and, where there are several, the walker, for titles of jobs."""
    return config.formula if config.walkers.number == 1 else f"{config.formula}, walker {walker}"
