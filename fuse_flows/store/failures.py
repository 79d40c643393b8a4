"""The exception of a job that failed, as FireWorks keeps it with the launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fireworks import LaunchPad


def exception_of(launchpad: LaunchPad, firework: dict[str, Any]) -> dict[str, Any]:
    """Return what FireWorks stored of the exception that ended the last launch of a job.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    firework
        Document of the job; its ``launches`` are read.

    Returns
    -------
    dict
        ``_stacktrace`` and, of our own exceptions, ``_details``; empty for a job that was lost.
    """
    query = {"launch_id": {"$in": firework["launches"]}}
    launch = launchpad.launches.find_one(query, {"action": 1}, sort=[("launch_id", -1)]) or {}
    return ((launch.get("action") or {}).get("stored_data") or {}).get("_exception") or {}


def last_line(exception: dict[str, Any]) -> str:
    """Return the last line of the stack trace of such an exception; empty if there is none."""
    lines = str(exception.get("_stacktrace") or "").strip().splitlines()
    return lines[-1] if lines else ""
