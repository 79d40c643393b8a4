"""A search as a whole: its configuration, where it stands, and what its jobs are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.config import SearchConfig, make_config
from fuse_flows.errors import DatabaseError
from fuse_flows.schemas.step import SearchDoc
from fuse_flows.search.judge import TARGET_REACHED
from fuse_flows.search.state import SearchState
from fuse_flows.search.walkers import PATIENCE_EXHAUSTED, have_lost_patience
from fuse_flows.store.failures import exception_of, last_line
from fuse_flows.store.queries import latest_step
from fuse_flows.store.requests import STOP_REQUESTED, is_stop_requested
from fuse_flows.store.tallies import outcome_counts

if TYPE_CHECKING:
    from fuse_flows.store.connection import Connection

_FINAL = ("COMPLETED", "ARCHIVED")
_ACTIVE = ("READY", "RESERVED", "RUNNING")
_STOPPED = ("FIZZLED", "PAUSED", "DEFUSED")
#: Failed jobs that do not stop a search: the job that waits for them records the failure.
_TOLERATED = {"state": "FIZZLED", "spec.may_fail": True}


def search_config_of(connection: Connection, search_id: str, **changes: dict[str, Any]) -> SearchConfig:
    """Return the configuration a search was submitted with.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    **changes
        Sections of the configuration with the keys that shall be different now.

    Returns
    -------
    SearchConfig
        Checked again.

    Raises
    ------
    DatabaseError
        If neither the LaunchPad nor the JobStore holds it.
    """
    query = {"metadata.search_id": search_id}
    submitted = connection.launchpad.workflows.find_one(query | {"metadata.config": {"$exists": True}})
    begun = connection.outputs.find_one(query | {"output.kind": "start"}, {"output.config": 1})
    if submitted is not None:
        values = submitted["metadata"]["config"]
    elif begun is not None:
        values = begun["output"]["config"]
    else:
        raise DatabaseError(f"search: {connection.uri} has no configuration of {search_id}; was its LaunchPad reset?")
    return make_config(values | {section: values[section] | change for section, change in changes.items()})


def search_document(connection: Connection, search_id: str) -> SearchDoc:
    """Return a search at a glance.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.

    Returns
    -------
    SearchDoc
        Put together from its newest step, its candidates and its jobs.
    """
    config = search_config_of(connection, search_id)
    steps = [latest_step(connection, search_id, walker) for walker in range(config.walkers.number)]
    outputs = [found["output"] for found in steps if found is not None]
    states = [SearchState.model_validate(output["state"]) for output in outputs]
    outcomes = outcome_counts(connection, search_id)
    jobs = jobs_by_state(connection, search_id)
    unfinished = not set(jobs) <= set(_FINAL) and unfinished_jobs(connection, search_id) > 0
    reason = _stop_reason(config, states)
    if reason is None and is_stop_requested(connection.launchpad, search_id):
        reason = STOP_REQUESTED
    stopped = reason == STOP_REQUESTED and not any(jobs.get(name) for name in _ACTIVE)
    return SearchDoc(
        search_id=search_id,
        formula=config.formula,
        status="stopped" if stopped else "waiting" if not outcomes else "running" if unfinished else "finished",
        stop_reason=reason,
        n_structures=sum(outcomes.values()),
        max_structures=config.stop.max_structures,
        outcomes=outcomes,
        jobs=jobs,
        best_energy_per_atom=_best_energy(connection, config, states),
        last_move=_last_move(outputs),
        states=states,
        config=config.model_dump(mode="json"),
    )


def jobs_by_state(connection: Connection, search_id: str) -> dict[str, int]:
    """Count the jobs of a search on the LaunchPad by their state.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.

    Returns
    -------
    dict
        State of FireWorks to number.
    """
    stages = [{"$match": {"spec.search_id": search_id}}, {"$group": {"_id": "$state", "n": {"$sum": 1}}}]
    return {found["_id"]: found["n"] for found in connection.launchpad.fireworks.aggregate(stages)}


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
    query: dict[str, Any] = {"spec.search_id": search_id, "state": {"$nin": list(_FINAL)}, "$nor": [_TOLERATED]}
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
        {"spec.search_id": search_id or {"$exists": True}, "state": {"$in": list(_ACTIVE)}}
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
    unfinished = {"$in": ["WAITING", *_ACTIVE, *_STOPPED]}
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


def _stop_reason(config: SearchConfig, states: list[SearchState]) -> str | None:
    """Return why all walkers have ended, or None if any of them goes on; the reason that most of them have."""
    if have_lost_patience(config, states):
        return PATIENCE_EXHAUSTED
    reasons = [state.stop_reason for state in states if state.stop_reason]
    if TARGET_REACHED in reasons:
        return TARGET_REACHED
    if len(reasons) < config.walkers.number:
        return None
    return max(reasons, key=reasons.count)


def _best_energy(connection: Connection, config: SearchConfig, states: list[SearchState]) -> float | None:
    """Return the lowest energy: from the states of the walks, or from first populations while those are relaxed."""
    energies = [state.best.energy_per_atom for state in states if state.best is not None]
    if len(states) < config.walkers.number:
        kinds = ("enthalpy_per_atom", "energy_per_atom")  # the latter: of before there was pressure
        lowest = {"$ifNull": [{"$min": f"$output.candidates.{kind}"} for kind in kinds]}
        stages: list[dict[str, Any]] = [
            {"$match": {"metadata.search_id": config.search_id, "output.kind": "population"}},
            {"$group": {"_id": None, "lowest": {"$min": lowest}}},
        ]
        found = next(iter(connection.outputs.aggregate(stages)), {"lowest": None})
        energies += [] if found["lowest"] is None else [found["lowest"]]
    return min(energies, default=None)


def _last_move(outputs: list[dict[str, Any]]) -> str | None:
    """Return the move of the newest candidate of the walker that has come farthest."""
    moved = [output for output in outputs if output["candidates"]]
    farthest = max(moved, key=lambda output: output["step"], default=None)
    return None if farthest is None else farthest["candidates"][-1]["move"]
