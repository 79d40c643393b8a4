"""How a segment hands over to the next one.

A search is a chain of short Workflows. The last job of a segment asks for the next segment here; the Firetask of
:mod:`fuse_flows.jobs.firetask` adds it to the LaunchPad once the job's output is stored. Where there is no such
Firetask (``run_locally``, or a Flow converted by jobflow itself) the segment is added to the running Flow instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB, Flow, Job, Response

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Segment:
    """The first job, or jobs, of a segment and the key under which they are added only once."""

    job: Job | Flow
    key: str

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the segment: those of its last job."""
        last = self.job.jobs[-1] if isinstance(self.job, Flow) else self.job
        return dict(last.metadata)


FindSegments = Callable[[], Sequence[Segment]]
"""Says, once the output of a job is stored, which segments may begin."""

_requests: ContextVar[list[FindSegments] | None] = ContextVar("fuse_flows_segments", default=None)


@contextmanager
def collect_segments() -> Iterator[list[FindSegments]]:
    """Collect the requests for segments that a job makes while the context is open."""
    requests: list[FindSegments] = []
    token = _requests.set(requests)
    try:
        yield requests
    finally:
        _requests.reset(token)


def respond_and_replace(output: dict[str, Any], following: Job | Flow) -> Response:
    """Go on with the next step in the same segment.

    Parameters
    ----------
    output
        Output of this job.
    following
        The next job, which takes over the uuid of this one with the next index; or the jobs of the next step, which
        are added behind it.

    Returns
    -------
    Response
        Output and replacement, or detour.
    """
    _forget_hosts()
    if isinstance(following, Flow):
        return Response(output=output, detour=following)
    return Response(output=output, replace=following)


def respond_and_start(output: dict[str, Any], find_segments: FindSegments) -> Response:
    """Go on with new segments.

    Parameters
    ----------
    output
        Output of this job.
    find_segments
        Which ones; asked when the output is stored.

    Returns
    -------
    Response
        The output, and the segments too where no Firetask of ours would add them.
    """
    _forget_hosts()
    requests = _requests.get()
    if requests is None:
        jobs = [segment.job for segment in find_segments()]
        return Response(output=output, addition=Flow(jobs, name=jobs[0].name) if jobs else None)
    requests.append(find_segments)
    return Response(output=output)


def _forget_hosts() -> None:
    """Cut the list of hosts, which would grow by one identifier with every step of a chain."""
    CURRENT_JOB.job.hosts = CURRENT_JOB.job.hosts[-1:]
