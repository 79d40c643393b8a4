"""What ends a walk from outside: the clock, a user who asks it to stop, another walker that reached the target.

None of them changes what it visits before.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from fuse_flows.search.judge import TARGET_REACHED, should_stop
from fuse_flows.store.requests import STOP_REQUESTED, is_stop_requested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fireworks import LaunchPad

    from fuse_flows.config import SearchConfig
    from fuse_flows.search.state import SearchState

_LAST_OF_A_WALK = frozenset({"begin_walk", "take_steps", "judge_proposals"})

_stop_requested: ContextVar[Callable[[], bool] | None] = ContextVar("fuse_flows_stop_requested", default=None)


@contextmanager
def listen_to_requests(launchpad: LaunchPad, search_id: str) -> Iterator[None]:
    """Let the jobs that run while the context is open see what users ask of a search.

    Without it (``run_locally``, or a Flow converted by jobflow itself) there is nobody to ask.
    """
    token = _stop_requested.set(partial(is_stop_requested, launchpad, search_id))
    try:
        yield
    finally:
        _stop_requested.reset(token)


def ends_a_walk(function: Any) -> bool:
    """Tell whether a job, asked to stop, ends its walk by itself and records why; others are put back for later.

    Parameters
    ----------
    function
        The function of the job.
    """
    return getattr(function, "__name__", "") in _LAST_OF_A_WALK


def is_asked_to_stop() -> bool:
    """Tell whether a user asked the search of the present job to stop; one read by ``_id``."""
    asked = _stop_requested.get()
    return asked is not None and asked()


def interrupted(state: SearchState, config: SearchConfig) -> SearchState:
    """Look at the clock and at requests, between two structures.

    Parameters
    ----------
    state
        State that was just judged.
    config
        The search.

    Returns
    -------
    SearchState
        With the reason if the walk ends here. It is part of the stored state, so that a job that is run again
        decides as it did before.
    """
    reason = state.stop_reason or should_stop(state, config, now=datetime.now(UTC))
    if reason is None and is_asked_to_stop():
        reason = STOP_REQUESTED
    if reason is None and _another_reached_target(config):
        reason = f"{TARGET_REACHED} by another walker"
    return state.model_copy(update={"stop_reason": reason})


def _another_reached_target(config: SearchConfig) -> bool:
    """Look whether one of several walkers has found what the search is for; answered from an index of its own."""
    if config.walkers.number == 1 or config.stop.target_energy is None:
        return False
    criteria = {"metadata.search_id": config.search_id, "output.state.stop_reason": TARGET_REACHED}
    return CURRENT_JOB.store.query_one(criteria, ["uuid"]) is not None
