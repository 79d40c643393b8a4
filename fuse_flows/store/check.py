"""Whether the database does what a search needs, and which configuration files decided on it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from fuse_flows.settings import settings
from fuse_flows.store.jobstore import jobflow_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_flows.store.connection import Connection


class Check(NamedTuple):
    """One thing that was tried.

    Parameters
    ----------
    name
        What was tried.
    ok
        Whether it worked.
    detail
        Where, or why it did not.
    """

    name: str
    ok: bool
    detail: str


def round_trip(connection: Connection) -> list[Check]:
    """Write, read and delete a document in every part of the LaunchPad and of the JobStore.

    Parameters
    ----------
    connection
        The database.

    Returns
    -------
    list of Check
        One for each collection of the LaunchPad, for the documents of the JobStore and for each of its additional
        stores. Nothing is left behind.
    """
    token = f"fuse-flows-check-{uuid4()}"
    checks = [
        _try(f"LaunchPad {name}", connection.uri, partial(_launchpad_trip, connection, name, key, token))
        for name, key in (("fireworks", "fw_id"), ("workflows", "name"), ("launches", "launch_id"))
    ]
    documents = partial(_jobstore_trip, connection, None, token)
    checks.append(_try("JobStore documents", connection.jobstore_source, documents))
    checks += [
        _try(f"JobStore {name}", type(store).__name__, partial(_jobstore_trip, connection, name, token))
        for name, store in connection.jobstore.additional_stores.items()
    ]
    return checks


def config_sources() -> list[tuple[str, str]]:
    """Say which configuration files count in this folder and environment.

    Returns
    -------
    list of tuple
        Name of what is configured, and the file that won with what it overrides.
    """
    import fireworks
    from fireworks import fw_config

    root = Path(fireworks.__file__).parents[1]
    folders = [Path.cwd(), Path.home() / ".fireworks", root]
    files = [str(folder / "FW_config.yaml") for folder in folders if (folder / "FW_config.yaml").exists()]
    named = os.environ.get("FW_CONFIG_FILE")
    if named and named not in files:
        files.append(named)
    jobflow = jobflow_file()
    return [
        ("FireWorks", _winner(files)),
        ("LaunchPad file", str(settings().launchpad or fw_config.LAUNCHPAD_LOC or "none: embedded MongoDB")),
        ("FWorker file", str(fw_config.FWORKER_LOC or "none: built-in defaults")),
        ("queue adapter file", str(fw_config.QUEUEADAPTER_LOC or "none: needed only for qlaunch")),
        ("jobflow", jobflow if Path(jobflow).exists() else f"{jobflow} does not exist: JobStore of the LaunchPad"),
    ]


def _winner(files: list[str]) -> str:
    if not files:
        return "none: built-in defaults"
    missing = "" if Path(files[0]).exists() else " (does not exist: built-in defaults)"
    return files[0] + missing + (f", which overrides {', '.join(files[1:])}" if files[1:] else "")


def _try(name: str, where: str, trip: Callable[[], bool]) -> Check:
    """Turn whatever happens into a line of the table."""
    try:
        same = trip()
    except Exception as error:  # noqa: BLE001 - any fault of any kind of store belongs into the table
        return Check(name, ok=False, detail=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return Check(name, ok=same, detail=where if same else f"{where}: what was read is not what was written")


def _launchpad_trip(connection: Connection, name: str, key: str, token: str) -> bool:
    """Write a document that no worker can take up."""
    collection = connection.database[name]
    try:
        collection.insert_one(
            {key: token, "state": "ARCHIVED", "nodes": [], "metadata": {}, "spec": {}, "launches": []}
        )
        found = collection.find_one({key: token})
    finally:
        collection.delete_many({key: token})
    return found is not None and collection.find_one({key: token}) is None


def _jobstore_trip(connection: Connection, additional: str | None, token: str) -> bool:
    jobstore = connection.jobstore
    payload: dict[str, Any] = {"text": token, "numbers": list(range(100))}
    try:
        document = {"uuid": token, "index": 1, "output": {"payload": payload}, "metadata": {}}
        jobstore.update(document, save={additional: ["payload"]} if additional else {})
        found = jobstore.query_one({"uuid": token}, load=True)
    finally:
        # not JobStore.remove_docs: it asks every additional store, and stops at the first that fails
        jobstore.docs_store.remove_docs({"uuid": token})
        if additional:
            jobstore.additional_stores[additional].remove_docs({"job_uuid": token})
    return found is not None and found["output"]["payload"] == payload and jobstore.query_one({"uuid": token}) is None
