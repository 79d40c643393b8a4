"""Walkers of one search meet through the JobStore: nobody waits in a job, the last one to come lets all of them go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from fuse_flows.jobs.base import read_output
from fuse_flows.search.state import SearchState
from fuse_flows.search.walkers import is_meeting, meet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobflow import JobStore

    from fuse_flows.config import SearchConfig

Place = tuple[str, int]
"""Identifier and index of a job."""


def state_after(config: SearchConfig, previous: Place, walker: int) -> SearchState:
    """Return the state with which a walker goes on.

    Parameters
    ----------
    config
        The search.
    previous
        The job that stored the walker's last step.
    walker
        The walker.

    Returns
    -------
    SearchState
        As it was stored; at a meeting, as the meeting left it.
    """
    state = SearchState.model_validate(read_output(*previous)["state"])
    if not is_meeting(config, state.step):
        return state
    query = {"output.step": state.step}
    states = {
        place: SearchState.model_validate(output["state"])
        for place, _, output in _read_steps(CURRENT_JOB.store, config, query)
    }
    return meet([states[place] for place in range(config.walkers.number)], config)[walker]


def newest_steps(store: JobStore, config: SearchConfig) -> dict[int, tuple[SearchState, Place]]:
    """Return where all walkers stand.

    Parameters
    ----------
    store
        The JobStore.
    config
        The search.

    Returns
    -------
    dict
        For each walker that has begun, its newest state and the job that stored it.
    """
    newest: dict[int, tuple[SearchState, Place]] = {}
    for walker in range(config.walkers.number):
        query = {"output.walker": walker, "output.state": {"$exists": True}}
        for _, job, output in _read_steps(store, config, query, limit=1):
            newest[walker] = (SearchState.model_validate(output["state"]), job)
    return newest


def _read_steps(
    store: JobStore, config: SearchConfig, query: dict[str, Any], limit: int = 0
) -> Iterator[tuple[int, Place, dict[str, Any]]]:
    """Read what walkers stored, the last step first; answered from an index."""
    criteria = {"metadata.search_id": config.search_id} | query
    properties = ["uuid", "index", "output.walker", "output.state"]
    for found in store.query(criteria, properties, sort={"output.step": -1}, limit=limit):
        if "state" in found["output"]:
            yield found["output"]["walker"], (found["uuid"], found["index"]), found["output"]
