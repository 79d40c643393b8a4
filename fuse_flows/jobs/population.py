"""Jobs that relax the first population, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.config import SearchConfig
from fuse_flows.jobs.base import own_output, read_output, search_job
from fuse_flows.jobs.evaluate import evaluate
from fuse_flows.jobs.pool import stored_pool
from fuse_flows.jobs.queue import collected, prepare, relax_further
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.step import PopulationDoc
from fuse_flows.search.pool import no_pool
from fuse_flows.search.propose import propose_initial

if TYPE_CHECKING:
    from jobflow import OutputReference, Response

    from fuse_flows.search.propose import Proposal


@search_job
def relax_initial_structures(
    config: dict[str, Any],
    first: int,
    last: int,
    walker: int = 0,
    pool: OutputReference | None = None,
) -> dict[str, Any]:
    """Take from the pool, or assemble, and relax some members of the first population.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    first, last
        Members to make, the last one excluded.
    walker
        The walker they belong to.
    pool
        Reference to the job that stores the pool, which is waited for; None where only the assembler is needed.

    Returns
    -------
    dict
        A :class:`.PopulationDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search = SearchConfig.model_validate(config)
    candidates = [evaluate(proposal, search) for proposal in _members(search, first, last, walker, pool)]
    return to_mongo(PopulationDoc(search_id=search.search_id, walker=walker, candidates=candidates))


@search_job
def prepare_initial_structures(
    config: dict[str, Any],
    first: int,
    last: int,
    walker: int = 0,
    pool: OutputReference | None = None,
) -> Response:
    """Make some members of the first population of a search with a queue tier, and add the jobs that relax them.

    Parameters
    ----------
    config, first, last, walker, pool
        As of :func:`relax_initial_structures`.

    Returns
    -------
    Response
        With a :class:`.PreparedDoc`.
    """
    search, stored = SearchConfig.model_validate(config), own_output()
    if stored is None:
        members = _members(search, first, last, walker, pool)
        named = {f"structure {member.index + 1}": member for member in members}
        stored = prepare(named, search, walker)
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
    search, entries = SearchConfig.model_validate(config), read_output(prepared.uuid)["prepared"]
    members = _members(search, first, last, walker, pool)
    candidates = [collected(entry, member, search) for entry, member in zip(entries, members, strict=True)]
    return to_mongo(PopulationDoc(search_id=search.search_id, walker=walker, candidates=candidates))


def _members(config: SearchConfig, first: int, last: int, walker: int, pool: OutputReference | None) -> list[Proposal]:
    """Take members from the pool, or assemble them."""
    members = no_pool if pool is None else stored_pool(config)
    return [propose_initial(config, index, walker, members) for index in range(first, last)]
