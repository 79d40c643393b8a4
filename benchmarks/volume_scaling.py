"""Does scaling assembled structures to the estimated volume save relaxation?

    python benchmarks/volume_scaling.py [--structures 20] [--only MgO ...] [--processes 2] [--calculator chgnet]

For each compound as many random structures are assembled twice: as built, from sub-modules of the edge I_p, and scaled
to the volume estimated from the elements. Both are rattled and relaxed with the default tier (Buckingham: only for
SrTiO3). The table and ``results/volume_scaling.json`` hold the volumes over the estimate before and after, CPU seconds
and steps per structure, CPU seconds per success, outcomes and energies; ratios are scaled over as built.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np

from fuse_flows.config import TierConfig, make_config
from fuse_flows.relax.tiers import build_relaxer, relax_through
from fuse_flows.search.propose import rattled
from fuse_flows.structures.assembly import random_structure
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.volumes import VolumeWindow, estimated_volume

RESULTS = Path(__file__).parent / "results" / "volume_scaling.json"
MAX_ATOMS = {"MgO": 8, "SrTiO3": 10, "WCl2": 12, "CoAs2": 12, "Cu7S4": 11, "Ca3Ti2O7": 12, "Mn": 12}
VARIANTS = ("built", "scaled")


def relax_one(formula: str, variant: str, seed: int, calculator: str) -> dict[str, Any]:
    """Assemble and relax one structure."""
    config = make_config({"formula": formula, "max_atoms": MAX_ATOMS[formula], "volume": {"scale": True}})
    unit, rng = FormulaUnit.from_config(config), np.random.default_rng(seed)
    estimate = estimated_volume(unit)
    factors = config.volume
    window = VolumeWindow(estimate, factors.low * estimate, factors.high * estimate) if variant == "scaled" else None
    units = config.max_atoms // unit.n_atoms
    structure = random_structure(unit, max_formula_units=units, config=config, rng=rng, window=window).to_structure()
    tiers = (TierConfig(calculator=calculator, time_limit=300),)
    build_relaxer(tiers[0])
    began = process_time()
    result = relax_through(rattled(structure, config.rattle, rng), tiers)[-1]
    return {
        "outcome": result.outcome.value,
        "reason": result.reason,
        "before": structure.volume / len(structure) / estimate,
        "after": result.structure.volume / len(structure) / estimate,
        "energy": result.energy_per_atom if result.outcome.is_success else None,
        "steps": result.steps,
        "cpu": process_time() - began,
        "n_atoms": len(structure),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the relaxations of one variant together."""
    good = [run for run in runs if run["energy"] is not None]
    energies = sorted(run["energy"] for run in good)
    cpu = sum(run["cpu"] for run in runs)
    return {
        "outcomes": dict(Counter(run["outcome"] for run in runs)),
        "before": np.quantile([run["before"] for run in runs], (0.1, 0.5, 0.9)).round(3).tolist(),
        "after": np.quantile([run["after"] for run in good], (0.1, 0.5, 0.9)).round(3).tolist() if good else None,
        "after_of_lowest": round(min(good, key=lambda run: run["energy"])["after"], 3) if good else None,
        "cpu_per_structure": round(cpu / len(runs), 3),
        "cpu_per_success": round(cpu / len(good), 3) if good else None,
        "steps": round(float(np.mean([run["steps"] for run in runs])), 1),
        "lowest": round(energies[0], 4) if energies else None,
        "median": round(float(np.median(energies)), 4) if energies else None,
        "mean_of_lower_half": round(float(np.mean(energies[: (len(energies) + 1) // 2])), 4) if energies else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(MAX_ATOMS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--calculator", default="chgnet")
    options = parser.parse_args()
    table = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for formula in options.only:
            waiting = {
                variant: [
                    pool.submit(relax_one, formula, variant, seed, options.calculator)
                    for seed in range(options.structures)
                ]
                for variant in VARIANTS
            }
            rows = {variant: summary([future.result() for future in futures]) for variant, futures in waiting.items()}
            ratios = {
                key: round(rows["scaled"][key] / rows["built"][key], 3) if rows["built"][key] else None
                for key in ("cpu_per_structure", "cpu_per_success", "steps")
            }
            table[f"{formula}, {options.calculator}"] = {"structures": options.structures} | rows | {"ratios": ratios}
            RESULTS.write_text(json.dumps(table, indent=1) + "\n")
            for variant in VARIANTS:
                print(f"{formula:9s} {variant:6s} {rows[variant]}", flush=True)
            print(f"{formula:9s} scaled / built: {ratios}", flush=True)


if __name__ == "__main__":
    main()
