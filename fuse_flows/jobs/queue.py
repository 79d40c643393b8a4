"""Relaxations in the queue: expensive tiers run in jobs of their own, which workers of a category of their own take.

The job that makes a proposal takes it through the tiers before the first queue tier, stores that, and adds the job of
the queue as a detour; that one adds the next if it had too little time, or if another queue tier follows. The job that
collects the candidates stands behind all of them and follows the chain of outputs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Flow, Job, JobConfig, Response
from jobflow.core.reference import OnMissing
from pymatgen.core import Structure

from fuse_flows.config import SearchConfig
from fuse_flows.jobs.allocation import current_ending, ending_of_process
from fuse_flows.jobs.base import describe, find_output, own_output, place_uuid, read_output, search_job
from fuse_flows.jobs.continuation import respond_and_replace
from fuse_flows.jobs.evaluate import candidate_of
from fuse_flows.jobs.fizzled import why_fizzled
from fuse_flows.relax.base import Part, PartwiseRelaxer
from fuse_flows.relax.queue_tiers import category_of, first_queue_tier, next_queue_tier
from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.relax.tiers import build_relaxer, end_of_tier, goes_on, relax_all_through, relax_through
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.relaxation import Errand, PreparedDoc, PreparedStructure, RelaxationDoc, ResultDoc
from fuse_flows.structures.symmetry import exactly_symmetric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fuse_flows.config import QueueConfig, TierConfig
    from fuse_flows.search.propose import Proposal

MAY_FAIL = "may_fail"
"""Mark in the spec of jobs whose failure does not stop a search."""


def prepare(
    proposals: Mapping[str, Proposal], config: SearchConfig, references: Sequence[float | None] = ()
) -> list[PreparedStructure]:
    """Take proposals through the tiers before the queue, together.

    Parameters
    ----------
    proposals
        The proposals by their place in the search, in words that no other candidate of the walker has.
    config
        The search, with a queue tier.
    references
        Energies of the walker's best candidate in each tier when the proposals were made, eV/atom.

    Returns
    -------
    list of PreparedStructure
        One for each, for :func:`prepared_output`.
    """
    structures = [proposal.structure for proposal in proposals.values() if proposal.structure is not None]
    end = first_queue_tier(config.tiers)
    relaxed = iter(relax_all_through(structures, config.tiers, references, end=end))
    return [
        PreparedStructure(
            candidate_id=proposal.candidate_id,
            where=where,
            structure=None if proposal.structure is None else proposal.structure.as_dict(verbosity=0),
            results=[] if proposal.structure is None else [ResultDoc.from_result(result) for result in next(relaxed)],
        )
        for where, proposal in proposals.items()
    ]


def prepared_output(
    entries: Sequence[PreparedStructure | dict[str, Any]],
    config: SearchConfig,
    walker: int,
    references: Sequence[float | None] = (),
    *,
    is_all: bool = True,
) -> dict[str, Any]:
    """Put together what a job prepared.

    Parameters
    ----------
    entries
        What :func:`prepare` returned, in this job and in those before it.
    config
        The search.
    walker
        Its walker.
    references
        As of :func:`prepare`.
    is_all
        Whether these are all that the job was to prepare; otherwise another one goes on.

    Returns
    -------
    dict
        A :class:`.PreparedDoc` as plain values, for :func:`relax_further` if these are all.
    """
    found = [PreparedStructure.model_validate(entry) for entry in entries]
    document = PreparedDoc(search_id=config.search_id, walker=walker, prepared=found, references=list(references))
    if not is_all:
        document.begun, document.prepared = found, []
    for entry, errand in zip(document.prepared, _errands(document, config, segment=0), strict=True):
        entry.next = None if errand is None else _uuid(config, errand)
    return to_mongo(document)


def relax_further(config: SearchConfig, output: dict[str, Any], segment: int) -> Response:
    """Store what :func:`prepared_output` made and add the jobs that relax it further, side by side.

    Parameters
    ----------
    config
        The search.
    output
        The :class:`.PreparedDoc` as plain values, new or stored before.
    segment
        The segment of this job.

    Returns
    -------
    Response
        With the output, and the jobs as a detour.
    """
    errands = _errands(PreparedDoc.model_validate(output), config, segment)
    return _hand_on(config, output, [errand for errand in errands if errand is not None])


def relaxation_job(config: SearchConfig, errand: Errand) -> Job:
    """Return a job of the queue, with the category and the settings of its tier."""
    tier, queue = config.tiers[errand.tier], config.tiers[errand.tier].queue_settings
    job = relax_in_queue(config.model_dump(mode="json"), errand.model_dump(mode="json"))
    further = "" if errand.part == 1 else f" ({errand.part})"
    job.name = f"{tier.calculator} on {errand.where} of {config.formula}{further}"
    spec: dict[str, Any] = {"_category": category_of(tier), MAY_FAIL: True}
    if queue.qadapter:
        spec["_queueadapter"] = queue.qadapter
    if queue.fworker:
        spec["_fworker"] = queue.fworker
    job.config = JobConfig(expose_store=True, resolve_references=False, manager_config=spec, pass_manager_config=False)
    return describe(job, config, walker=errand.walker, segment=errand.segment, place=errand.place)


def accept_failures(job: Job) -> Job:
    """Let a job run although jobs before it failed; it then finds out what became of them."""
    job.config = replace(job.config, on_missing_references=OnMissing.NONE)
    return job


@search_job
def relax_in_queue(config: dict[str, Any], errand: dict[str, Any]) -> Response:
    """Relax a candidate with a queue tier, as far as the time of one job allows.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    errand
        The :class:`.Errand` as plain values.

    Returns
    -------
    Response
        With the engine's own document (for VASP atomate2's TaskDoc), and a :class:`.RelaxationDoc` in its field
        ``relaxation``.
    """
    search, task = SearchConfig.model_validate(config), Errand.model_validate(errand)
    stored = own_output()
    if stored is None:
        stored = _relax(search, task)
    errands = _following(search, task, RelaxationDoc.model_validate(stored["relaxation"]))
    return _hand_on(search, stored, errands)


def collected(prepared: dict[str, Any], proposal: Proposal, config: SearchConfig) -> dict[str, Any]:
    """Return what became of a proposal, once all its jobs have run or failed.

    Parameters
    ----------
    prepared
        Its :class:`.PreparedStructure` as plain values.
    proposal
        The proposal.
    config
        The search.

    Returns
    -------
    dict
        A :class:`.CandidateDoc`, without a verdict, as plain values. A job that failed makes the candidate one whose
        relaxation failed.

    Raises
    ------
    JobFailedError
        If a job that failed is being run again, or failed because its machine is not set up.
    """
    entry = PreparedStructure.model_validate(prepared)
    results = [result.to_result() for result in entry.results]
    following = entry.next
    while following is not None:
        output = find_output(following) or _settled(following, config)
        if isinstance(output, str):
            last = results[-1].structure if results else proposal.structure
            assert last is not None  # noqa: S101 - without a structure there is no job
            tier = config.tiers[len(results)]
            failed = RelaxResult(Outcome.ENGINE_ERROR, last, reason=output, engine=tier.calculator)
            results.append(replace(failed, pressure=tier.gigapascals))
            break
        relaxation = RelaxationDoc.model_validate(output["relaxation"])
        results += [result.to_result() for result in relaxation.results]
        following = relaxation.next
    return candidate_of(proposal, results, config)


def _errands(document: PreparedDoc, config: SearchConfig, segment: int) -> list[Errand | None]:
    """Return what is to be done for each prepared structure; None for those that have come to their end."""
    tier = first_queue_tier(config.tiers)
    assert tier is not None  # noqa: S101 - only searches with a queue come here
    return [
        Errand(
            candidate_id=entry.candidate_id,
            walker=document.walker,
            segment=segment,
            where=entry.where,
            source=CURRENT_JOB.job.uuid,
            position=position,
            tier=tier,
            references=document.references,
        )
        if entry.structure is not None and (not entry.results or goes_on(entry.results[-1].to_result()))
        else None
        for position, entry in enumerate(document.prepared)
    ]


def _hand_on(config: SearchConfig, output: dict[str, Any], errands: Sequence[Errand]) -> Response:
    """Store an output and add the jobs of the queue that follow, side by side."""
    if not errands:
        return Response(output=output)
    return respond_and_replace(
        output, Flow([relaxation_job(config, errand) for errand in errands], name=f"relaxations of {config.formula}")
    )


def _uuid(config: SearchConfig, errand: Errand) -> str:
    return place_uuid(config, walker=errand.walker, place=errand.place)


def _settled(uuid: str, config: SearchConfig) -> dict[str, Any] | str:
    """Return the output of a job that may be run again just now, or why it failed for good."""
    reason = why_fizzled(uuid, config.search_id)
    return find_output(uuid) or f"its job failed: {reason}"


def _relax(config: SearchConfig, errand: Errand) -> dict[str, Any]:
    """Run the tier, and the tiers after it up to the next queue tier."""
    structure, tier, end = _beginning(errand), errand.tier, next_queue_tier(config.tiers, errand.tier)
    begun = {} if errand.previous is None else read_output(errand.previous)["relaxation"]
    part, tasks = _part(config.tiers[tier], structure, begun.get("progress")), list(begun.get("tasks", ()))
    results: list[RelaxResult] = []
    if part is None:
        part = Part(None, None, None)
        results = relax_through(structure, config.tiers, errand.references, begin=tier, end=end)
    tasks += [] if part.document is None else [CURRENT_JOB.job.uuid]
    if part.result is not None:
        last = end_of_tier(replace(part.result, tasks=tuple(tasks)), config.tiers, tier, errand.references)
        results = [last]
        if goes_on(last):
            results += relax_through(last.structure, config.tiers, errand.references, begin=tier + 1, end=end)
    document = RelaxationDoc(
        candidate_id=errand.candidate_id,
        search_id=config.search_id,
        tier=tier,
        part=errand.part,
        results=[ResultDoc.from_result(result) for result in results],
        progress=part.progress,
        tasks=tasks,
    )
    for following in _following(config, errand, document):
        document.next = _uuid(config, following)
    return (part.document or {}) | {"relaxation": to_mongo(document)}


def _part(tier: TierConfig, structure: Structure, progress: dict[str, Any] | None) -> Part | None:
    """Go on with a relaxation as far as time allows; None if the engine can only do it as a whole."""
    relaxer, queue = build_relaxer(tier), tier.queue_settings
    if not isinstance(relaxer, PartwiseRelaxer):
        return None
    one_stage = queue.job == "stage"
    begun = exactly_symmetric(structure, tier.symprec) if progress is None else structure
    return relaxer.advance(begun, progress, Path.cwd(), seconds_left=_seconds_left(queue), one_stage=one_stage)


def _beginning(errand: Errand) -> Structure:
    """Read the structure that the tier begins with."""
    output = read_output(errand.source)
    if errand.position is None:
        return Structure.from_dict(output["relaxation"]["results"][-1]["structure"])
    entry = output["prepared"][errand.position]
    return Structure.from_dict(entry["results"][-1]["structure"] if entry["results"] else entry["structure"])


def _following(config: SearchConfig, errand: Errand, done: RelaxationDoc) -> list[Errand]:
    """Return what comes after a job: the rest of its tier, the next queue tier, or nothing."""
    uuid = CURRENT_JOB.job.uuid
    if done.progress is not None:
        return [errand.model_copy(update={"part": errand.part + 1, "previous": uuid})]
    following = next_queue_tier(config.tiers, errand.tier)
    if following is None or not goes_on(done.results[-1].to_result()):
        return []
    update = {"source": uuid, "position": None, "tier": following, "part": 1, "previous": None}
    return [errand.model_copy(update=update)]


def _seconds_left(queue: QueueConfig) -> float | None:
    """Return the time that this job may take: what the tier says, and what is left of the allocation."""
    limits = [] if queue.wall_time is None else [queue.wall_time]
    ending = current_ending() or ending_of_process()
    if ending.ends_at is not None:
        limits.append(ending.ends_at - ending.clock())
    return min(limits, default=None)
