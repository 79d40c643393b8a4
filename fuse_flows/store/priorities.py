"""Which search goes first: FireWorks runs the ready job of highest ``_priority``, and later jobs inherit it.

A priority given while a search runs is one document, read by its ``_id`` whenever a job adds others; so it also reaches
jobs whose makers were running when it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def priorities_of_searches(launchpad: LaunchPad, search_ids: Sequence[str]) -> dict[str, int | None]:
    """Return the priorities of searches: what was given to each, else what its first job was submitted with.

    Parameters
    ----------
    launchpad
        The LaunchPad, which is asked three times however many searches there are.
    search_ids
        The searches.

    Returns
    -------
    dict
        Search id to priority; None for FireWorks' own.
    """
    given = {
        found["_id"]: found["priority"] for found in launchpad.db[PRIORITIES].find({"_id": {"$in": [*search_ids]}})
    }
    once = {f"{name}/0/0": name for name in search_ids if name not in given}
    begun = launchpad.workflows.find({"metadata.once": {"$in": [*once]}}, {"nodes": 1, "metadata.once": 1})
    firsts = {found["nodes"][0]: once[found["metadata"]["once"]] for found in begun}
    fireworks = launchpad.fireworks.find({"fw_id": {"$in": [*firsts]}}, {"fw_id": 1, "spec._priority": 1})
    submitted = {firsts[found["fw_id"]]: found.get("spec", {}).get("_priority") for found in fireworks}
    return dict.fromkeys(search_ids) | submitted | given


def priority_of_search(launchpad: LaunchPad, search_id: str) -> int | None:
    """Return the priority of one search; see :func:`priorities_of_searches`."""
    return priorities_of_searches(launchpad, [search_id])[search_id]
