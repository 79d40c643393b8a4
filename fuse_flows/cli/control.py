"""The command that stops a running search."""

from __future__ import annotations

from typing import Annotated

import typer

from fuse_flows.cli.console import console
from fuse_flows.cli.options import LaunchPadFile


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
    from fuse_flows.store.queries import find_search
    from fuse_flows.store.requests import request_stop, withdraw_stop
    from fuse_flows.store.searches import active_jobs, search_config_of

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
