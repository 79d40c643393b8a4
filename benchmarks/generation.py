"""Generation of structures: CPU seconds against a plain hyperopt loop, and how good the structures are.

    python benchmarks/generation.py [--model spp|gn|FILE] [--formula CoAs2] [--formula-units 4] [--evaluated 300]
    python benchmarks/generation.py --quality [--model ...] [--only CoAs2 ...] [--candidates 2000] [--top 25]
        [--budget-minutes 60]

Speed: CPU seconds per 1000 evaluated candidates, one thread, the same composition, space, filters, model and number of
evaluated candidates, for each optimiser against the loop of ``generation_reference.py``, which proposes, builds, checks
and evaluates one candidate at a time, with hyperopt (``pso``: a plain swarm). ``plain`` is ours without pushing atoms
apart, which is what the ratio refers to; ``separated`` is ours as it is used. The valid share is that of proposals
that pass the filters.

Quality: the lowest structures of each optimiser in predicted energy (all numbers of formula units that fit, the same
candidates for each), ``top`` of them, and as many of the random assembler, relaxed with CHGNet: energy above the lowest
of the known structures and the published ones (``--yardstick``: file with CHGNet energies), calls of CHGNet, failures.
All are rattled before they are relaxed, as a search does it; else crystals stay on saddle points of high symmetry.
``--relaxer spp`` relaxes with the statistical proxy potentials instead, in milliseconds; zero is then the lowest energy
that any way found.
The relaxations are kept in the results after each one; those that are there are not made again (``--fresh``).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load

import numpy as np

from fuse_flows.config import GenerationConfig, SearchConfig, TierConfig, make_config
from fuse_flows.generators.base import Cell
from fuse_flows.generators.filters import CONTACT, SLAB, VOLUME
from fuse_flows.generators.generate import Generation, generate
from fuse_flows.generators.pair_model import PairEnergyModel
from fuse_flows.search.propose import rattled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

    from fuse_flows.generators.base import EnergyModel
    from fuse_flows.relax.result import RelaxResult

RESULTS = Path(__file__).parent / "results" / "generation.json"
WAYS = {
    "random": {"optimiser": "random", "separate": False},
    "random+": {"optimiser": "random"},
    "pso": {"optimiser": "pso", "separate": False},
    "pso+": {"optimiser": "pso"},
    "tpe": {"optimiser": "tpe", "separate": False},
    "tpe+": {"optimiser": "tpe"},
    "lineages": {"optimiser": "lineages"},
    "triclinic": {"optimiser": "tpe", "separate": False, "space_groups": (1, 2)},  # as in the FUSE2 paper
}
ASSEMBLER = "assembler"
# Atoms at most; compounds of the FUSE2 paper.
COMPOUNDS = {"Ca3Ti2O7": 24, "CoAs2": 12, "WCl2": 12, "YWB4": 24, "Li4OBrCl": 14, "Cu7S4": 22, "Li3Si3O5Cl5": 16}


def load_model(name: str) -> EnergyModel:
    if name == "spp":
        return PairEnergyModel()
    from fuse_flows.generators.gn.model import load_network

    return load_network(None if name == "gn" else name)


def ours(counts: dict[str, int], units: int, settings: GenerationConfig, model: EnergyModel) -> dict[str, Any]:
    """Generate and say what it took, in CPU seconds."""
    begun = time.process_time()
    generation = Generation(counts, units, settings, model, seed=1)
    while not generation.finished:
        generation.step()
    made = generation.result()
    total = time.process_time() - begun
    refused = sum(made.rejected.get(reason, 0) for reason in (CONTACT, VOLUME, SLAB))
    row = {
        "evaluated": made.evaluated,
        "attempted": made.attempted,
        "valid_share": round(1 - refused / max(made.attempted, 1), 4),
        "seconds_per_1000": round(1000 * total / max(made.evaluated, 1), 3),
        "seconds": made.seconds,
    }
    row["seconds"] |= graph_seconds(generation, model)
    return row


def graph_seconds(generation: Generation, model: EnergyModel) -> dict[str, float]:
    """Return how many of the model's seconds go into crystal graphs, for a network."""
    if model.name != "gn":
        return {}
    from fuse_flows.generators.gn.graphs import build_graphs

    cells = generation.space.decode(generation._best_vectors[:100]).cells()  # noqa: SLF001 - what it evaluated
    begun = time.process_time()
    build_graphs(cells, cutoff=model.saved.architecture.cutoff)
    share = (time.process_time() - begun) / len(cells) * generation.evaluated
    return {"graphs (in model)": round(share, 3)}


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Measure each optimiser and its reference."""
    from generation_reference import Loop, reference

    config = make_config({"formula": args.formula, "max_atoms": 200})
    counts, units, model = dict(config.counts), args.formula_units, load_model(args.model)
    warm = GenerationConfig(candidates=100)
    first = generate(counts, units, warm, model, 0)  # tables are read, compilers run
    for member in first.members:  # one by one, too
        model.energies([Cell(np.array(member.lattice), np.array(member.numbers), np.array(member.frac_coords))])
    report: dict[str, Any] = {"model": args.model, "formula": args.formula, "formula_units": units}
    print(f"{'':10}{'':14}s/1000  valid  ratio  seconds by phase")
    for name in args.optimisers:
        settings = GenerationConfig(optimiser=name, candidates=args.evaluated, keep=25)
        rows = {
            "plain": ours(counts, units, settings.model_copy(update={"separate": False}), model),
            "separated": ours(counts, units, settings, model),
        }
        if name != "lineages":
            rows["reference"] = reference(Loop(counts, units, (1, 230), model), name, args.evaluated, seed=1)
            for row in rows.values():
                row["ratio"] = round(rows["reference"]["seconds_per_1000"] / row["seconds_per_1000"], 2)
        report[name] = rows
        for kind, row in rows.items():
            numbers = f"{row['seconds_per_1000']:8.2f} {row['valid_share']:6.3f} {row.get('ratio', 1):6.1f}"
            print(f"{name:10}{kind:12}{numbers} ", row["seconds"], flush=True)
    return report


def best_generated(
    config: SearchConfig, way: str, model: EnergyModel, args: argparse.Namespace
) -> tuple[list[tuple[float, Structure]], float]:
    """Return the lowest structures over all numbers of formula units, rattled, and the CPU seconds."""
    begun, members = time.process_time(), []
    settings = GenerationConfig(candidates=args.candidates, keep=args.top, **WAYS[way])
    per_unit = sum(config.counts.values())
    for units in range(1, config.max_atoms // per_unit + 1):
        members += generate(dict(config.counts), units, settings, model, args.seed).members
    seconds = time.process_time() - begun
    members.sort(key=lambda member: member.energy_per_atom)
    streams = [np.random.default_rng([args.seed, place]) for place in range(args.top)]
    return [
        (member.energy_per_atom, rattled(member.to_structure(), config.rattle, rng))
        for member, rng in zip(members, streams, strict=False)
    ], seconds


def assembled(config: SearchConfig, model: EnergyModel, n: int) -> Iterator[tuple[float, Structure]]:
    """Return structures of the random assembler as a search would make them."""
    from fuse_flows.search.propose import propose_initial

    given = 0
    for index in range(100 * n):
        structure = propose_initial(config, index).structure
        if structure is None or given == n:
            continue
        given += 1
        cell = Cell(structure.lattice.matrix, np.array(structure.atomic_numbers), structure.frac_coords % 1.0)
        yield float(model.energies([cell])[0]), structure


def relaxed(structure: Structure, calculator_name: str) -> dict[str, Any]:
    """Relax as a search does, counting the calls."""
    if calculator_name == "spp":
        from fuse_flows.relax.spp_tier import build_spp_relaxer

        begun = time.process_time()
        result = build_spp_relaxer(TierConfig(calculator="spp", max_steps=1000)).relax(structure)
        return row_of(result, result.steps, time.process_time() - begun)
    from fuse_flows.relax.ase_tier import AseRelaxer
    from fuse_flows.relax.chgnet import ChgnetCalculator

    class Counting(ChgnetCalculator):
        calls = 0

        def calculate(self, *args: Any, **keywords: Any) -> None:
            self.calls += 1
            super().calculate(*args, **keywords)

    calculator = Counting()
    begun = time.process_time()
    result = AseRelaxer(TierConfig(), calculator).relax(structure)
    return row_of(result, calculator.calls, time.process_time() - begun)


def row_of(result: RelaxResult, calls: int, seconds: float) -> dict[str, Any]:
    energy = result.energy_per_atom if result.outcome.has_energy else None
    return {"energy": energy, "calls": calls, "cpu": round(seconds, 2), "outcome": str(result.outcome)}


def lowest_known(file: Path, formula: str) -> float:
    """Return the lowest CHGNet energy of known and published structures, eV/atom."""
    data = json.loads(file.read_text())
    found = [entry["energy_per_atom"] for entry in data["published_fuse2_structures"].get(formula, {}).values()]
    found += [v["energy_per_atom"] for k, v in data["known_structures"].items() if k.startswith(formula + "_")]
    return min(found)


def lowest_seen(ways: dict[str, Any]) -> float:
    """Return the lowest energy of all ways, eV/atom."""
    rows = [row["energy"] for entry in ways.values() for row in entry["relaxations"] if row["energy"] is not None]
    return min(rows, default=0.0)


def summary(rows: list[dict[str, Any]], known: float) -> dict[str, Any]:
    energies = [1e3 * (row["energy"] - known) for row in rows if row["energy"] is not None]
    calls = [row["calls"] for row in rows if row["energy"] is not None]
    return {
        "structures": len(rows),
        "failed": len(rows) - len(energies),
        "best_mev": round(min(energies), 1) if energies else None,
        "median_mev": round(float(np.median(energies)), 1) if energies else None,
        "median_calls": float(np.median(calls)) if calls else None,
        "relax_cpu": round(sum(row["cpu"] for row in rows), 1),
    }


def quality(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Relax the best of each way; the report is written after every relaxation."""
    model = load_model(args.model)
    end = time.monotonic() + 60 * args.budget_minutes
    known = report.setdefault(f"quality {args.model} {args.relaxer} {args.candidates} {args.seed}", {})
    for formula in args.only:
        config = make_config({"formula": formula, "max_atoms": COMPOUNDS[formula], "seed": args.seed})
        for way in args.ways:
            entry = known.setdefault(formula, {}).setdefault(way, {"relaxations": []})
            rows = entry["relaxations"]
            if len(rows) >= args.top or time.monotonic() > end:
                continue
            if way == ASSEMBLER:
                starts, entry["generation_cpu"] = list(assembled(config, model, args.top)), 0.0
            else:
                starts, entry["generation_cpu"] = best_generated(config, way, model, args)
            for predicted, structure in starts[len(rows) :]:
                if time.monotonic() > end:
                    break
                rows.append({"predicted": predicted, "atoms": len(structure), **relaxed(structure, args.relaxer)})
                RESULTS.write_text(json.dumps(report, indent=1) + "\n")
        found = known.get(formula, {})
        zero = lowest_known(args.yardstick, formula) if args.relaxer == "chgnet" else lowest_seen(found)
        for way, entry in found.items():
            entry["summary"] = summary(entry["relaxations"], zero)
            print(f"{formula:14}{way:12}{entry.get('generation_cpu', 0.0):8.1f} s", entry["summary"], flush=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="spp", help="spp, gn, or the file of a network")
    parser.add_argument("--formula", default="CoAs2")
    parser.add_argument("--formula-units", type=int, default=4)
    parser.add_argument("--evaluated", type=int, default=300)
    optimisers = ("random", "pso", "tpe", "lineages")
    parser.add_argument("--optimisers", nargs="+", default=optimisers, choices=optimisers)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--only", nargs="+", default=list(COMPOUNDS), choices=list(COMPOUNDS))
    parser.add_argument("--ways", nargs="+", default=[*WAYS, ASSEMBLER], choices=[*WAYS, ASSEMBLER])
    parser.add_argument("--candidates", type=int, default=2000)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--relaxer", default="chgnet", choices=("chgnet", "spp"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--yardstick", type=Path, default=Path("../shared/data/yardstick_chgnet.json"))
    parser.add_argument("--budget-minutes", type=float, default=60)
    parser.add_argument("--fresh", action="store_true", help="forget the relaxations of before")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    report = {} if args.fresh or not RESULTS.is_file() else json.loads(RESULTS.read_text())
    if args.quality:
        quality(args, report)
    else:
        key = f"speed {args.model} {args.formula} {args.formula_units}"
        report[key] = report.get(key, {}) | speed(args)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
