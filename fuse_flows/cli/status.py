"""Commands that show how searches are doing: once, or live; and how many structures they make."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuse_flows.cli.console import console, table
from fuse_flows.cli.options import LaunchPadFile
from fuse_flows.cli.results import counts_in_words, generation_lines, print_fallback

if TYPE_CHECKING:
    from rich.table import Table

    from fuse_flows.schemas.step import SearchDoc
    from fuse_flows.search.state import SearchState
    from fuse_flows.store.connection import Connection
    from fuse_flows.store.overview import Overview
    from fuse_flows.store.queries import SearchSummary

BIN_HOURS = (0.1, 0.25, 0.5, 1.0, 3.0, 6.0, 12.0, 24.0, 168.0)
MOST_BINS = 24
_MOVE_WIDTH = 33


def status(
    search: Annotated[str | None, typer.Argument(help="Search id, its beginning, or a formula.")] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again until the searches end.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")] = 3.0,
    launchpad: LaunchPadFile = None,
) -> None:
    """Show all searches, or one of them in detail.

    With --watch a table that changes while they run; where the output is no terminal, a line whenever something has
    changed.
    """
    from fuse_flows.store.connection import connect
    from fuse_flows.store.overview import overview, overviews
    from fuse_flows.store.pools import pool_summary
    from fuse_flows.store.queries import find_search

    connection = connect(launchpad)
    search_id = None if search is None else find_search(connection, search)
    if watch:
        with suppress(KeyboardInterrupt):
            _watch(connection, search_id, every)
    elif search_id is not None:
        found = overview(connection, search_id)
        print_search(found.document, pool_summary(connection, search_id), found)
    else:
        console.print(_table(*overviews(connection)))


def throughput(
    search: Annotated[
        str | None, typer.Argument(help="Search id, its beginning, or a formula; default: all searches.")
    ] = None,
    *,
    hours: Annotated[
        float | None, typer.Option(min=0.01, help="Hours in one row; default: as many as make at most 24 rows.")
    ] = None,
    last: Annotated[float | None, typer.Option(min=0.01, help="Only the last so many hours.")] = None,
    launchpad: LaunchPadFile = None,
) -> None:
    """Show how many structures were made per hour, over time, by tier and by worker."""
    from datetime import timedelta

    from fuse_flows.store.connection import connect
    from fuse_flows.store.queries import find_search, known_searches
    from fuse_flows.store.tallies import by_tier, by_worker, tallies

    connection = connect(launchpad)
    names = known_searches(connection) if search is None else [find_search(connection, search)]
    since = None if last is None else datetime.now(UTC) - timedelta(hours=last)
    done = sorted((one for name in names for one in tallies(connection, name, since)), key=lambda one: one.ended)
    if not done:
        console.print("no structure was made" + ("" if last is None else f" in the last {last:g} hours"))
        return
    console.print(_rates(done, hours))
    rows = table("tier", "relaxations", "seconds", "seconds each", "per hour and worker")
    for name, number, seconds in by_tier(done):
        each = seconds / number if number else 0.0
        rows.add_row(name, str(number), f"{seconds:.0f}", f"{each:.2f}", f"{3600 / each:.0f}" if each else "")
    console.print(rows)
    rows = table("worker", "structures", "first", "last", "per hour")
    for worker, number, first, latest in by_worker(done):
        span = (latest - first).total_seconds() / 3600
        rate = f"{number / span:.0f}" if span > 0 else ""
        rows.add_row(worker.removeprefix("fuse-flows@"), str(number), _local(first), _local(latest), rate)
    console.print(rows)


def _rates(done: list[Any], hours: float | None) -> Table:
    """Return the table of structures over time."""
    from fuse_flows.store.tallies import bins

    span = (done[-1].ended - done[0].ended).total_seconds() / 3600
    width = hours or next((one for one in BIN_HOURS if span / one < MOST_BINS - 1), BIN_HOURS[-1])
    rows = table("from", "structures", "per hour", "outcomes")
    for found in bins(done, width):
        rows.add_row(_local(found.begin), str(found.n), f"{found.per_hour:.0f}", counts_in_words(found.outcomes))
    return rows


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _watch(connection: Connection, search_id: str | None, every: float) -> None:
    """Look until nothing more will happen by itself."""
    from rich.live import Live

    over: dict[str, Overview] = {}
    if not console.is_terminal:
        said: dict[str, str] = {}
        while _say(found := _look(connection, search_id, over)[0], said) and not all(one.is_over for one in found):
            time.sleep(every)
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            found, others = _look(connection, search_id, over)
            live.update(_table(found, others), refresh=True)
            if all(one.is_over for one in found):
                return
            time.sleep(every)


def _look(
    connection: Connection, search_id: str | None, over: dict[str, Overview]
) -> tuple[list[Overview], list[SearchSummary]]:
    """Look at the searches; those that were over at the last look are not looked at again."""
    from fuse_flows.store.overview import overview, overviews

    found, others = overviews(connection, over) if search_id is None else ([overview(connection, search_id)], [])
    over.update({one.document.search_id: one for one in found if one.is_over})
    return found, others


def _say(found: list[Overview], said: dict[str, str]) -> bool:
    """Print a line for each search that has changed."""
    for one in found:
        search = one.document
        best = "" if search.best_energy_per_atom is None else f", best {search.best_energy_per_atom:.4f} eV/atom"
        steps = "" if not search.states else f", steps {_steps(search)}"
        line = f"{search.status} {search.n_structures}/{search.max_structures}{steps}{best}; jobs: {_jobs(one)}"
        if said.get(search.search_id) != line:
            said[search.search_id] = line
            rate = f"; {one.per_hour:.0f} per hour" if one.per_hour else ""
            now = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
            console.print(f"{now} {search.search_id}: {line}{rate}", markup=False)
    return True


def _table(found: list[Overview], others: list[SearchSummary]) -> Table:
    """Return all searches, one row each."""
    columns = ("search", "status", "structures", "walkers: steps", "best (eV/atom)", "outcomes", "jobs", "per hour")
    priorities = any(one.priority is not None for one in found)
    rows = table(*columns, *(["priority"] if priorities else []))
    for one in found:
        search = one.document
        rows.add_row(
            search.search_id,
            search.status,
            f"{search.n_structures}/{search.max_structures}",
            f"{search.config['walkers']['number']}: {_steps(search)}",
            "" if search.best_energy_per_atom is None else f"{search.best_energy_per_atom:.4f}",
            counts_in_words(search.outcomes),
            _jobs(one),
            f"{one.per_hour:.0f}" if one.per_hour else "",
            *([("" if one.priority is None else str(one.priority))] if priorities else []),
        )
    for summary in others:
        rows.add_row(summary.search_id, "configuration lost", str(summary.n_candidates))
    return rows


def _steps(search: SearchDoc) -> str:
    """Return how far the walkers are: the number of steps, or the range of it."""
    steps = sorted({state.step for state in search.states})
    return "" if not steps else str(steps[0]) if len(steps) == 1 else f"{steps[0]}-{steps[-1]}"


def _jobs(shown: Overview) -> str:
    return ", ".join(f"{name} {number}" for name, number in shown.jobs.items()) or "none"


def print_search(search: SearchDoc, pool: dict[str, Any] | None, shown: Overview | None = None) -> None:
    """Print a search in detail.

    Parameters
    ----------
    search
        The search.
    pool
        From :func:`.pool_summary`.
    shown
        What is known of its jobs beside their states; None for nothing.
    """
    console.print(f"[bold]{search.search_id}[/bold]: {search.status} {search.stop_reason or ''}")
    console.print(
        f"  structures  {search.n_structures} of {search.max_structures} ({counts_in_words(search.outcomes)})"
    )
    console.print(f"  jobs        {counts_in_words(search.jobs)}")
    if shown is not None:
        lost = f"; lost {shown.lost} (fuse-flows repair)" if shown.lost else ""
        console.print(f"  now         {_jobs(shown)}{lost}, {shown.per_hour:.0f} structures per hour")
        if shown.priority is not None:
            console.print(f"  priority    {shown.priority}")
    if pool is not None:
        used = sum(len(state.used_pool_members) for state in search.states)
        console.print(
            f"  pool        {used} of {pool['n_members']} used; files skipped: {counts_in_words(pool['skipped'])}"
        )
        console.print(f"              dropped: {counts_in_words(pool['dropped'])}")
        for line in generation_lines(pool.get("generated", [])):
            console.print(f"  generated   {line}")
        print_fallback(pool)
    for state in search.states:
        _print_walker(state, search.config, "walker" if len(search.states) == 1 else f"walker {state.walker}")


def _print_walker(state: SearchState, config: dict[str, Any], name: str) -> None:
    where = f"step {state.step}, T {state.temperature:.4f} eV/atom, {state.since_best} since best"
    if state.exchanges.proposed:
        where += f", {state.exchanges.accepted} of {state.exchanges.proposed} exchanges"
    console.print(f"  {name:<12}{where}")
    if state.best is not None:
        what = f"enthalpy at {config['pressure']:g} GPa, " if config.get("pressure") else ""
        best = f"{state.best.energy_per_atom:.5f} eV/atom ({what}candidate {state.best.candidate_id})"
        console.print(f"  best        {best}")
    if state.policy is not None:
        console.print(f"  policy      {_learnt(state, config)}", highlight=False, soft_wrap=True)
    for move, found in state.moves.items():
        counts = f"{found.proposed} proposed, {found.accepted} accepted; failed: {counts_in_words(found.failed)}"
        console.print(f"  {move:<{_MOVE_WIDTH}}{counts}")


def _learnt(state: SearchState, config: dict[str, Any]) -> str:
    """Return what the policy says of each move that may be drawn next, by its number."""
    from fuse_flows.config import make_config
    from fuse_flows.search.policy import allowed_moves, probabilities

    search = make_config(config)
    names = allowed_moves(state, search)
    chances = probabilities(state, search, names)
    return "learnt, move " + " ".join(f"{name.number}:{p:.0%}" for name, p in zip(names, chances, strict=True))
