"""Add a Workflow to the LaunchPad at most once, whoever tries and whenever a process dies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError

if TYPE_CHECKING:
    from fireworks import LaunchPad, Workflow

ONCE = "metadata.once"


def add_once(launchpad: LaunchPad, workflow: Workflow, key: str) -> bool:
    """Add a Workflow unless one with the same key is there.

    The fireworks are inserted as WAITING, which no worker takes; then the workflow document, whose unique key decides
    who was first; then the first fireworks become READY. Whoever loses removes its own fireworks. A process that dies
    half way leaves either fireworks that nobody runs (``repair`` removes them; the next call adds the Workflow), or a
    Workflow that is not released yet (the next call, or ``repair``, releases it).

    Parameters
    ----------
    launchpad
        The LaunchPad, with the unique index of :func:`fuse_flows.store.setup.ensure_indexes`.
    workflow
        A new Workflow; it gets ids and ``metadata["once"]``.
    key
        What must not be there twice.

    Returns
    -------
    bool
        Whether it was added by this call.
    """
    from pymongo.errors import DuplicateKeyError

    if release(launchpad, key):
        return False
    _require_index(launchpad)
    workflow.metadata["once"] = key
    roots = workflow.root_fw_ids
    for firework in workflow:
        firework.state = "WAITING"
    old_new = launchpad._upsert_fws(list(workflow.id_fw.values()), reassign_all=True)  # noqa: SLF001 - as in add_wf
    workflow._reassign_ids(old_new)  # noqa: SLF001 - as in LaunchPad.add_wf
    for fw_id in workflow.id_fw:
        workflow.fw_states[fw_id] = "WAITING"
    for root in roots:
        workflow.fw_states[old_new[root]] = "READY"
    try:
        launchpad.workflows.insert_one(workflow.to_db_dict())
    except DuplicateKeyError:
        launchpad.fireworks.delete_many({"fw_id": {"$in": list(workflow.id_fw)}})
        release(launchpad, key)
        return False
    release(launchpad, key)
    return True


def release(launchpad: LaunchPad, key: str) -> bool:
    """Make the first fireworks of a Workflow ready to run, if it is there; harmless when they have run.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    key
        The key the Workflow was added under.

    Returns
    -------
    bool
        Whether there is such a Workflow.
    """
    found = launchpad.workflows.find_one({ONCE: key}, {"nodes": 1, "parent_links": 1})
    if found is None:
        return False
    release_roots(launchpad, found)
    return True


def release_roots(launchpad: LaunchPad, workflow: dict[str, Any]) -> int:
    """Make those fireworks of a Workflow ready that wait although they have no parents.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    workflow
        Its document, with ``nodes`` and ``parent_links``.

    Returns
    -------
    int
        How many became ready.
    """
    roots = [fw_id for fw_id in workflow["nodes"] if str(fw_id) not in workflow["parent_links"]]
    update = {"$set": {"state": "READY", "updated_on": datetime.now(UTC)}}
    return launchpad.fireworks.update_many({"fw_id": {"$in": roots}, "state": "WAITING"}, update).modified_count


def _require_index(launchpad: LaunchPad) -> None:
    """Refuse to work without the unique index, on which everything here rests."""
    indexes = launchpad.workflows.index_information().values()
    if not any(index["key"] == [(ONCE, 1)] and index.get("unique") for index in indexes):
        raise DatabaseError("the LaunchPad lacks the index on metadata.once; run: fuse-flows init")
