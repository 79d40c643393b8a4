"""Jobs that relax the first population, side by side."""

from __future__ import annotations

from typing import Any

from fuse_flows.config import SearchConfig
from fuse_flows.jobs.base import own_output, search_job
from fuse_flows.jobs.evaluate import evaluate
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.step import PopulationDoc
from fuse_flows.search.propose import propose_initial


@search_job
def relax_initial_structures(config: dict[str, Any], first: int, last: int, walker: int = 0) -> dict[str, Any]:
    """Assemble and relax some members of the first population.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    first, last
        Members to make, the last one excluded.
    walker
        The walker they belong to.

    Returns
    -------
    dict
        A :class:`.PopulationDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search = SearchConfig.model_validate(config)
    candidates = [evaluate(propose_initial(search, index, walker), search) for index in range(first, last)]
    return to_mongo(PopulationDoc(search_id=search.search_id, walker=walker, candidates=candidates))
