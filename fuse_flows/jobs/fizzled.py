"""What became of a job that left no output: being run again, failed for good, or failed for want of a set-up.

A job whose worker died is marked as failed and run again by ``lpad detect_lostruns --rerun``, or by ``repair``, in two
steps. A judge that is ready in between must not take the failure for the end.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError, DatabaseError, JobFailedError, MissingExtraError
from fuse_flows.settings import settings
from fuse_flows.store.failures import exception_of, last_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fireworks import LaunchPad

#: Exceptions that say that the machine of the worker is not set up, which is no fault of the candidate.
_SET_UP = frozenset(kind.__name__ for kind in (ConfigError, MissingExtraError, DatabaseError))
#: So are these: every error of an engine is caught where it runs, but a database or a disk may fail under it.
_OF_MACHINE = re.compile(r"(pymongo|gridfs|bson)\.|OSError|PermissionError|MemoryError|ConnectionError|TimeoutError")
_POLL_SECONDS = 0.5

_launchpad: ContextVar[LaunchPad | None] = ContextVar("fuse_flows_launchpad", default=None)


@contextmanager
def know_launchpad(launchpad: LaunchPad) -> Iterator[None]:
    """Let the jobs that run while the context is open ask what became of others; else nobody can be asked."""
    token = _launchpad.set(launchpad)
    try:
        yield
    finally:
        _launchpad.reset(token)


def why_fizzled(uuid: str, search_id: str) -> str:
    """Wait until it is certain that a job has failed, and say why it did.

    Parameters
    ----------
    uuid
        The job.
    search_id
        Its search.

    Returns
    -------
    str
        The last line of its stack trace, or that it was lost.

    Raises
    ------
    JobFailedError
        If it is not failed, or not any more, or if its machine is not set up for it: judged now, the candidate
        would be recorded as a failure that it is not.
    """
    launchpad = _launchpad.get()
    if launchpad is None:
        return "no output"
    deadline = time.monotonic() + settings().fizzled_grace
    while True:
        firework = _newest(launchpad, uuid, search_id)
        if firework is None or firework["state"] != "FIZZLED":
            state = "not on the LaunchPad" if firework is None else firework["state"]
            raise JobFailedError(f"job {uuid} has no output yet ({state}); it has to be run first")
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_SECONDS)
    exception = exception_of(launchpad, firework)
    last = last_line(exception) or "it was lost"
    if is_of_machine(exception, last):
        raise JobFailedError(f"job '{firework['name']}' failed: {last}")
    return " ".join(last.split())[:200]


def is_of_machine(exception: dict[str, Any], last: str) -> bool:
    """Tell whether a job failed because of its machine, whatever candidate it had.

    Parameters
    ----------
    exception
        What FireWorks stored of the exception.
    last
        Last line of its stack trace.
    """
    return (exception.get("_details") or {}).get("error") in _SET_UP or _OF_MACHINE.match(last) is not None


def _newest(launchpad: LaunchPad, uuid: str, search_id: str) -> dict[str, Any] | None:
    query = {"spec.search_id": search_id, "spec._tasks.job.uuid": uuid}
    return launchpad.fireworks.find_one(query, {"state": 1, "name": 1, "launches": 1}, sort=[("fw_id", -1)])
