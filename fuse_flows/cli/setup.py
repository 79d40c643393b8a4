"""Commands that prepare, check and explain the set-up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fuse_flows.cli.console import console, table
from fuse_flows.cli.options import Formula, LaunchPadFile, SearchOptions, search_config, with_search_options

config_app = typer.Typer(name="config", help="Show the configuration of a search.", no_args_is_help=True)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write the files.")] = Path(),
    launchpad: LaunchPadFile = None,
) -> None:
    """Prepare the database (indexes, the view of candidates), and write all configuration files of a project for it.

    What is in the folder already is left as it is. docs/cluster.md tells what to do with the files.
    """
    from fuse_flows.store.connection import connect
    from fuse_flows.store.project import write_project
    from fuse_flows.store.setup import ensure_indexes

    connection = connect(launchpad)
    ensure_indexes(connection)
    console.print(f"database {connection.uri}: indexes and the view fuse_candidates are there")
    for path, is_new in write_project(connection, folder):
        console.print(f"wrote {path}" if is_new else f"left {path} as it is")


def check(launchpad: LaunchPadFile = None) -> None:
    """Check packages, calculators, configuration files and the database; exit code 1 if something is wrong."""
    from fuse_flows.generators.plugins import plugin_versions
    from fuse_flows.relax.calculators import engines
    from fuse_flows.store.check import config_sources, round_trip
    from fuse_flows.store.connection import connect

    for name, version in _packages().items():
        console.print(f"{name:<24} {version or 'not installed'}")
    for name, state in engines().items():
        console.print(f"calculator {name:<13} {state}")
    for name, package in plugin_versions().items():
        console.print(f"generator {name:<14} {package}")
    for name, file in config_sources():
        console.print(f"{name:<24} {file}")
    rows = table("what", "state", "detail")
    trips = round_trip(connect(launchpad))
    for name, is_fine, detail in trips:
        rows.add_row(name, "[green]ok[/green]" if is_fine else "[red]failed[/red]", detail)
    console.print(rows)
    if not all(trip.ok for trip in trips):
        raise typer.Exit(1)


def _packages() -> dict[str, str | None]:
    """Return the versions of what a search may need; None for what is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str | None] = {}
    for name in ("fuse-flows", "fireworks", "jobflow", "atomate2", "pymatgen", "pymongo", "ase", "chgnet", "torch"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


@config_app.command("show")
@with_search_options
def show(formula: Formula, options: SearchOptions) -> None:
    """Print the resolved configuration of a search as YAML, every default written out."""
    typer.echo(search_config(formula, options).to_yaml(), nl=False)
