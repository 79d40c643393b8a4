"""Commands that make and run searches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuse_flows.cli.console import console
from fuse_flows.cli.options import (
    Formula,
    LaunchPadFile,
    MaxStructures,
    Priority,
    SearchOptions,
    WallHours,
    search_config,
    stop_limits,
    with_search_options,
)

if TYPE_CHECKING:
    from fuse_flows.config import SearchConfig
    from fuse_flows.generators.files import FilePool
    from fuse_flows.store.connection import Connection


OutFolder = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for CIFs, energies and picture; default: the search id.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; default: one per core, at most 4.")]


@with_search_options
def run(
    formula: Formula,
    options: SearchOptions,
    out: OutFolder = None,
    workers: Workers = None,
    priority: Priority = None,
    launchpad: LaunchPadFile = None,
) -> None:
    """Search the structure of FORMULA to its end and write the best structures.

    The search runs through the LaunchPad. Ctrl-C, or a crash, leaves a search that 'fuse-flows resume' or the same
    'run' continues; a finished search whose limits are raised is extended.
    """
    from fuse_flows.flows.local import submit

    check_folder(out)
    search, pool = _read_pool(search_config(formula, options))
    connection = _connect(launchpad)
    console.print(f"search [bold]{search.search_id}[/bold] ({search.tiers[-1].calculator}) in {connection.uri}")
    console.print(f"  {submit(connection, search, pool, priority)}")
    _run_to_end(connection, search, out, workers)


def resume(
    search: Annotated[str | None, typer.Argument(help="Search id, its beginning, or a formula.")] = None,
    *,
    every: Annotated[
        bool, typer.Option("--all", help="Release all searches that were paused or stopped, for workers elsewhere.")
    ] = False,
    max_structures: MaxStructures = None,
    wall_hours: WallHours = None,
    out: OutFolder = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Worker processes; default: one per core, at most 4. 0: only release its jobs for workers elsewhere.",
        ),
    ] = None,
    launchpad: LaunchPadFile = None,
) -> None:
    """Continue a search that was stopped or interrupted, mending what a crash left behind; or extend a finished one."""
    from fuse_flows.errors import ConfigError
    from fuse_flows.flows.local import extend
    from fuse_flows.store.jobs import unfinished_jobs
    from fuse_flows.store.queries import find_search
    from fuse_flows.store.requests import withdraw_stop
    from fuse_flows.store.searches import search_config_of

    if every == (search is not None):
        raise ConfigError("search", "name the search to go on with, or give --all")
    check_folder(out)
    connection = _connect(launchpad, fresh=False)
    if every:
        if workers or max_structures is not None or wall_hours is not None or out is not None:
            raise ConfigError("all", "only releases searches for workers elsewhere; give no option with it but -l")
        _release_all(connection)
        return
    search_id = find_search(connection, str(search))
    submitted = search_config_of(connection, search_id).stop.max_structures
    if max_structures is not None and max_structures < submitted:
        msg = f"is less than the {submitted} that {search_id} was submitted with, and its jobs go on to; use 'stop'"
        raise ConfigError("stop.max_structures", msg)
    config = search_config_of(connection, search_id, stop=stop_limits(max_structures, wall_hours))
    console.print(f"search [bold]{search_id}[/bold] in {connection.uri}")
    withdraw_stop(connection.launchpad, search_id)
    extend(connection, config)
    if workers == 0:
        left = unfinished_jobs(connection, search_id)
        console.print(f"  {f'its {left} jobs wait for workers' if left else 'there is nothing more to do'}")
        return
    _run_to_end(connection, config, out, workers)


@with_search_options
def workflow(
    options: SearchOptions,
    formula: Annotated[str | None, typer.Argument(help="Chemical formula with whole numbers, such as SrTiO3.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, .yaml or .json; with --batch a folder.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", "-b", help="YAML file of many searches: 'searches' (formulas, or keys), 'common'."),
    ] = None,
    priority: Priority = None,
    launchpad: LaunchPadFile = None,
) -> None:
    """Write the search of FORMULA as a FireWorks file for 'lpad add', or add all searches of a file to the LaunchPad.

    With --batch every search is checked before the first is added, options override the file, and a search that is
    there already is not added again, so the same file, or a longer one, can be given once more. With --output they are
    written as files, one each.
    """
    from fuse_flows.cli.batch import add_all, read_searches, write_all, write_workflow
    from fuse_flows.errors import ConfigError

    if (formula is None) == (batch is None):
        raise ConfigError("formula", "give either a formula, or --batch FILE")
    if batch is not None:
        searches = read_searches(batch, options, priority)
        if output is not None:
            write_all(output, searches)
        else:
            add_all(_connect(launchpad), searches)
        return
    if output is None or output.suffix not in (".yaml", ".yml", ".json"):
        raise ConfigError("output", f"{output or 'the file'} must end in .yaml or .json")
    search, pool = _read_pool(search_config(str(formula), options))
    write_workflow(output, search, pool, priority)
    console.print(f"wrote {output} (search {search.search_id}); add it with: lpad -l my_launchpad.yaml add {output}")


def worker(
    search: Annotated[
        str | None, typer.Argument(help="Search id, its beginning, or a formula; default: all searches.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Only jobs of this category of FireWorks; __none__ for those without one.")
    ] = None,
    launchpad: LaunchPadFile = None,
) -> None:
    """Run jobs until none is left, or until the allocation of the queueing system ends.

    This is what the queue adapters of fw_configs submit. Slurm and PBS say when an allocation ends; elsewhere set
    FUSE_FLOWS_ALLOCATION_END (seconds of the epoch). No structure is begun in the last FUSE_FLOWS_ALLOCATION_MARGIN
    seconds (120), nor if the slowest one so far would not fit. SIGTERM lets it finish the structure in hand.
    """
    from fuse_flows.flows.worker import work
    from fuse_flows.store.jobs import unfinished_jobs
    from fuse_flows.store.queries import find_search

    connection = _connect(launchpad, fresh=False)
    if search is not None and not unfinished_jobs(connection, search):
        search = find_search(connection, search)
    console.print(f"ran {work(connection, search, category=category)} jobs")


def _release_all(connection: Connection) -> None:
    """Take back all requests to stop, and make the jobs ready that were paused for them."""
    from fuse_flows.flows.local import extend
    from fuse_flows.store.jobs import unfinished_jobs
    from fuse_flows.store.queries import known_searches
    from fuse_flows.store.requests import stops_requested, withdraw_stop
    from fuse_flows.store.searches import search_config_of

    asked = stops_requested(connection.launchpad, known_searches(connection))
    for search_id in sorted(asked):
        withdraw_stop(connection.launchpad, search_id)
        extend(connection, search_config_of(connection, search_id))
        console.print(f"{search_id}: its {unfinished_jobs(connection, search_id)} jobs wait for workers")
    if not asked:
        console.print("no search is paused")


def check_folder(out: Path | None) -> None:
    """Check that results can go where they are wanted, before hours are spent on them.

    Parameters
    ----------
    out
        The folder; None for the search id.

    Raises
    ------
    ConfigError
        If it is no folder, or cannot be written.
    """
    from fuse_flows.errors import ConfigError

    if out is None:
        return
    here = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not here.is_dir() or not os.access(here, os.W_OK):
        raise ConfigError("out", f"{here} is no folder that can be written; name another one")


def _read_pool(search: SearchConfig) -> tuple[SearchConfig, FilePool]:
    """Read the folder of structures, if there is one, and tell what became of its files."""
    from fuse_flows.generators.files import read_pool

    resolved, pool = read_pool(search)
    if search.pool.structures is not None:
        console.print(f"{search.pool.structures}: {pool}", markup=False, highlight=False, soft_wrap=True)
        if not pool.members:
            console.print("none of the files can serve; the search goes on without them")
    return resolved, pool


def _connect(launchpad: Path | None, *, fresh: bool = True) -> Connection:
    """Connect, and create indexes and the view where that has not been done."""
    from fuse_flows.store.connection import connect
    from fuse_flows.store.setup import ensure_indexes

    connection = connect(launchpad)
    if fresh:
        ensure_indexes(connection)
    return connection


def _run_to_end(connection: Connection, config: SearchConfig, out: Path | None, workers: int | None) -> None:
    """Mend, work and watch until nothing is left to do, then show and write the results."""
    from fuse_flows.cli.progress import run_and_watch
    from fuse_flows.cli.results import show_and_write

    interrupted = run_and_watch(connection, config, workers, console)
    show_and_write(connection, config.search_id, Path(config.search_id) if out is None else out)
    if interrupted:
        console.print(f"interrupted; continue with: fuse-flows resume {config.search_id}")
        raise typer.Exit(130)
