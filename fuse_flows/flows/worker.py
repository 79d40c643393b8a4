"""A worker: it takes jobs of searches from the LaunchPad until none is left, or until its own end is near."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError
from fuse_flows.flows.idle import IdleRepair
from fuse_flows.jobs.allocation import current_ending, ending_of_process, look_at
from fuse_flows.jobs.trust import only_our_tasks
from fuse_flows.settings import settings
from fuse_flows.store.jobs import active_jobs, is_between_jobs
from fuse_flows.store.processes import worker_name
from fuse_flows.store.repair import repair

if TYPE_CHECKING:
    from fireworks import FWorker

    from fuse_flows.jobs.allocation import Ending
    from fuse_flows.store.connection import Connection

POLL_SECONDS = 0.2
QUIET_SECONDS = 20.0
"""For how long jobs may wait with nothing before them; then a crash left them, and they are mended."""
OUTAGE_POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


def work(connection: Connection, search_id: str | None = None, *, category: str | None = None) -> int:
    """Run jobs in this process until nobody works on them any more, or until this process must end.

    While others work on the last jobs, it waits for what they add, and now and then looks whether they are still alive:
    lost jobs are made ready to run again. On SIGTERM or SIGINT, and shortly before the end of the allocation of a
    queueing system, the structure in hand is finished first; the job stores what it has and leaves the rest to others.
    While the database is away, it waits (``FUSE_FLOWS_OUTAGE_MINUTES``), then mends what the
    interruption left behind.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search whose jobs are run; None for all searches.
    category
        Run only jobs of this category of FireWorks; ``__none__`` for those without one; None for all.

    Returns
    -------
    int
        Jobs that were run.

    Raises
    ------
    DatabaseError
        If the database stays away.
    """
    from fireworks.core.rocket_launcher import launch_rocket
    from pymongo.errors import ConnectionFailure

    # what jobs import takes seconds; it shall not take them between a look at the clock and the job that then begins
    import fuse_flows.flows.search  # noqa: F401

    launchpad, worker = connection.launchpad, fworker(search_id, category)
    launched, busy, idle = 0, time.monotonic(), IdleRepair(launchpad, search_id, worker.name)
    with look_at(current_ending() or replace(ending_of_process())) as ending:
        while not ending.is_near():
            try:
                if launchpad.run_exists(worker):
                    launched += bool(launch_rocket(launchpad, worker, strm_lvl="WARNING"))
                    busy = time.monotonic()
                    idle.is_busy()
                elif active_jobs(connection, search_id):
                    if not idle.look():
                        time.sleep(POLL_SECONDS)
                    busy = time.monotonic()
                elif not is_between_jobs(connection, search_id):
                    break
                elif time.monotonic() - busy < QUIET_SECONDS:
                    time.sleep(POLL_SECONDS)
                elif (mended := idle.mend()) is False:
                    break
                elif mended:
                    busy = time.monotonic()
                else:
                    time.sleep(POLL_SECONDS)
            except ConnectionFailure as error:
                log.warning("the database is away: %s", " ".join(str(error).split())[:200])
                _wait_for(connection, ending)
                report = repair(launchpad, search_id, lost_after=None, idle_worker=worker.name, patience=0.5)
                log.warning("the database is back; repaired: %s", report)
    return launched


def fworker(search_id: str | None, category: str | None = None) -> FWorker:
    """Return what a worker of ours is to FireWorks.

    Parameters
    ----------
    search_id
        The search whose jobs it takes; None for all searches.
    category
        See :func:`work`.

    Returns
    -------
    FWorker
        Named after this process. It takes no job that holds any other task than ours.
    """
    from fireworks import FWorker

    query: dict[str, Any] = {"spec.search_id": {"$exists": True} if search_id is None else search_id}
    return FWorker(name=worker_name(), category=category or "", query=query | only_our_tasks())


def _wait_for(connection: Connection, ending: Ending) -> None:
    """Wait until the database takes writes again."""
    import pymongo
    from pymongo.errors import PyMongoError

    minutes = settings().outage_minutes
    deadline = time.monotonic() + 60 * minutes
    while not ending.is_near():
        try:
            with pymongo.timeout(5.0):
                connection.launchpad.fireworks.update_one({"fw_id": -1}, {"$set": {"state": "ARCHIVED"}})
        except PyMongoError as error:
            if time.monotonic() > deadline:
                raise DatabaseError(f"the database did not come back within {minutes:g} minutes ({error})") from error
            time.sleep(OUTAGE_POLL_SECONDS)
        else:
            return
