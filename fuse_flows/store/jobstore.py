"""Which JobStore holds the outputs of jobs: jobflow's own choice, or one in the database of the LaunchPad."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fireworks import LaunchPad
    from jobflow import JobStore

OUTPUTS = "outputs"
BLOBS = "outputs_blobs"


def configured_jobstore() -> JobStore | None:
    """Return the JobStore that jobflow is configured with.

    Returns
    -------
    JobStore or None
        None if the configuration names none, in which case jobflow itself would keep the outputs in memory.

    Raises
    ------
    DatabaseError
        If ``JOBFLOW_CONFIG_FILE`` names a missing or unreadable file (jobflow ignores a missing one), or the store
        is not a MongoDB.
    """
    from jobflow import SETTINGS, JobflowSettings
    from maggma.stores import MemoryStore, MongoStore

    file = os.environ.get("JOBFLOW_CONFIG_FILE")
    if file and not Path(file).exists():
        raise DatabaseError(f"JOBFLOW_CONFIG_FILE: {file} does not exist; correct the variable, or unset it")
    store = SETTINGS.JOB_STORE
    if type(store.docs_store) is MemoryStore:
        try:
            store = JobflowSettings().JOB_STORE  # the environment may have changed since jobflow was imported
        except (ValueError, KeyError, TypeError) as error:
            raise DatabaseError(
                f"{jobflow_file()} cannot be read as settings of jobflow ({one_line(error)})"
            ) from error
    if type(store.docs_store) is MemoryStore:
        return None
    if isinstance(store.docs_store, MemoryStore) or not isinstance(store.docs_store, MongoStore):
        kind = type(store.docs_store).__name__
        raise DatabaseError(f"{jobflow_file()}: JOB_STORE is a {kind}; fuse-flows needs a MongoStore for docs_store")
    return store


@lru_cache(maxsize=4)
def jobstore_from_launchpad(launchpad: LaunchPad) -> JobStore:
    """Return a JobStore in the database of a LaunchPad: documents in ``outputs``, large data in GridFS.

    Parameters
    ----------
    launchpad
        The LaunchPad; address, credentials and TLS options are taken from it.

    Returns
    -------
    JobStore
        Connected; the same one each time for the same LaunchPad.
    """
    from jobflow import JobStore

    jobstore = JobStore.from_dict_spec(jobstore_spec(launchpad))
    jobstore.connect()
    return jobstore


@contextlib.contextmanager
def use_jobstore(jobstore: JobStore) -> Iterator[None]:
    """Make jobs that run in this process store their outputs in a JobStore.

    Parameters
    ----------
    jobstore
        The store; it never enters the documents of the LaunchPad, so its password stays out of them.

    Yields
    ------
    None
        While the store is in place.
    """
    from jobflow import SETTINGS

    before = SETTINGS.JOB_STORE
    SETTINGS.JOB_STORE = jobstore
    try:
        yield
    finally:
        SETTINGS.JOB_STORE = before


def jobflow_file() -> str:
    """Return the file that jobflow reads its settings from."""
    from jobflow.settings import DEFAULT_CONFIG_FILE_PATH

    return os.environ.get("JOBFLOW_CONFIG_FILE") or DEFAULT_CONFIG_FILE_PATH


def jobstore_spec(launchpad: LaunchPad) -> dict[str, Any]:
    """Describe the JobStore in the database of a LaunchPad as jobflow's configuration does.

    Parameters
    ----------
    launchpad
        The LaunchPad.

    Returns
    -------
    dict
        With the keys ``docs_store`` and ``additional_stores``; it holds the password, if there is one.
    """
    where: dict[str, Any] = {"database": launchpad.name, "mongoclient_kwargs": dict(launchpad.mongoclient_kwargs)}
    if launchpad.uri_mode:
        where["uri"] = launchpad.host
    else:
        where |= {"host": launchpad.host, "port": launchpad.port}
        if launchpad.username:
            where |= {"username": launchpad.username, "password": launchpad.password or ""}
            where["auth_source"] = launchpad.authsource
        elif launchpad.authsource != launchpad.name:  # certificates: a database of users without a user name
            where["mongoclient_kwargs"]["authSource"] = launchpad.authsource
    return {
        "docs_store": {"type": "MongoStore", "collection_name": OUTPUTS, **where},
        "additional_stores": {"data": {"type": "GridFSStore", "collection_name": BLOBS, **where}},
    }


def one_line(error: Exception) -> str:
    """Return the message of an exception without its line breaks, and without what pymongo adds for developers.

    Parameters
    ----------
    error
        The exception.

    Returns
    -------
    str
        One line.
    """
    text = " ".join(str(error).split())
    for addition in (", full error: {", " (configured timeouts: ", ", Timeout: "):
        text = text.split(addition)[0]
    return text
