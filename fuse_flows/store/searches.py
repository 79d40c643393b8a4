"""A search as a whole: its configuration, and where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fuse_flows.config import SearchConfig, make_config
from fuse_flows.errors import DatabaseError
from fuse_flows.schemas.step import SearchDoc
from fuse_flows.search.judge import TARGET_REACHED
from fuse_flows.search.state import SearchState
from fuse_flows.search.walkers import PATIENCE_EXHAUSTED, have_lost_patience
from fuse_flows.store.jobs import ACTIVE, jobs_of_searches
from fuse_flows.store.queries import latest_step
from fuse_flows.store.requests import STOP_REQUESTED, stops_requested
from fuse_flows.store.tallies import sums_of_searches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.store.connection import Connection
    from fuse_flows.store.jobs import Jobs

#: Where a walker is, without the structures of its candidates.
_SHOWN = ("output.state", "output.step", "output.candidates.move")


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
    values = _submitted(connection, [search_id]).get(search_id)
    if values is None:
        raise _lost(connection, search_id)
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

    Raises
    ------
    DatabaseError
        If neither the LaunchPad nor the JobStore holds its configuration.
    """
    documents = search_documents(connection, [search_id])
    if search_id not in documents:
        raise _lost(connection, search_id)
    return documents[search_id]


def search_documents(connection: Connection, search_ids: Sequence[str]) -> dict[str, SearchDoc]:
    """Return searches at a glance.

    Parameters
    ----------
    connection
        The database, which is asked once for each walker that has begun, and else five times for all searches.
    search_ids
        The searches.

    Returns
    -------
    dict
        Search id to document; searches whose configuration is lost are missing.
    """
    configs = {name: make_config(values) for name, values in _submitted(connection, search_ids).items()}
    names = list(configs)
    done, jobs = sums_of_searches(connection, names), jobs_of_searches(connection, names)
    stopping = stops_requested(connection.launchpad, names)
    documents = {}
    for name, config in configs.items():
        steps = [latest_step(connection, name, walker, _SHOWN) for walker in range(config.walkers.number)]
        outputs = [found["output"] for found in steps if found is not None]
        states = [SearchState.model_validate(output["state"]) for output in outputs]
        reason = _stop_reason(config, states) or (STOP_REQUESTED if name in stopping else None)
        documents[name] = SearchDoc(
            search_id=name,
            formula=config.formula,
            status=_status(jobs[name], reason, has_begun=bool(done[name].outcomes)),
            stop_reason=reason,
            n_structures=sum(done[name].outcomes.values()),
            max_structures=config.stop.max_structures,
            outcomes=done[name].outcomes,
            jobs=jobs[name].by_state,
            best_energy_per_atom=_best_energy(connection, config, states),
            last_move=_last_move(outputs),
            last_stored=done[name].last,
            states=states,
            config=config.model_dump(mode="json"),
        )
    return documents


def _submitted(connection: Connection, search_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the configurations that searches were submitted with, as plain values; those that are lost are missing."""
    launched = {"metadata.search_id": {"$in": [*search_ids]}, "metadata.config": {"$exists": True}}
    values: dict[str, dict[str, Any]] = {}
    for workflow in connection.launchpad.workflows.find(launched, {"metadata": 1}).sort("_id", 1):
        values.setdefault(workflow["metadata"]["search_id"], workflow["metadata"]["config"])
    left = [name for name in search_ids if name not in values]
    if left:
        begun = {"metadata.search_id": {"$in": left}, "output.kind": "start"}
        for document in connection.outputs.find(begun, {"metadata.search_id": 1, "output.config": 1}):
            values.setdefault(document["metadata"]["search_id"], document["output"]["config"])
    return values


def _lost(connection: Connection, search_id: str) -> DatabaseError:
    return DatabaseError(f"search: {connection.uri} has no configuration of {search_id}; was its LaunchPad reset?")


def _status(
    jobs: Jobs, stop_reason: str | None, *, has_begun: bool
) -> Literal["waiting", "running", "stopped", "finished"]:
    if stop_reason == STOP_REQUESTED and not any(jobs.by_state.get(name) for name in ACTIVE):
        return "stopped"
    if not has_begun:
        return "waiting"
    if jobs.unfinished:
        return "running"
    return "finished" if stop_reason is not None else "stopped"


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
