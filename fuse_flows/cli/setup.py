"""Commands that prepare, check and explain the set-up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fuse_flows.cli.options import Calculator, ConfigFile, Formula, LaunchPadFile, MaxAtoms, Seed, search_config

console = Console(soft_wrap=True, highlight=False)
config_app = typer.Typer(name="config", help="Show the configuration of a search.", no_args_is_help=True)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write my_launchpad.yaml.")] = Path(),
    launchpad: LaunchPadFile = None,
) -> None:
    """Prepare the database: indexes, the view of candidates, and a my_launchpad.yaml for lpad and rlaunch."""
    from fuse_flows.store.connection import connect, write_launchpad_file
    from fuse_flows.store.setup import ensure_indexes

    connection = connect(launchpad)
    ensure_indexes(connection)
    console.print(f"database {connection.uri}: indexes and the view fuse_candidates are there")
    if launchpad is None:
        path = folder / "my_launchpad.yaml"
        if path.exists():
            console.print(f"left {path} as it is")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            write_launchpad_file(connection, path)
            console.print(f"wrote {path}")


def check(launchpad: LaunchPadFile = None) -> None:
    """Check packages, calculators, configuration files and the database; exit code 1 if something is wrong."""
    from fuse_flows.store.check import round_trip
    from fuse_flows.store.connection import connect

    table = Table("what", "state", "detail")
    items = environment_report()
    connection = connect(launchpad)
    items += round_trip(connection)
    for name, is_fine, detail in items:
        table.add_row(name, "[green]ok[/green]" if is_fine else "[red]failed[/red]", detail)
    console.print(table)
    if not all(is_fine for _, is_fine, _ in items):
        raise typer.Exit(1)


@config_app.command("show")
def show(
    formula: Formula,
    config: ConfigFile = None,
    max_atoms: MaxAtoms = None,
    seed: Seed = None,
    calculator: Calculator = None,
) -> None:
    """Print the resolved configuration of a search as YAML, every default written out."""
    search = search_config(formula, config, max_atoms=max_atoms, seed=seed, calculator=calculator)
    typer.echo(search.to_yaml(), nl=False)
