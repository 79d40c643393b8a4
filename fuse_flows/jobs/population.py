"""Jobs that relax the first population, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.jobs.base import own_output, search_job
from fuse_flows.jobs.evaluate import evaluate_all
from fuse_flows.jobs.pool import search_of, stored_pool
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.step import PopulationDoc
from fuse_flows.search.pool import no_pool
from fuse_flows.search.propose import propose_initial

if TYPE_CHECKING:
    from jobflow import OutputReference


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
    search = search_of(config)
    members = no_pool if pool is None else stored_pool(search)
    proposals = [propose_initial(search, index, walker, members) for index in range(first, last)]
    candidates = evaluate_all(proposals, search)
    return to_mongo(PopulationDoc(search_id=search.search_id, walker=walker, candidates=candidates))
