"""The Firetask that runs the jobs of a search in FireWorks.

It is jobflow's own Firetask with four additions: jobs added at run time are wrapped in it again, the next segment is
added to the LaunchPad after the output of the job is stored, jobs see a request to stop, and where jobflow has no
JobStore configured the one in the LaunchPad's own database is used (jobflow itself would fall back to memory and lose
every output).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fireworks import explicit_serialize
from jobflow.managers.fireworks import JobFiretask, flow_to_workflow

from fuse_flows.jobs.continuation import Segment, collect_segments
from fuse_flows.jobs.fizzled import know_launchpad
from fuse_flows.jobs.interruption import listen_to_requests
from fuse_flows.store.connection import Connection, configured_jobstore, jobstore_from_launchpad
from fuse_flows.store.once import add_once
from fuse_flows.store.setup import ensure_indexes

if TYPE_CHECKING:
    from fireworks import FWAction, LaunchPad, Workflow
    from jobflow import Flow, Job, JobStore


@explicit_serialize
class SearchFiretask(JobFiretask):
    """Run a job of a search and add what it asks for."""

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Run the job.

        Parameters
        ----------
        fw_spec
            The spec of the Firework.

        Returns
        -------
        FWAction
            As of jobflow, with every new Firework wrapped in this Firetask.
        """
        serialised_store = self.get("store")
        if serialised_store is None:
            self["store"] = _prepared_jobstore(self.launchpad)
        try:
            with (
                collect_segments() as requests,
                listen_to_requests(self.launchpad, fw_spec.get("search_id", "")),
                know_launchpad(self.launchpad),
            ):
                action = super().run_task(fw_spec)
        finally:
            self["store"] = serialised_store
        for find_segments in requests:
            for segment in find_segments():
                add_segment(self.launchpad, segment)
        for workflow in [*action.detours, *action.additions]:
            _rewrap(workflow)
        return action


def add_segment(launchpad: LaunchPad, segment: Segment) -> bool:
    """Add a segment to the LaunchPad unless it is there already.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    segment
        The segment.

    Returns
    -------
    bool
        Whether it was added.
    """
    return add_once(launchpad, search_workflow(segment.job, metadata=segment.metadata), segment.key)


def search_workflow(flow: Flow | Job, **kwargs: Any) -> Workflow:
    """Convert a Flow of search jobs to a Workflow whose jobs run in :class:`SearchFiretask`.

    Parameters
    ----------
    flow
        Flow or Job.
    **kwargs
        Keywords of :class:`fireworks.Workflow`, such as ``metadata``.

    Returns
    -------
    Workflow
        Ready for ``lpad add`` or :func:`.add_once`.
    """
    return _rewrap(flow_to_workflow(flow, **kwargs))


@lru_cache(maxsize=4)
def _prepared_jobstore(launchpad: LaunchPad) -> JobStore:
    """Return the JobStore that goes with a LaunchPad, indexes made; looked up once per process."""
    jobstore = configured_jobstore() or jobstore_from_launchpad(launchpad)
    jobstore.connect()
    ensure_indexes(Connection(launchpad, jobstore, "worker", "worker", str(launchpad.host)))
    return jobstore


def _rewrap(workflow: Workflow) -> Workflow:
    """Put every job of a Workflow into our own Firetask."""
    for firework in workflow.fws:
        firework.tasks = [
            SearchFiretask(job=task["job"], store=None) if isinstance(task, JobFiretask) else task
            for task in firework.tasks
        ]
    return workflow
