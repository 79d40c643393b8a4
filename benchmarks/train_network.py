"""The network that comes with the package: finished from a checkpoint, measured, stored, and its card rewritten.

Training itself is ``fuse-flows gn train``; it leaves a checkpoint after every epoch. This takes the best weights so
far, whether or not training is complete, and

* measures the error on compositions that were held out, beside MEGNet's published weights on the same structures (the
  alternative; they have seen most of them in training) and beside composition alone (the ridge regression),
* measures what off-equilibrium cells are taken for, with both networks,
* measures the seconds for 1000 random cells of 24 atoms in batches of 100, beside one at a time,
* writes ``fuse_flows/data/graph_network.npz``, ``benchmarks/results/graph_network.json`` and the figures in
  ``docs/graph_network.md``.

Run: python benchmarks/train_network.py --finish --data FOLDER --checkpoint FOLDER [--published FILE.hdf5]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from fuse_flows.generators.base import Cell
from fuse_flows.generators.gn.data import read_labelled
from fuse_flows.generators.gn.evaluation import off_equilibrium_report, report
from fuse_flows.generators.gn.finishing import finished, predictions, relevant
from fuse_flows.generators.gn.graphs import build_graphs
from fuse_flows.generators.gn.model import load_network
from fuse_flows.generators.gn.steps import Rules
from fuse_flows.generators.gn.storage import read_network, shipped_path
from fuse_flows.generators.gn.training import CHECKPOINT, Plan, Trainer, read_checkpoint

if TYPE_CHECKING:
    from fuse_flows.generators.gn.data import LabelledSet
    from fuse_flows.generators.gn.storage import SavedNetwork

ROOT = Path(__file__).parents[1]
CARD = ROOT / "docs" / "graph_network.md"
RESULTS = ROOT / "benchmarks" / "results" / "graph_network.json"
MAIN, OFF = "mp_eform_labelled_66k.jsonl.xz", "offequil_mattersim.jsonl.xz"
BEGIN, END = "<!-- figures: written by benchmarks/train_network.py -->", "<!-- end of the figures -->"
PROVENANCE = {
    "source": "66 020 structures of the Materials Project with formation energies on the scale of its 2018 "
    "corrections, and 5 222 off-equilibrium cells of the MatterSim benchmarks",
    "licence": "CC-BY-4.0",
    "attribution": "Data from the Materials Project (CC-BY-4.0), A. Jain et al., APL Mater. 1, 011002 (2013); labels "
    "by way of NIST jarvis_leaderboard (public domain), kdmsit/MEGNet and wenwenli1124/cdvae (MIT), "
    "SymmetryAdvantage/WyckoffTransformer (Apache-2.0); off-equilibrium cells: microsoft/mattersim (MIT), of which "
    "MPtrj and Alexandria parts CC-BY-4.0",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finish", action="store_true", required=True)
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {MAIN} and {OFF}")
    parser.add_argument("--checkpoint", type=Path, required=True, help=f"folder with {CHECKPOINT}")
    parser.add_argument("--published", type=Path, help="MEGNet's formation_energy.hdf5, the yardstick")
    given = parser.parse_args()
    data = read_labelled([given.data / MAIN], [given.data / OFF])
    print(f"{len(data)} structures read", flush=True)
    told_there, _ = read_checkpoint(given.checkpoint / CHECKPOINT)
    plan = {key: told_there["plan"][key] for key in ("seed", "rate", "flat", "whole") if key in told_there["plan"]}
    trainer = Trainer(data, Plan(rules=Rules(**told_there["plan"]["rules"]), **plan))
    trainer.load(given.checkpoint / CHECKPOINT)
    trainer.progress.done = told_there["progress"]["done"]  # by its own schedule, not by the one above
    saved = finished(trainer, PROVENANCE)
    told = saved.provenance
    if given.published:
        told["yardstick"] = yardstick(data, read_network(given.published))
    test = data.indices("test")
    alone = data.composition[test] @ saved.baseline.slopes + saved.baseline.mean
    told["evaluation"]["composition_alone_mae"] = round(float(np.abs(alone - data.energies[test]).mean()), 5)
    file = saved.save(shipped_path())
    results = {**told, "speed": speed(), "file_MB": round(file.stat().st_size / 1e6, 2)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    before, _, rest = CARD.read_text(encoding="utf-8").partition(BEGIN)
    figures = "\n".join(card(results, load_network().version))
    CARD.write_text(f"{before}{BEGIN}\n{figures}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(figures)


def yardstick(data: LabelledSet, saved: SavedNetwork) -> dict[str, Any]:
    """Measure another network on the same structures."""
    told = predictions(saved, data, relevant(data))
    return {"test": report(data, told), "off_equilibrium": off_equilibrium_report(data, told)}


def speed(cells: int = 400, atoms: int = 24, at_once: int = 100) -> dict[str, float]:
    """CPU seconds per 1000 random cells without symmetry, in batches and one at a time."""
    rng = np.random.default_rng(0)
    some = []
    while len(some) < cells:
        lattice = (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))) * (15.0 * atoms) ** (1 / 3)
        some.append(Cell(lattice, rng.choice([8, 20, 22], atoms), rng.random((atoms, 3))))
    network = load_network()
    network.energies(some[:2])

    def seconds(chosen: list[Cell], size: int) -> float:
        start = time.process_time()
        for k in range(0, len(chosen), size):
            network.energies(chosen[k : k + size])
        return round(1000.0 * (time.process_time() - start) / len(chosen), 3)

    start = time.process_time()
    build_graphs(some)
    graphs = round(1000.0 * (time.process_time() - start) / cells, 3)
    batches, alone = seconds(some, at_once), seconds(some[:100], 1)
    return {"graphs": graphs, "batches": batches, "one_at_a_time": alone, "ratio": round(alone / batches, 2)}


def card(results: dict[str, Any], version: str) -> list[str]:
    """Return the lines of the card that hold figures."""
    counts, curve, speed_of = results["crystals"], results["curve"], results["speed"]
    state = "complete" if results["complete"] else "NOT complete: these are the best weights so far"
    shown = sorted({0, 1, 4, 9, *range(19, len(curve), 20), len(curve) - 1} & set(range(len(curve))))
    return [
        (
            f"Version {version}, {results['file_MB']} MB. Trained on {counts['training']} structures and "
            f"{counts['training, off equilibrium']} off-equilibrium cells for {results['epochs']} epochs "
            f"({results['seconds'] / 3600:.1f} h on one shared core); training is {state}."
        ),
        *_validation(results),
        "",
        *_test_table(results),
        "",
        *_off_table(results),
        "",
        "| epoch | loss (training, standardised) | validation MAE, meV/atom |",
        "|---|---|---|",
        *(f"| {curve[k][0]} | {curve[k][1]:.4f} | {_error_of(curve[k])} |" for k in shown),
        "",
        (
            f"1000 random cells of 24 atoms without symmetry: {speed_of['batches']} CPU seconds in batches of 100 "
            f"(graphs: {speed_of['graphs']}), {speed_of['one_at_a_time']} one at a time."
        ),
    ]


def _validation(results: dict[str, Any]) -> list[str]:
    if results["validation_mae"] is None:
        held_out = [point for point in results["curve"] if point[2] is not None]
        error = f"{_error_of(held_out[-1])} meV/atom" if held_out else "not measured"
        return [f"Validation error before the validation part was learnt, too: {error}."]
    error, where = 1000 * results["validation_mae"], results["crystals"]["validation"]
    return [f"Validation error {error:.1f} meV/atom ({where} structures, epoch {results['best_epoch']})."]


def _error_of(point: list[float | None]) -> str:
    return "learnt" if point[2] is None else f"{1000 * point[2]:.1f}"


def _test_table(results: dict[str, Any]) -> list[str]:
    test, theirs = results["evaluation"]["test"], results.get("yardstick", {}).get("test", {})
    lines = [
        "| held-out compositions | structures | MAE, meV/atom | median | MEGNet's published weights, MAE |",
        "|---|---|---|---|---|",
    ]
    for name, entry in {"all": test, **test["classes"]}.items():
        reference = theirs if name == "all" else theirs.get("classes", {}).get(name, {})
        figures = _mev(entry, "mae"), _mev(entry, "median"), _mev(reference, "mae")
        lines.append(f"| {name} | {entry['crystals']} | {' | '.join(figures)} |")
    alone = 1000 * results["evaluation"]["composition_alone_mae"]
    return [*lines, f"| composition alone (ridge regression) | {test['crystals']} | {alone:.0f} | | |"]


def _off_table(results: dict[str, Any]) -> list[str]:
    ours = results["evaluation"]["off_equilibrium"]
    theirs = results.get("yardstick", {}).get("off_equilibrium", {})
    lines = [
        (
            "| off-equilibrium cells of the test set | cells | MAE, meV/atom | rank correlation | of those above the "
            "ground state, told so | MEGNet's published weights: MAE | rank correlation | told so |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in ours.items():
        columns = [name, str(entry["crystals"])]
        for one in (entry, theirs.get(name, {})):
            share = f"{100 * one['told_worse']:.1f} % of {one['worse']}" if one.get("worse") else ""
            columns += [_mev(one, "mae"), str(one.get("rank_correlation", "")), share]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def _mev(entry: dict[str, Any], key: str) -> str:
    return f"{1000 * entry[key]:.1f}" if key in entry else ""


if __name__ == "__main__":
    main()
