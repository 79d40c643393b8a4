"""Commands around the graph network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuse_flows.cli.console import console, table
from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from fuse_flows.generators.base import Cell

app = typer.Typer(
    name="gn", help="The graph network: train one, predict formation energies, look into one.", no_args_is_help=True
)


@app.command()
def train(
    data: Annotated[list[Path], typer.Argument(help="Files of JSON lines (may be .xz) with formation energies.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The network to be written (.npz).")] = Path(
        "network.npz"
    ),
    *,
    off_equilibrium: Annotated[
        list[Path] | None, typer.Option(help="File with compressed, hot or random cells (repeatable).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Length of the schedule; repeatable bit for bit.")] = None,
    hours: Annotated[float | None, typer.Option(help="Length of the schedule on the clock, instead.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first weights and of the order of the crystals.")] = 0,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Keep the rate, to go on from a trained network (with --resume, --memory).")
    ] = False,
    decay: Annotated[float | None, typer.Option(help="Weight decay per unit of learning rate.")] = None,
    memory: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share that the running mean of the weights keeps in each step.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Learn the validation part, too; the last weights are kept.")
    ] = False,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without progress.")] = None,
    limit: Annotated[int | None, typer.Option(help="Read at most so many crystals of each file.")] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="Folder of checkpoints; default: beside the output.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile: pays off after minutes.")] = True,
    source: Annotated[str, typer.Option(help="Source of the data, stored in the network.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the data, stored in the network.")] = "",
    attribution: Annotated[str, typer.Option(help="Who is to be named, stored in the network.")] = "",
) -> None:
    """Train a network on crystals with formation energies.

    One composition in ten decides which weights are kept, one in ten tests them at the end. With --resume and a
    longer schedule, training goes on where the longer schedule would be.
    """
    from fuse_flows.generators.gn.data import read_labelled
    from fuse_flows.generators.gn.finishing import finished
    from fuse_flows.generators.gn.steps import Rules
    from fuse_flows.generators.gn.training import CHECKPOINT, Plan, Trainer

    if epochs is not None and hours is not None:
        raise ConfigError("hours", "give --epochs or --hours, not both")
    chosen: dict[str, Any] = {"epochs": epochs, "hours": hours, "rate": rate, "patience": patience}
    rules = {key: value for key, value in {"decay": decay, "memory": memory}.items() if value is not None}
    given = {key: value for key, value in chosen.items() if value is not None}
    plan = Plan(seed=seed, flat=flat, whole=whole, compiled=compiled, rules=Rules(**rules), **given)
    folder = checkpoints or output.with_suffix(".checkpoints")
    labelled = read_labelled(data, off_equilibrium or [], limit=limit)
    trainer = Trainer(labelled, plan, folder)
    if resume:
        trainer.load(folder / CHECKPOINT)
    length = f"{hours} hours" if hours is not None else f"{plan.epochs} epochs"
    console.print(
        f"{len(trainer.learnt)} crystals to learn, {len(trainer.validation)} to validate; {length}, "
        f"{trainer.progress.epoch} epochs done; checkpoints: {folder}"
    )

    def tell(record: dict[str, float | None]) -> None:
        error = "" if record["mae"] is None else f"validation {1000 * record['mae']:.1f} meV/atom  "
        console.print(f"epoch {record['epoch']:4d}  loss {record['loss']:.4f}  {error}{record['seconds']:.0f} s")

    trainer.run(tell)
    names = ", ".join(path.name for path in (*data, *(off_equilibrium or ())))
    provenance = {
        "source": source or names,
        "licence": licence or "as the data",
        "attribution": attribution,
    }
    saved = finished(trainer, provenance)
    file = saved.save(output)
    test = saved.provenance["evaluation"]["test"]
    error = f"{1000 * test['mae']:.1f} meV/atom on {test['crystals']} crystals" if test["crystals"] else "not measured"
    console.print(f"{file}: {len(saved.symbols)} elements, {file.stat().st_size / 1e6:.1f} MB; held-out error {error}")


@app.command()
def predict(
    files: Annotated[
        list[Path], typer.Argument(help="Structure files (CIF, POSCAR, extended XYZ) or folders of CIFs.")
    ],
    *,
    model: Annotated[Path | None, typer.Option(help="Another network than the one of the package.")] = None,
) -> None:
    """Predict the formation energies of structures, as they are."""
    from fuse_flows.generators.gn.model import load_network

    network = load_network(model)
    paths = [path for given in files for path in (sorted(given.glob("*.cif")) if given.is_dir() else [given])]
    read = [(path, cell, formula) for path in paths for cell, formula in _cells(path)]
    network.check([symbol for _, _, formula in read for symbol in formula[1]])
    energies = network.energies([cell for _, cell, _ in read])
    grid = table("file", "formula", "atoms", "eV/atom")
    for (path, cell, (formula, _)), energy in zip(read, energies, strict=True):
        grid.add_row(str(path), formula, str(len(cell.numbers)), f"{energy:.4f}")
    console.print(grid)


def _cells(path: Path) -> list[tuple[Cell, tuple[str, list[str]]]]:
    """Read all structures of a file: cell, formula and symbols."""
    import ase.io
    import numpy as np

    from fuse_flows.generators.base import Cell

    if not path.is_file():
        raise ConfigError("files", f"there is no file {path}")
    try:
        frames = ase.io.read(path, index=":")
    except Exception as error:  # ASE's readers raise whatever comes
        raise ConfigError("files", f"{path} cannot be read ({error!r}); give CIF, POSCAR or extended XYZ") from error
    cells = []
    for atoms in frames:
        if not atoms.cell.rank == 3:
            raise ConfigError("files", f"{path} has no cell; give crystals")
        cell = Cell(np.array(atoms.cell), atoms.numbers.astype(np.int64), atoms.get_scaled_positions(wrap=True))
        cells.append((cell, (atoms.get_chemical_formula(), list(atoms.get_chemical_symbols()))))
    return cells


@app.command()
def show(
    model: Annotated[Path | None, typer.Argument(help="The network; default: the one of the package.")] = None,
) -> None:
    """Show what a network was trained on, and how good it is."""
    from fuse_flows.generators.gn.storage import read_network, shipped_path

    saved = read_network(model)
    size = sum(part.size for part in saved.weights.values())
    console.print(f"{model or shipped_path()}: version {saved.digest}, {size} weights, {len(saved.symbols)} elements")
    grid = table("", "")
    told = saved.provenance.get("published", saved.provenance)
    for key, value in told.items():
        if value is not None and key not in {"curve", "evaluation", "plan", "yardstick"}:
            grid.add_row(key, str(value))
    console.print(grid)
    if "evaluation" in told:
        errors = table("held-out compositions", "crystals", "MAE / meV/atom", "median")
        test = told["evaluation"]["test"]
        for name, entry in {"all": test, **test.get("classes", {})}.items():
            if entry["crystals"]:
                values = f"{1000 * entry['mae']:.1f}", f"{1000 * entry['median']:.1f}"
                errors.add_row(name, str(entry["crystals"]), *values)
        console.print(errors)
    console.print(f"elements: {' '.join(saved.symbols)}")
