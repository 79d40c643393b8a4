"""Jobs that relax the first population, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from fuse_flows.jobs.allocation import begin_structures, must_hand_over
from fuse_flows.jobs.base import own_output, read_output, search_job
from fuse_flows.jobs.continuation import respond_and_replace
from fuse_flows.jobs.evaluate import evaluate_all
from fuse_flows.jobs.pool import search_of, stored_pool
from fuse_flows.relax.tiers import at_once
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.step import PopulationDoc
from fuse_flows.search.pool import no_pool
from fuse_flows.search.propose import propose_initial

if TYPE_CHECKING:
    from jobflow import OutputReference, Response

    from fuse_flows.config import SearchConfig


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
        document = PopulationDoc(search_id=search.search_id, walker=walker, candidates=candidates)
        if len(candidates) < last - first:
            document.begun, document.candidates = candidates, []
        stored = to_mongo(document)
    if not stored.get("begun"):
        return stored
    done_pool = pool if pool is None or isinstance(pool, str) else pool.uuid
    following = relax_initial_structures(config, first, last, walker, pool=done_pool)
    following.name = CURRENT_JOB.job.name
    return respond_and_replace(stored, following)


def _relax(search: SearchConfig, first: int, last: int, walker: int, *, has_pool: bool) -> list[dict[str, Any]]:
    """Relax members, beginning with those of the job before this one, as long as there is time; at least one."""
    this = CURRENT_JOB.job
    candidates = [] if this.index == 1 else list(read_output(this.uuid, this.index - 1)["begun"])
    members = stored_pool(search) if has_pool else no_pool
    begin_structures()
    left = range(first + len(candidates), last)
    together = at_once(search.tiers) or len(left)
    for batch in (left[begin : begin + together] for begin in range(0, len(left), together)):
        candidates += evaluate_all([propose_initial(search, index, walker, members) for index in batch], search)
        if must_hand_over():
            break
    return candidates
