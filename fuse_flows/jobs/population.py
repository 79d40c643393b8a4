"""Jobs that relax the first population, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.jobs.allocation import begin_structures
from fuse_flows.jobs.base import own_output, read_output, search_job
from fuse_flows.jobs.evaluate import evaluate_all
from fuse_flows.jobs.parts import done, leave_rest, must_leave_rest, part_before
from fuse_flows.jobs.pool import search_of, stored_pool
from fuse_flows.jobs.queue import collected, prepare, prepared_output, relax_further
from fuse_flows.relax.queue_tiers import first_queue_tier
from fuse_flows.relax.tiers import at_once
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.step import PopulationDoc
from fuse_flows.schemas.tally import moment, tally_of
from fuse_flows.search.pool import no_pool
from fuse_flows.search.propose import propose_initial
from fuse_flows.store.processes import worker_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobflow import OutputReference, Response

    from fuse_flows.config import SearchConfig, TierConfig
    from fuse_flows.search.propose import Proposal


@search_job
def relax_initial_structures(
    config: dict[str, Any],
    first: int,
    last: int,
    walker: int = 0,
    pool: OutputReference | str | None = None,
) -> dict[str, Any] | Response:
    """Take from the pool, or assemble, and relax some members of the first population.

    When the allocation of the process comes to its end, the job stores what it has and is replaced by itself.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    first, last
        Members to make, the last one excluded.
    walker
        The walker they belong to.
    pool
        The job that stores the pool: a reference, which is waited for, or its uuid when it is done; None where only the
        assembler is needed.

    Returns
    -------
    dict
        A :class:`.PopulationDoc`.
    """
    stored = own_output()
    if stored is None:
        search = search_of(config)
        candidates = _relax(search, first, last, walker, has_pool=pool is not None)
        stored = _population(search, walker, candidates, is_all=len(candidates) == last - first)
    if not stored.get("begun"):
        return stored
    return leave_rest(stored, relax_initial_structures(config, first, last, walker, pool=done(pool)))


@search_job
def prepare_initial_structures(
    config: dict[str, Any],
    first: int,
    last: int,
    walker: int = 0,
    pool: OutputReference | str | None = None,
) -> Response:
    """Make some members of the first population of a search with a queue tier, and add the jobs that relax them.

    Parameters
    ----------
    config, first, last, walker, pool
        As of :func:`relax_initial_structures`, which it also is like when the allocation comes to its end.

    Returns
    -------
    Response
        With a :class:`.PreparedDoc`.
    """
    search, stored = search_of(config), own_output()
    if stored is None:
        stored = _prepare(search, first, last, walker, has_pool=pool is not None)
    if stored.get("begun"):
        return leave_rest(stored, prepare_initial_structures(config, first, last, walker, pool=done(pool)))
    return relax_further(search, stored, segment=0)


@search_job
def collect_initial_structures(
    config: dict[str, Any],
    first: int,
    last: int,
    walker: int = 0,
    *,
    prepared: OutputReference,
    pool: OutputReference | None = None,
) -> dict[str, Any]:
    """Collect members of the first population that the queue has relaxed.

    Parameters
    ----------
    config, first, last, walker, pool
        As of :func:`relax_initial_structures`.
    prepared
        Reference to the job that made them.

    Returns
    -------
    dict
        A :class:`.PopulationDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search, entries = search_of(config), read_output(prepared.uuid)["prepared"]
    members = stored_pool(search) if pool is not None else no_pool
    proposals = (propose_initial(search, index, walker, members) for index in range(first, last))
    candidates = [collected(entry, proposal, search) for entry, proposal in zip(entries, proposals, strict=True)]
    return _population(search, walker, candidates, is_all=True)


def _population(search: SearchConfig, walker: int, members: list[dict[str, Any]], *, is_all: bool) -> dict[str, Any]:
    """Put together what a job relaxed; what is not all is no candidate of the search yet."""
    document = PopulationDoc(search_id=search.search_id, walker=walker, candidates=members if is_all else [])
    document.begun = None if is_all else members
    document.ended, document.tally = moment(), tally_of(document.candidates, worker_name())
    return to_mongo(document)


def _relax(search: SearchConfig, first: int, last: int, walker: int, *, has_pool: bool) -> list[dict[str, Any]]:
    """Relax members, beginning with those of the job before this one, as long as there is time; at least one."""
    candidates = _begun()
    left = range(first + len(candidates), last)
    for batch in _in_time(search, search.tiers, left, walker, has_pool=has_pool):
        candidates += evaluate_all(batch, search)
    return candidates


def _prepare(search: SearchConfig, first: int, last: int, walker: int, *, has_pool: bool) -> dict[str, Any]:
    """Take members through the tiers before the queue; see :func:`_relax`."""
    entries = _begun()
    left = range(first + len(entries), last)
    tiers = search.tiers[: first_queue_tier(search.tiers)]
    for batch in _in_time(search, tiers, left, walker, has_pool=has_pool):
        entries += prepare({f"structure {member.index + 1}": member for member in batch}, search)
    return prepared_output(entries, search, walker, is_all=len(entries) == last - first)


def _begun() -> list[Any]:
    """Return what the job before this one did of the same members."""
    before = part_before()
    return [] if before is None else list(before["begun"])


def _in_time(
    search: SearchConfig, tiers: Sequence[TierConfig], left: range, walker: int, *, has_pool: bool
) -> Iterator[list[Proposal]]:
    """Make members, in batches that are worth relaxing together, as long as there is time; at least one."""
    members = stored_pool(search) if has_pool else no_pool
    begin_structures()
    together = at_once(tiers) or max(1, len(left))
    for begin in range(0, len(left), together):
        yield [propose_initial(search, index, walker, members) for index in left[begin : begin + together]]
        if must_leave_rest():
            return
