"""What a user asks of a search while it runs: to stop at the next structure's boundary.

A request is one document in the LaunchPad's database, read by its ``_id`` after each structure of a walk, whoever
runs it. Jobs that nobody has begun are paused, so that no worker of any kind (``run``, ``rlaunch``, ``qlaunch``) takes
them. The request keeps their ids, so that withdrawing it releases these and no others, also if it is cut short.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fireworks import Firework, LaunchPad
    from pymongo.collection import Collection

REQUESTS = "fuse_requests"
PUT_BACK = "put_back_for_stop"
"""Mark in the spec of jobs that a worker took although their search was asked to stop, and put back."""
STOP_REQUESTED = "stop requested"
"""The reason that a search records when it ends on request."""

_NOT_BEGUN = ("READY", "RESERVED")


def request_stop(launchpad: LaunchPad, search_id: str) -> int:
    """Ask a search to stop.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search. A job that runs ends after its present structure, one of the first population after its last.

    Returns
    -------
    int
        How many jobs that had not begun were paused.
    """
    update: dict[str, Any] = {
        "$set": {"stop": True, "requested_on": datetime.now(UTC)},
        "$setOnInsert": {"paused": []},
    }
    _requests(launchpad).update_one({"_id": search_id}, update, upsert=True)
    query = {"spec.search_id": search_id, "state": {"$in": list(_NOT_BEGUN)}}
    found = [firework["fw_id"] for firework in launchpad.fireworks.find(query, {"fw_id": 1})]
    _requests(launchpad).update_one({"_id": search_id}, {"$addToSet": {"paused": {"$each": found}}})
    return sum(launchpad.pause_fw(fw_id) is not None for fw_id in found)


def withdraw_stop(launchpad: LaunchPad, search_id: str) -> bool:
    """Take a request back and release the jobs that were paused for it.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search.

    Returns
    -------
    bool
        Whether there was a request.
    """
    found = _requests(launchpad).find_one_and_update({"_id": search_id}, {"$set": {"stop": False}})
    if found is None:
        return False
    ours = [{"fw_id": {"$in": found["paused"]}}, {f"spec.{PUT_BACK}": True}]
    paused = {"spec.search_id": search_id, "state": "PAUSED", "$or": ours}
    update = {"$set": {"state": "READY", "updated_on": datetime.now(UTC)}, "$unset": {f"spec.{PUT_BACK}": True}}
    launchpad.fireworks.update_many(paused, update)
    _requests(launchpad).delete_one({"_id": search_id})
    return True


def paused_firework(firework: Firework) -> Firework:
    """Make a new Firework one that nobody runs until the request of its search is withdrawn.

    Parameters
    ----------
    firework
        A Firework that is not on the LaunchPad yet.

    Returns
    -------
    Firework
        The same.
    """
    firework.state = "PAUSED"
    firework.spec[PUT_BACK] = True
    return firework


def is_stop_requested(launchpad: LaunchPad, search_id: str) -> bool:
    """Tell whether a search shall stop; one read by ``_id``, see :func:`stops_requested`.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search.
    """
    return bool(stops_requested(launchpad, [search_id]))


def stops_requested(launchpad: LaunchPad, search_ids: Sequence[str]) -> set[str]:
    """Return those of some searches that shall stop."""
    asked = {"_id": {"$in": [*search_ids]}, "stop": True}
    return {found["_id"] for found in _requests(launchpad).find(asked, {"_id": 1})}


def _requests(launchpad: LaunchPad) -> Collection[dict[str, Any]]:
    return launchpad.db[REQUESTS]
