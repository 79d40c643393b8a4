"""Relaxing small cells with a model of torch-sim in our batches, against one by one, and against ASE's Lennard-Jones.

All three ways use our L-BFGS with the same limits on the same random and rattled cells of argon; the forces are the
same, ASE's energies are shifted so that each pair ends at zero. A pair potential shows what the adapter costs, not what
batches gain: torch-sim 0.3.0 takes the crystals of a batch for it one after the other.

Run: python benchmarks/torchsim.py [--cells 32]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load

import numpy as np
from ase.calculators.lj import LennardJones
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.batches import relax_together
from fuse_flows.relax.tiers import build_relaxer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuse_flows.relax.result import RelaxResult

RESULTS = Path(__file__).parent / "results" / "torchsim.json"
SIGMA, EPSILON, CUTOFF = 3.4, 0.0104, 8.5
LIMITS: dict[str, Any] = {"fmax": 0.005, "smax": 0.05, "max_steps": 200}
FACES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def cells(number: int) -> list[Structure]:
    """Cells of 2 to 8 atoms: every other one random, the others rattled and strained fcc."""
    rng = np.random.default_rng(0)
    found: list[Structure] = []
    while len(found) < number:
        if len(found) % 2:
            crystal = Structure(Lattice.cubic(5.3), ["Ar"] * 4, FACES) * (1 + len(found) % 4 // 2, 1, 1)
            crystal.apply_strain(rng.normal(scale=0.03, size=3))
            found.append(crystal.perturb(0.3, seed=len(found)))
            continue
        size = int(rng.integers(2, 9))
        lattice = Lattice.cubic((40.0 * size) ** (1 / 3)).matrix @ (np.eye(3) + rng.normal(scale=0.1, size=(3, 3)))
        crystal = Structure(lattice, ["Ar"] * size, rng.random((size, 3)))
        if crystal.is_valid(tol=2.5):
            found.append(crystal)
    return found


def measure(way: Callable[[Sequence[Structure]], list[RelaxResult]], start: list[Structure]) -> dict[str, Any]:
    """Relax cells and count; evaluations are calls of the potential for one structure, seconds the best of three."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        results = way(start)
        times.append(time.process_time() - begin)
    seconds = min(times)
    evaluations = sum(result.steps + 1 for result in results)
    return {
        "cpu_seconds": round(seconds, 3),
        "evaluations": evaluations,
        "milliseconds_per_evaluation": round(1000 * seconds / evaluations, 3),
        "converged": sum(result.outcome.is_success for result in results),
        "median_volume_per_atom": round(statistics.median(r.structure.volume / len(r.structure) for r in results), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=32)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    model = {"model": "lennard_jones", "sigma": SIGMA, "epsilon": EPSILON, "cutoff": CUTOFF}
    ours = build_relaxer(TierConfig(calculator="torchsim", calculator_kwargs=model, **LIMITS))
    ase = AseRelaxer(TierConfig(calculator="lj", **LIMITS), LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF))
    start = cells(args.cells)
    for relaxer in (ours, ase):
        relaxer.relax(start[0])  # loads and compiles
    ways: dict[str, Callable[[Sequence[Structure]], list[RelaxResult]]] = {
        "torch-sim in our batches": lambda many: relax_together(ours, many),
        "torch-sim one by one": lambda many: [ours.relax(one) for one in many],
        "ASE one by one": lambda many: [ase.relax(one) for one in many],
    }
    record: dict[str, Any] = {way: measure(relax, start) for way, relax in ways.items()}
    ratios = {}
    for key in ("cpu_seconds", "evaluations", "milliseconds_per_evaluation"):
        ratios[key] = round(record["ASE one by one"][key] / record["torch-sim in our batches"][key], 3)
    record |= {"ASE one by one / torch-sim in our batches": ratios, "cells": args.cells, **LIMITS}
    record["versions"] = {name: version(name) for name in ("torch-sim-atomistic", "torch", "ase")}
    args.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
