"""Which search goes first: FireWorks runs the ready job of highest ``_priority``, and later jobs inherit it.

A priority given while a search runs is one document, read by its ``_id`` whenever a job adds others; so it also reaches
jobs whose makers were running when it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fireworks import LaunchPad

PRIORITIES = "fuse_priorities"
_FINAL = ("COMPLETED", "ARCHIVED")


def set_priority(launchpad: LaunchPad, search_id: str, priority: int) -> int:
    """Give all present and later jobs of a search a priority.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search.
    priority
        Higher ones go first; a search without one comes after all that have one, as FireWorks sorts them.

    Returns
    -------
    int
        How many jobs were not done.
    """
    launchpad.db[PRIORITIES].update_one({"_id": search_id}, {"$set": {"priority": priority}}, upsert=True)
    query = {"spec.search_id": search_id, "state": {"$nin": list(_FINAL)}}
    return launchpad.fireworks.update_many(query, {"$set": {"spec._priority": priority}}).matched_count


def priority_of(launchpad: LaunchPad, spec: dict[str, Any]) -> int | None:
    """Return the priority that jobs shall have which another job adds.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    spec
        Spec of the job that adds them.

    Returns
    -------
    int or None
        What was given to the search, else what the job itself has; None for FireWorks' own.
    """
    found = launchpad.db[PRIORITIES].find_one({"_id": spec.get("search_id", "")})
    return spec.get("_priority") if found is None else found["priority"]


def priority_of_search(launchpad: LaunchPad, search_id: str) -> int | None:
    """Return the priority of a search: what was given to it, else what its first job was submitted with.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search.

    Returns
    -------
    int or None
        None for FireWorks' own.
    """
    first = launchpad.workflows.find_one({"metadata.once": f"{search_id}/0/0"}, {"nodes": 1})
    query = {"fw_id": {"$in": [] if first is None else first["nodes"][:1]}}
    firework = launchpad.fireworks.find_one(query, {"spec._priority": 1}) or {"spec": {}}
    return priority_of(launchpad, {**firework["spec"], "search_id": search_id})
