"""Commands around the statistical proxy potentials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fuse_flows.cli.console import console, table

app = typer.Typer(
    name="spp", help="Statistical proxy potentials: derive a library, look into one.", no_args_is_help=True
)


@app.command()
def derive(
    data: Annotated[Path, typer.Argument(help="File of JSON lines (may be .xz) or folder of CIF files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The library to be written (.npz).")] = Path(
        "library.npz"
    ),
    *,
    crystals: Annotated[int | None, typer.Option(help="Use at most so many crystals, the first of the data.")] = None,
    correction: Annotated[int | None, typer.Option(help="Crystals for the correction of the forces.")] = None,
    max_atoms: Annotated[int | None, typer.Option(help="Largest cell for the correction, in atoms.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Iterations of the correction.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Cells with forces of a better method (.npz) that the potentials follow, too.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Learn from the held-out compositions, too.")] = False,
    threads: Annotated[int, typer.Option(help="Threads.")] = 2,
    source: Annotated[str, typer.Option(help="Source of the data, stored in the library.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the data, stored in the library.")] = "",
    attribution: Annotated[str, typer.Option(help="Who is to be named, stored in the library.")] = "",
) -> None:
    """Derive pair potentials from the interatomic distances of known crystals.

    One composition in five is left out (10 % to choose settings by, 10 % to test on) unless --all is given.
    """
    from dataclasses import replace

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from fuse_flows.potentials.crystals import read_crystals
    from fuse_flows.potentials.labels import load_labels
    from fuse_flows.potentials.recipe import RecipeSettings, derive_library

    cells = None if labels is None else load_labels(labels)
    settings = RecipeSettings()
    restoring = replace(settings.restoring, iterations=iterations or settings.restoring.iterations)
    settings = replace(
        settings,
        restoring=restoring,
        crystals=correction or settings.crystals,
        max_atoms=max_atoms or settings.max_atoms,
    )
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        chosen = read_crystals(
            data,
            parts=("train", "tune", "test") if everything else ("train",),
            limit=crystals,
            progress=lambda count: report("reading", count, None),
        )
        report("reading", len(chosen), len(chosen))
        provenance = {
            "source": source or data.name,
            "licence": licence or "as the data",
            "attribution": attribution,
            "held_out": not everything,
        }
        library = derive_library(
            chosen, settings, labels=cells, provenance=provenance, threads=threads, progress=report
        )
    file = library.save(output)
    pairs = int((library.crystals > 0).sum())
    console.print(
        f"{file}: {len(library.symbols)} elements, {len(library.crystals)} potentials, {pairs} with data of their own, "
        f"{file.stat().st_size / 1e6:.1f} MB, from {len(chosen)} crystals"
    )


@app.command()
def show(
    symbols: Annotated[list[str], typer.Argument(help="Elements of a compound, such as Sr Ti O.")],
    *,
    library: Annotated[Path | None, typer.Option(help="Another library than the one of the package.")] = None,
) -> None:
    """Show the wells of a compound's pair potentials and how many crystals are behind them."""
    from fuse_flows.potentials.crystals import has_anions
    from fuse_flows.potentials.library import load_library

    loaded = load_library(library)
    r, values = loaded.tables(symbols)
    grid = table("pair", "crystals", "lowest at / A", "energy / eV", "zero at / A")
    for (one, two), potential in values.items():
        lowest = int(potential.argmin())
        zero = r[int((potential > 0)[: lowest + 1].nonzero()[0].max(initial=0))]
        count = loaded.crystals_of(one, two, anions=has_anions(symbols))
        grid.add_row(f"{one}-{two}", str(count), f"{r[lowest]:.2f}", f"{potential[lowest]:.3f}", f"{zero:.2f}")
    console.print(grid)
    for key in ("source", "licence", "attribution"):
        if key in loaded.provenance:
            console.print(f"{key}: {loaded.provenance[key]}")
