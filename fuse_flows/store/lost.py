"""Jobs whose worker is gone, looked for at the cost of a few indexed reads, and who may mend them just now."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fuse_flows.store.repair import is_lost

if TYPE_CHECKING:
    from fireworks import LaunchPad

REPAIRS = "fuse_repairs"
_ALL = "*"
_DONE = frozenset({"COMPLETED", "FIZZLED"})

Suspicion = tuple[int, Any]
"""A firework, and when it was last written: what looks broken must look the same a moment later."""


def suspicious_jobs(
    launchpad: LaunchPad, search_id: str | None, *, lost_after: float | None, idle_worker: str | None = None
) -> set[Suspicion]:
    """Return jobs that somebody seems to run, or to have reserved, while nobody does.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search; None for all searches.
    lost_after, idle_worker
        As of :func:`.repair`.

    Returns
    -------
    set
        Only jobs that are running or reserved are read, and their launches.
    """
    query = {"spec.search_id": search_id or {"$exists": True}, "state": {"$in": ["RUNNING", "RESERVED"]}}
    shown = {"fw_id": 1, "state": 1, "launches": 1, "updated_on": 1}
    fireworks = list(launchpad.fireworks.find(query, shown))
    ids = [launch_id for firework in fireworks for launch_id in firework["launches"]]
    launches = {
        launch["launch_id"]: launch
        for launch in launchpad.launches.find(
            {"launch_id": {"$in": ids}}, {"launch_id": 1, "state": 1, "fworker": 1, "state_history": 1}
        )
    }
    return {
        (firework["fw_id"], firework["updated_on"])
        for firework in fireworks
        if _is_suspicious(
            firework["state"],
            [launches[launch_id] for launch_id in firework["launches"] if launch_id in launches],
            lost_after,
            idle_worker,
        )
    }


def claim_repair(launchpad: LaunchPad, search_id: str | None, seconds: float) -> bool:
    """Ask for leave to mend: of all idle workers only one does, and not more often than every so many seconds.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search that is to be mended; None for all searches.
    seconds
        How long the leave of another worker counts, by the clock of the database.

    Returns
    -------
    bool
        Whether this process may.
    """
    from pymongo.errors import DuplicateKeyError

    repairs, key = launchpad.db[REPAIRS], search_id or _ALL
    with suppress(DuplicateKeyError):  # another process made it at the same moment
        repairs.update_one({"_id": key}, {"$setOnInsert": {"claimed": datetime.fromtimestamp(0, UTC)}}, upsert=True)
    before = {"$lte": ["$claimed", {"$subtract": ["$$NOW", int(1000 * seconds)]}]}
    claimed = repairs.update_one({"_id": key, "$expr": before}, [{"$set": {"claimed": "$$NOW"}}])
    return claimed.modified_count == 1


def _is_suspicious(
    state: str, launches: list[dict[str, Any]], lost_after: float | None, idle_worker: str | None
) -> bool:
    states = [launch["state"] for launch in launches]
    if state == "RESERVED":
        return "RESERVED" not in states
    return all(found in _DONE for found in states) or any(
        launch["fworker"]["name"] == idle_worker or is_lost(launch, lost_after)
        for launch in launches
        if launch["state"] == "RUNNING"
    )
