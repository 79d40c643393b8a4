"""How a segment hands over to the next one.

A search is a chain of short Workflows. The last job of a segment asks for the next segment here; the Firetask of
:mod:`fuse_flows.jobs.firetask` adds it to the LaunchPad once the job's output is stored. Where there is no such
Firetask (``run_locally``, or a Flow converted by jobflow itself) the segment is added to the running Flow instead.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Job, Response

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Segment:
    """The first job of a segment and the key under which it is added only once."""

    job: Job
    key: str


_requests: ContextVar[list[Segment] | None] = ContextVar("fuse_flows_segments", default=None)


@contextmanager
def collect_segments() -> Iterator[list[Segment]]:
    """Collect the segments that a job asks for while the context is open."""
    requests: list[Segment] = []
    token = _requests.set(requests)
    try:
        yield requests
    finally:
        _requests.reset(token)


def respond_and_replace(output: dict[str, Any], following: Job) -> Response:
    """Go on with the next job of the same segment.

    Parameters
    ----------
    output
        Output of this job.
    following
        The next job; it takes over the uuid of this one with the next index.

    Returns
    -------
    Response
        Output and replacement.
    """
    _forget_hosts()
    return Response(output=output, replace=following)


def respond_and_start(output: dict[str, Any], segment: Segment) -> Response:
    """Go on with a new segment.

    Parameters
    ----------
    output
        Output of this job.
    segment
        The next segment.

    Returns
    -------
    Response
        The output, and the segment too where no Firetask of ours would add it.
    """
    _forget_hosts()
    requests = _requests.get()
    if requests is None:
        return Response(output=output, addition=segment.job)
    requests.append(segment)
    return Response(output=output)


def _forget_hosts() -> None:
    """Cut the list of hosts, which would grow by one identifier with every step of a chain."""
    CURRENT_JOB.job.hosts = CURRENT_JOB.job.hosts[-1:]
