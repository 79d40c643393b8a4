"""The Firetask that runs the jobs of a search in FireWorks.

It is jobflow's own Firetask with these additions: jobs added at run time are wrapped in it again, the next segment is
added to the LaunchPad after the output of the job is stored, jobs see a request to stop and the end of their
allocation, only trusted functions are called, and where jobflow has no JobStore configured the one in the LaunchPad's
own database is used (jobflow itself would fall back to memory and lose every output).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fireworks import FWAction, Workflow, explicit_serialize
from jobflow import Flow, Job
from jobflow.managers.fireworks import JobFiretask, flow_to_workflow, job_to_firework

from fuse_flows.jobs.allocation import current_ending, ending_of_process, look_at
from fuse_flows.jobs.continuation import Segment, collect_segments
from fuse_flows.jobs.fizzled import know_launchpad
from fuse_flows.jobs.interruption import ends_a_walk, listen_to_requests
from fuse_flows.jobs.trust import check_function
from fuse_flows.store.connection import Connection, configured_jobstore, jobstore_from_launchpad
from fuse_flows.store.once import add_once
from fuse_flows.store.priorities import priority_of
from fuse_flows.store.requests import is_stop_requested, paused_firework
from fuse_flows.store.setup import ensure_indexes

if TYPE_CHECKING:
    from fireworks import LaunchPad
    from jobflow import JobStore


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
            As of jobflow, with every new Firework wrapped in this Firetask. Where there is no time left, the job itself
            as a detour: its children wait for that.
        """
        check_function(self["job"].function)
        if current_ending() is not None:
            return self._run_or_put_back(fw_spec)
        with look_at(ending_of_process()) as ending:  # a plain rlaunch, which knows nothing of an end
            action = self._run_or_put_back(fw_spec)
        if ending.is_near():
            _fetch_no_more(self.launchpad)
        return action

    def _run_or_put_back(self, fw_spec: dict[str, Any]) -> FWAction:
        ending, priority = current_ending(), priority_of(self.launchpad, fw_spec)
        if ending is not None and ending.is_near():
            return FWAction(detours=[_rewrap(Workflow([job_to_firework(self["job"])]), priority)])
        search_id = fw_spec.get("search_id", "")
        if not ends_a_walk(self["job"].function) and is_stop_requested(self.launchpad, search_id):
            return FWAction(detours=[_rewrap(Workflow([paused_firework(job_to_firework(self["job"]))]), priority)])
        serialised_store = self.get("store")
        if serialised_store is None:
            self["store"] = _prepared_jobstore(self.launchpad)
        try:
            with (
                collect_segments() as requests,
                listen_to_requests(self.launchpad, search_id),
                know_launchpad(self.launchpad),
            ):
                action = super().run_task(fw_spec)
        finally:
            self["store"] = serialised_store
        for find_segments in requests:
            for segment in find_segments():
                add_segment(self.launchpad, segment, priority)
        for workflow in [*action.detours, *action.additions]:
            _rewrap(workflow, priority)
        return action


def add_segment(launchpad: LaunchPad, segment: Segment, priority: int | None = None) -> bool:
    """Add a segment to the LaunchPad unless it is there already.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    segment
        The segment.
    priority
        Priority of its jobs; None for FireWorks' own.

    Returns
    -------
    bool
        Whether it was added.
    """
    workflow = search_workflow(segment.job, metadata=segment.metadata, priority=priority)
    return add_once(launchpad, workflow, segment.key)


def search_workflow(flow: Flow | Job, *, priority: int | None = None, **kwargs: Any) -> Workflow:
    """Convert a Flow of search jobs to a Workflow whose jobs run in :class:`SearchFiretask`.

    Parameters
    ----------
    flow
        Flow or Job.
    priority
        Priority of its jobs; None for FireWorks' own.
    **kwargs
        Keywords of :class:`fireworks.Workflow`, such as ``metadata``.

    Returns
    -------
    Workflow
        Ready for ``lpad add`` or :func:`.add_once`.
    """
    named = Flow([flow], name=flow.name) if isinstance(flow, Job) else flow  # jobflow would call it "Flow"
    return _rewrap(flow_to_workflow(named, **kwargs), priority)


def _fetch_no_more(launchpad: LaunchPad) -> None:
    """End a plain rlaunch when it asks this LaunchPad for more, which it does once the present job is completed."""

    def end(*_: Any, **__: Any) -> bool:
        raise SystemExit(0)

    launchpad.run_exists = launchpad.checkout_fw = end


@lru_cache(maxsize=4)
def _prepared_jobstore(launchpad: LaunchPad) -> JobStore:
    """Return the JobStore that goes with a LaunchPad, indexes made; looked up once per process."""
    jobstore = configured_jobstore() or jobstore_from_launchpad(launchpad)
    jobstore.connect()
    ensure_indexes(Connection(launchpad, jobstore, "worker", "worker", f"database {launchpad.name}"))
    return jobstore


def _rewrap(workflow: Workflow, priority: int | None = None) -> Workflow:
    """Put every job of a Workflow into our own Firetask, and give it a priority."""
    for firework in workflow.fws:
        if priority is not None:
            firework.spec["_priority"] = priority
        firework.tasks = [
            SearchFiretask(job=task["job"], store=None) if isinstance(task, JobFiretask) else task
            for task in firework.tasks
        ]
    return workflow
