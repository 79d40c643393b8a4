"""The command that generates structures without a search."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuse_flows.cli.console import console
from fuse_flows.cli.options import ConfigFile, EnergyModel, Formula, GnModel, MaxAtoms, Seed

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from fuse_flows.config import SearchConfig
    from fuse_flows.schemas.pool import PoolDoc


def generate(
    formula: Formula,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for CIF files and energies.csv.")],
    *,
    config: ConfigFile = None,
    max_atoms: MaxAtoms = None,
    seed: Seed = None,
    candidates: Annotated[int | None, typer.Option(help="Candidates for each number of formula units.")] = None,
    keep: Annotated[int | None, typer.Option(help="Structures kept of each, the lowest in predicted energy.")] = None,
    optimiser: Annotated[str | None, typer.Option(help="How the next candidates are chosen.")] = None,
    energy_model: EnergyModel = None,
    gn_model: GnModel = None,
    space_groups: Annotated[str | None, typer.Option(help="Range of space group numbers, such as 1-230.")] = None,
    formula_units: Annotated[str | None, typer.Option(help="Range of formula units per cell, such as 1-4.")] = None,
    plugin: Annotated[str | None, typer.Option(help="Generator of another package, by its entry point.")] = None,
) -> None:
    """Generate structures of FORMULA and write them, lowest in predicted energy first, without a search."""
    from fuse_flows.analysis.generated import prepare, write_members

    settings = {
        "candidates": candidates,
        "keep": keep,
        "optimiser": optimiser,
        "energy_model": energy_model,
        "model_file": None if gn_model is None else str(gn_model),
        "space_groups": _range("space_groups", space_groups),
        "formula_units": _range("formula_units", formula_units),
        "plugin": plugin,
    }
    search = _search(formula, config, settings, max_atoms=max_atoms, seed=seed)
    prepare(output)
    pool = _generate(search)
    files = write_members(output, pool.members, search.formula, sum(search.counts.values()))
    for reason, number in pool.dropped.items():
        console.print(f"dropped: {reason} {number}")
    console.print(pool.fallback or f"wrote {len(files)} CIF files and energies.csv into {output}")
    if pool.fallback:
        raise typer.Exit(1)


def _search(formula: str, config: Path | None, settings: dict[str, Any], **values: Any) -> SearchConfig:
    """Return a checked configuration whose section pool.generate holds the settings that were given."""
    from fuse_flows.config import load_config
    from fuse_flows.flows.checks import check_generation
    from fuse_flows.relax.energy_model import with_model_digest
    from fuse_flows.relax.spp_tier import with_library_digests
    from fuse_flows.relax.torchsim import with_weights_digests

    generate = {name: value for name, value in settings.items() if value is not None}
    search = load_config(config, formula=formula, pool={"generate": generate}, **values)
    search = with_library_digests(with_weights_digests(with_model_digest(search)))
    alone = search.pool.model_copy(update={"structures": None, "digest": None})
    search = search.model_copy(update={"pool": alone})
    check_generation(search)
    return search


def _generate(search: SearchConfig) -> PoolDoc:
    """Generate with a progress bar for each number of formula units."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from fuse_flows.cli.results import generation_lines
    from fuse_flows.generators.planning import generation_settings, in_order, units_to_generate
    from fuse_flows.jobs.generation import generated_document, units_in_words
    from fuse_flows.jobs.pool import with_generated
    from fuse_flows.schemas.pool import PoolDoc

    made = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        for units in units_to_generate(search):
            task = bar.add_task(units_in_words(units), total=generation_settings(search).candidates)
            made.append(generated_document(search, units, partial(_show, bar, task)))
            console.print(*generation_lines([made[-1].summary.model_dump()]))
    members = in_order(member for document in made for member in document.members)
    return with_generated(PoolDoc(search_id=search.search_id, members=members), made)


def _show(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)


def _range(field: str, text: str | None) -> tuple[int, int] | None:
    """Read a range such as 1-4, or a single number."""
    from fuse_flows.errors import ConfigError

    if text is None:
        return None
    first, _, last = text.partition("-")
    try:
        return int(first), int(last or first)
    except ValueError:
        raise ConfigError(field, f"{text!r} is no range; write it like 1-4") from None
