"""Relaxations with CHGNet: ours against the chgnet package's own optimiser and ASE's L-BFGS, structure by structure.

    python benchmarks/chgnet_relax.py [--structures 60] [--ways ours lbfgs stock]    go on where the last run stopped
    python benchmarks/chgnet_relax.py --profile 6                                    where the time goes
    python benchmarks/chgnet_relax.py --workers 2 --structures 8                     what more processes give
    python benchmarks/chgnet_relax.py --batches 1 4 16 [--device cuda]               what batches of graphs give

All ways start from the same rattled structures of three compounds of the FUSE2 paper, 8 to 24 atoms, half of them
random and half generated (the lowest of 500 candidates per formula in the eyes of the graph network that comes with
the package), on one thread, and relax to 0.05 eV/A in at most 500 steps. ``ours`` and ``lbfgs`` (ASE's LBFGS) use our
CHGNet calculator and converge the stress, too; ``stock`` is chgnet's StructOptimizer with FIRE. From a random start
the ways may end in different minima, so energies are compared as distributions, by survivors (ends within 50 meV/atom
of the lowest energy of the compound), and by what a relaxation to 0.01 eV/A from each end gains (``left``): how far
from its minimum a way stops. Seconds are those of the CPU, because the machine may be shared.
``results/chgnet_relax.json`` holds every relaxation and is written after each structure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
import warnings
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load

import numpy as np
import torch

from fuse_flows.config import GenerationConfig, SearchConfig, TierConfig
from fuse_flows.generators.generate import generate
from fuse_flows.generators.gn.model import load_network
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.chgnet import ChgnetCalculator
from fuse_flows.relax.guards import check_contacts, check_isolated
from fuse_flows.relax.tiers import relax_through
from fuse_flows.search.propose import propose_initial, rattled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymatgen.core import Structure

RESULTS = Path(__file__).parent / "results" / "chgnet_relax.json"
FORMULAS = ("SrTiO3", "Ca3Ti2O7", "Y2TiO5")
SMALLEST, LARGEST, STEPS = 8, 24, 500
WAYS = {"ours": "L-BFGS", "lbfgs": "LBFGS", "stock": ""}
TIGHT = TierConfig(fmax=0.01, smax=0.1, max_steps=STEPS, second_pass=None)
SURVIVOR, WORSE = 50.0, 3.0  # meV/atom


def random_structures(formula: str, seed: int) -> Iterator[Structure]:
    """Structures as a search would relax them first, behind the guards of the tier."""
    config = SearchConfig(formula=formula, max_atoms=LARGEST, seed=seed)
    for index in range(10_000):
        structure = propose_initial(config, index).structure
        if structure is None or len(structure) < SMALLEST:
            continue
        cell, coords = structure.lattice.matrix, structure.frac_coords
        if check_contacts(config.tiers[0], cell, coords) is None and check_isolated(6.0, cell, coords) is None:
            yield structure


def generated_structures(formula: str, seed: int) -> Iterator[Structure]:
    """Structures of the generative model, rattled as a search does it."""
    config = SearchConfig(formula=formula, max_atoms=LARGEST, seed=seed)
    counts, model, members = dict(config.counts), load_network(), []
    per_unit = sum(counts.values())
    for units in range(-(-SMALLEST // per_unit), LARGEST // per_unit + 1):
        members += generate(counts, units, GenerationConfig(candidates=500, keep=20), model, seed).members
    members.sort(key=lambda member: member.energy_per_atom)
    rng = np.random.default_rng(seed)
    for member in members:
        structure = rattled(member.to_structure(), config.rattle, rng)
        cell, coords = structure.lattice.matrix, structure.frac_coords
        if check_contacts(config.tiers[0], cell, coords) is None and check_isolated(6.0, cell, coords) is None:
            yield structure


class Calls:
    """Counts the calls of our calculator."""

    def __init__(self) -> None:
        self.number = 0
        original = ChgnetCalculator.calculate

        def calculate(*args: Any, **keywords: Any) -> None:
            self.number += 1
            original(*args, **keywords)

        ChgnetCalculator.calculate = calculate  # type: ignore[method-assign]


def relax(way: str, structure: Structure, calls: Calls) -> dict[str, Any]:
    """Relax a structure in one of the ways, then on from there to see what is left."""
    before, begun = calls.number, time.process_time()
    if way == "stock":
        end, row = _stock(structure)
    else:
        result = relax_through(structure, [TierConfig(optimizer=WAYS[way], max_steps=STEPS)])[-1]
        end = result.structure
        row = {"energy": result.energy_per_atom, "outcome": str(result.outcome), "calls": calls.number - before}
    row["cpu"] = time.process_time() - begun
    if row["energy"] is not None and row["outcome"] == "CONVERGED":
        further = AseRelaxer(TIGHT).relax(end).energy_per_atom
        row["left"] = None if further is None else row["energy"] - further
    return row


def _stock(structure: Structure) -> tuple[Structure, dict[str, Any]]:
    from chgnet.model import StructOptimizer

    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = StructOptimizer(use_device="cpu")
        result = optimizer.relax(structure, fmax=TIGHT.fmax * 5, steps=STEPS, verbose=False, assign_magmoms=False)
    energies = result["trajectory"].energies
    outcome = "CONVERGED" if len(energies) <= STEPS else "NOT_CONVERGED"
    row = {"energy": float(energies[-1]) / len(structure), "outcome": outcome, "calls": len(energies)}
    return result["final_structure"], row


def summary(relaxations: list[dict[str, Any]], ways: list[str]) -> dict[str, Any]:
    """Speed of each way, and its energies against those of ours."""
    lowest: dict[str, float] = defaultdict(lambda: np.inf)
    for entry in relaxations:
        found = [entry[way]["energy"] for way in ways if entry[way]["energy"] is not None]
        lowest[entry["formula"]] = min([*found, lowest[entry["formula"]]])
    out: dict[str, Any] = {"lowest": dict(lowest)}
    for way in ways:
        rows = [entry[way] for entry in relaxations]
        left = [1e3 * row["left"] for row in rows if row.get("left") is not None]
        cpu = sum(row["cpu"] for row in rows)
        out[way] = {
            "structures_per_cpu_hour": 3600 * len(rows) / cpu,
            "calls_mean": float(np.mean([row["calls"] for row in rows])),
            "calls_median": float(np.median([row["calls"] for row in rows])),
            "cpu_seconds_per_call": cpu / sum(row["calls"] for row in rows),
            "converged": sum(row["outcome"] == "CONVERGED" for row in rows),
            "left_mev_median": float(np.median(left)) if left else None,
            "left_mev_largest": max(left, default=None),
            "left_above_3_mev": sum(value > WORSE for value in left),
        }
        if way != "ours" and "ours" in ways:
            out[way] |= _against_ours(relaxations, way, lowest)
    return out


def _against_ours(relaxations: list[dict[str, Any]], way: str, lowest: dict[str, float]) -> dict[str, Any]:
    both = [e for e in relaxations if e[way]["outcome"] == e["ours"]["outcome"] == "CONVERGED"]
    difference = np.array([1e3 * (e["ours"]["energy"] - e[way]["energy"]) for e in both])
    above = np.array([1e3 * (e[way]["energy"] - lowest[e["formula"]]) for e in both])
    cpu, ours = (sum(e[name]["cpu"] for e in relaxations) for name in (way, "ours"))
    if not both:
        return {"cpu_ratio": cpu / ours}
    return {
        "cpu_ratio": cpu / ours,
        "calls_ratio": sum(e[way]["calls"] for e in relaxations) / sum(e["ours"]["calls"] for e in relaxations),
        "both_converged": len(both),
        "ours_minus_it_mev": {str(q): float(np.percentile(difference, q)) for q in (10, 25, 50, 75, 90)},
        "ours_lower_by_3_mev": int((difference < -WORSE).sum()),
        "ours_higher_by_3_mev": int((difference > WORSE).sum()),
        "survivors": int((above < SURVIVOR).sum()),
        "survivors_ours_higher_by_3_mev": int(((above < SURVIVOR) & (difference > WORSE)).sum()),
    }


def compare(number: int, ways: list[str], seed: int) -> None:
    """Relax structures that are not in the results yet, in all ways."""
    record = _read()
    settings = {"seed": seed, "formulas": list(FORMULAS), "atoms": [SMALLEST, LARGEST], "chgnet": version("chgnet")}
    settings |= {"sources": ["random", "generated"]}
    if record.get("settings") != settings:
        record |= {"settings": settings, "relaxations": []}
    random = {formula: random_structures(formula, seed) for formula in FORMULAS}
    generated = {formula: generated_structures(formula, seed) for formula in FORMULAS}
    calls = Calls()
    warm = next(random_structures("SrTiO3", 0))
    for optimizer in ("L-BFGS", "LBFGS"):  # models load, compilers run
        relax_through(warm, [TierConfig(optimizer=optimizer, max_steps=2)])
    for place in range(number):
        formula = FORMULAS[place % len(FORMULAS)]
        source = "generated" if place // len(FORMULAS) % 2 else "random"
        structure = next((generated if source == "generated" else random)[formula])
        if place == len(record["relaxations"]):
            record["relaxations"].append({"formula": formula, "source": source, "atoms": len(structure)})
        entry = record["relaxations"][place]
        missing = [way for way in ways if way not in entry]
        for way in missing:
            entry[way] = relax(way, structure, calls)
        if not missing:
            continue
        cells = "  ".join(f"{way} {entry[way]['calls']:4d} {entry[way]['energy'] or np.nan:9.4f}" for way in ways)
        print(f"{place:3d} {formula:<9} {source:<9} {len(structure):3d} {cells}", flush=True)
        complete = [entry for entry in record["relaxations"] if all(way in entry for way in ways)]
        record["summary"] = summary(complete, ways)
        _write(record)
    for way, values in record.get("summary", {}).items():
        print(way, json.dumps(values, indent=1))


class Stopwatch:
    """CPU seconds inside some functions; those inside another one that is watched count there only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def wrap(self, owner: Any, attribute: str, name: str, static: Callable[[Any], Any] = lambda f: f) -> None:
        """Replace a function by one that is watched."""
        original = getattr(owner, attribute)

        def watched(*args: Any, **keywords: Any) -> Any:
            self._inside.append(0.0)
            begun = time.process_time()
            try:
                return original(*args, **keywords)
            finally:
                spent = time.process_time() - begun
                self.seconds[name] += spent - self._inside.pop()
                if self._inside:
                    self._inside[-1] += spent

        setattr(owner, attribute, static(watched))


def profile(number: int, seed: int) -> None:
    """Where the CPU seconds of our relaxations go, and how far they are from those of the passes alone."""
    from fuse_flows.relax import chgnet, course, descent

    watch = Stopwatch()
    pools = [random_structures(formula, seed) for formula in FORMULAS]
    structures = [next(pools[k % len(pools)]) for k in range(number)]
    tier = TierConfig(max_steps=STEPS)
    relax_through(structures[0], [tier.model_copy(update={"max_steps": 2})])
    model = chgnet.load_model("0.3.0", "cpu")
    watch.wrap(model.graph_converter, "forward", "graphs")
    watch.wrap(chgnet.BatchedGraph, "from_graphs", "forward", staticmethod)
    watch.wrap(model, "_compute", "forward")
    watch.wrap(torch.autograd, "grad", "backward")
    watch.wrap(course, "check_geometry", "guards")
    watch.wrap(descent.Descent, "tell", "optimiser")
    begun = time.process_time()
    results = [relax_through(structure, [tier])[-1] for structure in structures]
    total = time.process_time() - begun
    parts = dict(watch.seconds) | {"rest": total - sum(watch.seconds.values())}
    table = {
        "structures": number,
        "atoms": [len(structure) for structure in structures],
        "calls": sum(result.steps + 1 for result in results),
        "cpu_seconds": total,
        "share": {name: seconds / total for name, seconds in parts.items()},
        "over_floor": total / (parts["forward"] + parts["backward"]),
    }
    print(json.dumps(table, indent=1))
    _write(_read() | {"profile": table})


def share(number: int, workers: int, seed: int) -> None:
    """Wall seconds of one process and of several; only a machine that is idle tells."""
    pools = [random_structures(formula, seed) for formula in FORMULAS]
    structures = [next(pools[k % len(pools)]) for k in range(number)]
    relaxer = AseRelaxer(TierConfig(max_steps=60))
    seconds = {}
    for count in (1, workers):
        relaxer.relax_batch(structures[:count], workers=count)  # models load
        begun = time.perf_counter()
        relaxer.relax_batch(structures, workers=count)
        seconds[str(count)] = time.perf_counter() - begun
        print(f"{count} processes: {seconds[str(count)]:.1f} s for {number} structures", flush=True)
    table = {"structures": number, "wall_seconds": seconds, "speedup": seconds["1"] / seconds[str(workers)]}
    print(f"speed-up {table['speedup']:.2f}; processes begin with the longest wait, so few structures hide some of it")
    _write(_read() | {"workers": table})


def curve(sizes: list[int], device: str, seed: int) -> None:
    """Seconds per structure of one forward and backward pass over batch sizes, graphs included and apart."""
    calculator = ChgnetCalculator(use_device=device)
    pool = random_structures("SrTiO3", seed)
    crystals = [next(pool).to_ase_atoms() for _ in range(max(sizes))]
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    table: dict[str, Any] = {"device": device, "atoms_mean": float(np.mean([len(crystal) for crystal in crystals]))}
    graphs = Stopwatch()
    graphs.wrap(calculator.model.graph_converter, "forward", "graphs")
    for size in sizes:
        chunks = [crystals[k : k + size] for k in range(0, len(crystals), size)]
        calculator.compute_many(chunks[0])
        graphs.seconds.clear()
        begun = clock()
        for chunk in chunks:
            calculator.compute_many(chunk)
        spent = (clock() - begun) / len(crystals)
        table[str(size)] = {"seconds": spent, "graphs": graphs.seconds["graphs"] / len(crystals)}
        print(f"batch of {size}: {1e3 * spent:.1f} ms per structure", flush=True)
    begun = clock()
    for crystal in crystals:
        calculator.calculate(crystal)
    table["one_by_one"] = {"seconds": (clock() - begun) / len(crystals)}
    print(f"one by one: {1e3 * table['one_by_one']['seconds']:.1f} ms")
    record = _read()
    _write(record | {"batches": record.get("batches", {}) | {device: table}})


def _read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _write(record: dict[str, Any]) -> None:
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(record, indent=1) + "\n")
    new.replace(RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=60, help="number of structures, over all formulas")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--profile", type=int, metavar="N", help="profile N relaxations")
    parser.add_argument("--workers", type=int, metavar="N", help="compare N processes with one")
    parser.add_argument("--batches", type=int, nargs="+", metavar="N", help="sizes of batches to compare")
    parser.add_argument("--device", default="cpu", help="for --batches")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.profile:
        profile(args.profile, args.seed)
    elif args.workers:
        share(args.structures, args.workers, args.seed)
    elif args.batches:
        curve(args.batches, args.device, args.seed)
    else:
        compare(args.structures, args.ways, args.seed)


if __name__ == "__main__":
    main()
