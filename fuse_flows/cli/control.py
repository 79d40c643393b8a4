"""Commands that stop a running search, and mend what dead workers left behind."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from fuse_flows.cli.console import console
from fuse_flows.cli.options import LaunchPadFile, SearchName


def stop(
    search: Annotated[str, typer.Argument(help="Search id, its beginning, or a formula.")],
    *,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take the request back; rlaunch and qlaunch go on with the search.")
    ] = False,
    launchpad: LaunchPadFile = None,
) -> None:
    """Let a running search stop at the next structure's boundary, whoever works on it.

    'fuse-flows resume' withdraws the request and goes on with the search here; its structures will be the same as
    without the stop.
    """
    from fuse_flows.flows.local import extend
    from fuse_flows.store.connection import connect
    from fuse_flows.store.jobs import active_jobs
    from fuse_flows.store.queries import find_search
    from fuse_flows.store.requests import request_stop, withdraw_stop
    from fuse_flows.store.searches import search_config_of

    connection = connect(launchpad)
    search_id = find_search(connection, search)
    if withdraw:
        withdrawn = withdraw_stop(connection.launchpad, search_id)
        extend(connection, search_config_of(connection, search_id))
        console.print(f"{search_id} {'may go on' if withdrawn else 'was not asked to stop'}")
    elif active_jobs(connection, search_id):
        request_stop(connection.launchpad, search_id)
        console.print(f"{search_id} stops after the structures in hand; continue with: fuse-flows resume {search_id}")
    else:
        console.print(f"{search_id} is not running")


def pause(
    searches: Annotated[
        list[str] | None, typer.Argument(metavar="[SEARCH]...", help="Search ids, their beginnings, or formulas.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All searches that are not over.")] = False,
    launchpad: LaunchPadFile = None,
) -> None:
    """Let searches rest, whoever works on them, and leave the workers to others.

    Jobs that nobody has begun are paused, those in hand end after the present structure. 'fuse-flows resume SEARCH'
    goes on here, and 'fuse-flows resume SEARCH --workers 0' wherever workers take its jobs; the structures are the
    same as without the pause.
    """
    from fuse_flows.errors import ConfigError
    from fuse_flows.store.connection import connect
    from fuse_flows.store.jobs import active_jobs, unfinished_jobs
    from fuse_flows.store.queries import find_search, known_searches
    from fuse_flows.store.requests import is_stop_requested, request_stop

    if bool(searches) == every:
        raise ConfigError("search", "name the searches to pause, or give --all")
    connection = connect(launchpad)
    named = known_searches(connection) if every else [find_search(connection, one) for one in searches or ()]
    resting = 0
    for search_id in named:
        if unfinished_jobs(connection, search_id):
            resting += 1
            if is_stop_requested(connection.launchpad, search_id) and not active_jobs(connection, search_id):
                console.print(f"{search_id} is paused already; continue with: fuse-flows resume {search_id}")
                continue
            paused = request_stop(connection.launchpad, search_id)
            jobs = f"{paused} jobs that had not begun"
            console.print(f"{search_id} pauses ({jobs}); continue with: fuse-flows resume {search_id}")
        elif not every:
            console.print(f"{search_id} is over")
    if every and not resting:
        console.print("there is nothing to pause")


def priority(
    search: SearchName,
    number: Annotated[int, typer.Argument(metavar="PRIORITY", help="Whole number; higher ones go first.")],
    launchpad: LaunchPadFile = None,
) -> None:
    """Give the jobs of a search a priority, those of today and those that will follow.

    Workers of all kinds take the ready job of highest priority. Searches without one come last.
    """
    from fuse_flows.store.connection import connect
    from fuse_flows.store.priorities import set_priority
    from fuse_flows.store.queries import find_search

    connection = connect(launchpad)
    search_id = find_search(connection, search)
    changed = set_priority(connection.launchpad, search_id, number)
    console.print(f"{search_id} has priority {number} ({changed} jobs on the LaunchPad)")


def repair(
    search: Annotated[
        str | None, typer.Argument(help="Search id, its beginning, or a formula; default: the whole LaunchPad.")
    ] = None,
    *,
    lost_after: Annotated[
        float | None,
        typer.Option(help="Seconds without a ping after which a worker elsewhere is lost; default: as FireWorks says."),
    ] = None,
    launchpad: LaunchPadFile = None,
) -> None:
    """Mend what lost workers left behind, so that whoever works on the searches (rlaunch, qlaunch) goes on with them.

    Safe while workers are alive. Jobs that failed are made ready to run once more.
    """
    from fireworks.fw_config import RUN_EXPIRATION_SECS

    from fuse_flows.errors import DatabaseError
    from fuse_flows.flows.local import extend
    from fuse_flows.store import repair as mending
    from fuse_flows.store.connection import connect
    from fuse_flows.store.queries import find_search, search_ids
    from fuse_flows.store.searches import search_config_of

    connection = connect(launchpad)
    search_id = None if search is None else find_search(connection, search)
    seconds = RUN_EXPIRATION_SECS if lost_after is None else lost_after
    report = mending.repair(connection.launchpad, search_id, lost_after=seconds)
    for name, number in vars(report).items():
        if number:
            console.print(f"{name:<12}{number}")
    for known in [search_id] if search_id else [found.search_id for found in search_ids(connection)]:
        with suppress(DatabaseError):  # its configuration may be lost
            if extend(connection, search_config_of(connection, known)):
                console.print(f"{known} goes on")
    if not report.anything:
        console.print("nothing was broken")
