"""What the jobs of a search are doing on the LaunchPad."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fuse_flows.store.failures import exception_of, last_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.store.connection import Connection

ACTIVE = ("READY", "RESERVED", "RUNNING")
"""States of jobs that a worker has taken, or may take now."""

_FINAL = ("COMPLETED", "ARCHIVED")
_STOPPED = ("FIZZLED", "PAUSED", "DEFUSED")
#: Failed jobs that do not stop a search: the job that waits for them records the failure.
_TOLERATED = {"state": "FIZZLED", "spec.may_fail": True}
_UNFINISHED = {"state": {"$nin": list(_FINAL)}, "$nor": [_TOLERATED]}


@dataclass(frozen=True)
class Jobs:
    """The jobs of a search on the LaunchPad.

    Parameters
    ----------
    by_state
        State of FireWorks to number.
    unfinished
        Those that have not been completed; see :func:`unfinished_jobs`.
    """

    by_state: dict[str, int]
    unfinished: int


def jobs_of_searches(connection: Connection, search_ids: Sequence[str]) -> dict[str, Jobs]:
    """Count the jobs of searches on the LaunchPad.

    Parameters
    ----------
    connection
        The database.
    search_ids
        The searches.

    Returns
    -------
    dict
        Search id to its jobs; every search is in it.
    """
    query = {"spec.search_id": {"$in": [*search_ids]}}
    group = {"_id": {"search": "$spec.search_id", "state": "$state"}, "n": {"$sum": 1}}
    states: dict[str, Counter[str]] = {name: Counter() for name in search_ids}
    for found in connection.launchpad.fireworks.aggregate([{"$match": query}, {"$group": group}]):
        states[found["_id"]["search"]][found["_id"]["state"]] = found["n"]
    by_search = {"_id": "$spec.search_id", "n": {"$sum": 1}}
    stages: list[dict[str, Any]] = [{"$match": query | _UNFINISHED}, {"$group": by_search}]
    unfinished = {found["_id"]: found["n"] for found in connection.launchpad.fireworks.aggregate(stages)}
    return {name: Jobs(dict(counts), unfinished.get(name, 0)) for name, counts in states.items()}


def unfinished_jobs(connection: Connection, search_id: str, walker: int | None = None) -> int:
    """Count the jobs of a search that have not been completed, whatever keeps them.

    Relaxations of the queue that failed do not count: whether the search goes on is decided by the job behind them.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    walker
        One of its walkers; None for all.

    Returns
    -------
    int
        How many.
    """
    query: dict[str, Any] = {"spec.search_id": search_id} | _UNFINISHED
    if walker is not None:
        query["spec.walker"] = walker
    return connection.launchpad.fireworks.count_documents(query)


def active_jobs(connection: Connection, search_id: str | None) -> int:
    """Count the jobs of a search that a worker has taken, or may take now.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search; None for all searches.

    Returns
    -------
    int
        How many.
    """
    return connection.launchpad.fireworks.count_documents(
        {"spec.search_id": search_id or {"$exists": True}, "state": {"$in": list(ACTIVE)}}
    )


def is_between_jobs(connection: Connection, search_id: str | None) -> bool:
    """Tell whether jobs of a search wait although none is active and none has stopped.

    So it is for a moment whenever a job has ended and those behind it are not released yet.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search; None for any of all searches.
    """
    unfinished = {"$in": ["WAITING", *ACTIVE, *_STOPPED]}
    query = {"spec.search_id": search_id or {"$exists": True}, "state": unfinished, "$nor": [_TOLERATED]}
    stages = [{"$match": query}, {"$group": {"_id": "$spec.search_id", "states": {"$addToSet": "$state"}}}]
    return any(found["states"] == ["WAITING"] for found in connection.launchpad.fireworks.aggregate(stages))


def fizzled_jobs(connection: Connection, search_id: str) -> list[tuple[str, str]]:
    """Return the jobs of a search that ended with an exception.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.

    Returns
    -------
    list of tuple
        Title of the job and the last line of its stack trace.
    """
    launchpad = connection.launchpad
    query = {"spec.search_id": search_id, "state": "FIZZLED", "$nor": [_TOLERATED]}
    return [
        (firework["name"], last_line(exception_of(launchpad, firework)) or "unknown reason")
        for firework in launchpad.fireworks.find(query, {"name": 1, "launches": 1})
    ]


def running_jobs(connection: Connection, search_id: str) -> list[str]:
    """Return the titles of the jobs of a search that are being worked on.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.

    Returns
    -------
    list of str
        Sorted.
    """
    query = {"spec.search_id": search_id, "state": "RUNNING"}
    return sorted(found["name"] for found in connection.launchpad.fireworks.find(query, {"name": 1}))
