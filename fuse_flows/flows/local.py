"""Running a search from one machine: put it on the LaunchPad, start workers, extend it when its limits are raised.

The workers are FireWorks rockets on the same LaunchPad that ``rlaunch`` and ``qlaunch`` use; anybody may help them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fuse_flows.flows.search import SearchMaker
from fuse_flows.flows.worker import work
from fuse_flows.generators.files import FilePool
from fuse_flows.jobs.firetask import add_segment
from fuse_flows.jobs.meetings import newest_steps
from fuse_flows.jobs.steps import open_segments
from fuse_flows.relax.threads import thread_environment
from fuse_flows.search.judge import WALL_HOURS_REACHED, should_stop
from fuse_flows.settings import settings
from fuse_flows.store.connection import write_launchpad_file
from fuse_flows.store.jobs import unfinished_jobs
from fuse_flows.store.once import add_once
from fuse_flows.store.priorities import priority_of_search, set_priority
from fuse_flows.store.requests import is_stop_requested, withdraw_stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.config import SearchConfig
    from fuse_flows.store.connection import Connection

Submission = Literal["submitted", "continued", "extended", "finished"]

# A FW_config.yaml in the working directory wins over any other: settings fit for short jobs on this machine.
WORKER_FW_CONFIG = """\
PING_TIME_SECS: 60
RUN_EXPIRATION_SECS: 300
WFLOCK_EXPIRATION_SECS: 60
WFLOCK_EXPIRATION_KILL: true
PRINT_FW_JSON: false
"""
NO_CATEGORY = "__none__"
"""FireWorks' name for jobs without a category."""

__all__ = ["NO_CATEGORY", "add", "extend", "start_workers", "submit", "work"]


def submit(
    connection: Connection, config: SearchConfig, pool: FilePool | None = None, priority: int | None = None
) -> Submission:
    """Bring a search onto the LaunchPad, or go on with it where it stands; a request to stop is withdrawn.

    Parameters
    ----------
    connection
        The database.
    config
        The search; a search of the same identity that is there already is continued, and extended if it had stopped
        at limits that were raised since.
    pool
        The structures of a search with a pool, from :func:`.read_pool`.
    priority
        Priority of its jobs; None to leave it as it is.

    Returns
    -------
    str
        What was done: ``submitted``, ``continued`` (jobs are waiting or running), ``extended`` or ``finished``.
    """
    withdraw_stop(connection.launchpad, config.search_id)
    return add(connection, config, pool, priority)


def add(
    connection: Connection, config: SearchConfig, pool: FilePool | None = None, priority: int | None = None
) -> Submission:
    """Bring a search onto the LaunchPad; see :func:`submit`, but one that was asked to stop stays stopped."""
    workflow = SearchMaker(config, pool or FilePool()).workflow(priority)
    added = add_once(connection.launchpad, workflow, f"{config.search_id}/0/0")
    if priority is not None:
        set_priority(connection.launchpad, config.search_id, priority)
    if added:
        return "submitted"
    if unfinished_jobs(connection, config.search_id):
        return "continued"
    return "extended" if extend(connection, config) else "finished"


def extend(connection: Connection, config: SearchConfig) -> bool:
    """Add segments to walks that have come to their end, if their limits allow more and nobody asked them to stop.

    As long as any job of a walker is unfinished, its walk goes on from there, and a second segment would fork it.

    Parameters
    ----------
    connection
        The database.
    config
        The search with its present limits.

    Returns
    -------
    bool
        Whether there is more to do.
    """
    newest = newest_steps(connection.jobstore, config)
    idle = [walker for walker in newest if not unfinished_jobs(connection, config.search_id, walker)]
    now = datetime.now(UTC)
    if is_stop_requested(connection.launchpad, config.search_id):
        return False
    if any(should_stop(newest[walker][0], config, now=now) == WALL_HOURS_REACHED for walker in idle):
        return False
    segments = open_segments(config, newest, idle)
    priority = priority_of_search(connection.launchpad, config.search_id) if segments else None
    added = [add_segment(connection.launchpad, segment, priority) for segment in segments]
    return any(added)


def start_workers(
    connection: Connection, search_id: str, number: int, folder: Path, categories: Sequence[str] = ()
) -> list[subprocess.Popen]:
    """Start worker processes for a search.

    Parameters
    ----------
    connection
        The database; the workers get a my_launchpad.yaml that leads to it, readable by its owner only.
    search_id
        The search whose jobs they take.
    number
        How many.
    folder
        Working directory of the workers, with their configuration and logs.
    categories
        Categories of the search's queue tiers: each gets one more worker of its own, and the others take the jobs
        without a category. Without any, workers take all jobs.

    Returns
    -------
    list of subprocess.Popen
        In sessions of their own, so that Ctrl-C reaches them as a request and not in the middle of a job.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "FW_config.yaml").write_text(WORKER_FW_CONFIG, encoding="utf-8")
    write_launchpad_file(connection, folder / "my_launchpad.yaml")
    command = [sys.executable, "-m", "fuse_flows.cli", "worker", search_id, "--launchpad", "my_launchpad.yaml"]
    environment = os.environ | thread_environment(settings().threads)
    for name in ("JOBFLOW_CONFIG_FILE", "FW_CONFIG_FILE"):
        if name in environment:
            environment[name] = str(Path(environment[name]).resolve())
    workers = []
    own = [*[NO_CATEGORY if categories else ""] * number, *categories]
    for place, category in enumerate(own, start=1):
        with (folder / f"worker-{place}.log").open("a", encoding="utf-8") as log:
            workers.append(
                subprocess.Popen(  # noqa: S603 - our own command line
                    [*command, "--category", category],
                    cwd=folder,
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
    return workers
