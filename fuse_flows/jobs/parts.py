"""Jobs that do their work in parts: short of time, one stores what it has and is replaced by itself.

The next one, in this or any other allocation, begins with what the one before it stored; its output is the newest of
the job, the only one that others read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from fuse_flows.jobs.allocation import must_hand_over
from fuse_flows.jobs.base import read_output
from fuse_flows.jobs.continuation import respond_and_replace
from fuse_flows.jobs.interruption import is_asked_to_stop

if TYPE_CHECKING:
    from jobflow import Job, OutputReference, Response


def part_before() -> dict[str, Any] | None:
    """Return what the job before this one stored of the same work; None if this is the first."""
    this = CURRENT_JOB.job
    return None if this.index == 1 else read_output(this.uuid, this.index - 1)


def must_leave_rest() -> bool:
    """Say that a structure, or a batch of them, is done, and learn whether the rest is for another job.

    Returns
    -------
    bool
        Whether there is no time for more, or somebody asked the search to stop.
    """
    return must_hand_over() or is_asked_to_stop()


def leave_rest(stored: dict[str, Any], following: Job) -> Response:
    """Store what there is, and let the same job go on.

    Parameters
    ----------
    stored
        Output of this job.
    following
        The same job again; it gets the same title.

    Returns
    -------
    Response
        Output and replacement.
    """
    following.name = CURRENT_JOB.job.name
    return respond_and_replace(stored, following)


def done(before: OutputReference | str | None) -> str | None:
    """Return the identifier of a job that is done and need not be waited for again.

    Parameters
    ----------
    before
        Reference to it, or its identifier; None stays None.
    """
    return before if before is None or isinstance(before, str) else before.uuid
