"""Calls of CHGNet and CPU seconds per relaxation: our L-BFGS, ASE's optimisers, and that of the chgnet package.

    python benchmarks/chgnet_relax.py [--structures 20] [--max-atoms 16] [--ways ours line lbfgs stock]

All start from the same rattled random structures of SrTiO3, MgO, Ca3Ti2O7 and CoAs2 (8 to 16 atoms), which is what a
search relaxes, on one thread. ``ours``, ``line`` (BFGSLineSearch) and ``lbfgs`` (ASE's LBFGS) use our CHGNet calculator
and converge force and stress; ``stock`` is chgnet's StructOptimizer (FIRE) with the same largest force, which stops on
a mixture of force and virial. From a random start the ways may end in different minima: with few structures the
means of the energies differ by that alone. ``results/chgnet_relax.json`` holds every relaxation.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load

import numpy as np

from fuse_flows.config import SearchConfig, TierConfig
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.chgnet import ChgnetCalculator
from fuse_flows.relax.guards import check_contacts, check_isolated
from fuse_flows.search.propose import propose_initial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core import Structure

RESULTS = Path(__file__).parent / "results" / "chgnet_relax.json"
FORMULAS = ("SrTiO3", "MgO", "Ca3Ti2O7", "CoAs2")
WAYS = {"ours": "L-BFGS", "line": "BFGSLineSearch", "lbfgs": "LBFGS", "stock": ""}


class Counting(ChgnetCalculator):
    """Our CHGNet calculator that counts its calls."""

    calls = 0

    def calculate(self, *args: Any, **keywords: Any) -> None:
        """Count and compute."""
        self.calls += 1
        super().calculate(*args, **keywords)


def random_structures(formula: str, max_atoms: int, seed: int) -> Iterator[Structure]:
    """Structures as a search would relax them first, of eight atoms or more, behind the guards of the tier."""
    config = SearchConfig(formula=formula, max_atoms=max_atoms, seed=seed)
    tier, cutoff = config.tiers[0], 6.0
    for index in range(1000):
        structure = propose_initial(config, index).structure
        if structure is None or len(structure) < 8:
            continue
        cell, coords = structure.lattice.matrix, structure.frac_coords
        if check_contacts(tier, cell, coords) is None and check_isolated(cutoff, cell, coords) is None:
            yield structure


def ours(optimizer: str, structure: Structure) -> dict[str, Any]:
    """Relax with a tier of ours."""
    calculator = Counting()
    relaxer = AseRelaxer(TierConfig(optimizer=optimizer), calculator)
    begun = time.process_time()
    result = relaxer.relax(structure)
    seconds = time.process_time() - begun
    return {"calls": calculator.calls, "cpu": seconds, "energy": result.energy_per_atom, "outcome": str(result.outcome)}


def stock(structure: Structure) -> dict[str, Any]:
    """Relax with the chgnet package's own optimiser."""
    from chgnet.model import StructOptimizer

    tier = TierConfig()
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = StructOptimizer(use_device="cpu")
        begun = time.process_time()
        result = optimizer.relax(structure, fmax=tier.fmax, steps=tier.max_steps, verbose=False, assign_magmoms=False)
    seconds, energies = time.process_time() - begun, result["trajectory"].energies
    outcome = "CONVERGED" if len(energies) < tier.max_steps else "NOT_CONVERGED"
    return {"calls": len(energies), "cpu": seconds, "energy": float(energies[-1]) / len(structure), "outcome": outcome}


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Means per way; energies against the first way, where both converged, and against the best of all ways."""
    first = next(iter(rows.values()))
    columns = [[r["energy"] for r in column if r["energy"] is not None] for column in zip(*rows.values(), strict=True)]
    best = [min(column, default=np.nan) for column in columns]
    out = {}
    for way, results in rows.items():
        pairs = [(a, b) for a, b in zip(results, first, strict=True) if a["outcome"] == b["outcome"] == "CONVERGED"]
        both = [(a["energy"], b["energy"]) for a, b in pairs]
        above = [1e3 * (r["energy"] - low) for r, low in zip(results, best, strict=True) if r["energy"] is not None]
        out[way] = {
            "calls": float(np.mean([r["calls"] for r in results])),
            "calls_median": float(np.median([r["calls"] for r in results])),
            "cpu_seconds": float(np.mean([r["cpu"] for r in results])),
            "converged": sum(r["outcome"] == "CONVERGED" for r in results),
            "mev_above_first_median": float(np.median([1e3 * (a - b) for a, b in both])) if both else float("nan"),
            "mev_above_first_mean": float(np.mean([1e3 * (a - b) for a, b in both])) if both else float("nan"),
            "mev_above_best_mean": float(np.mean(above)) if above else float("nan"),
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=20, help="number of structures, over all formulas")
    parser.add_argument("--max-atoms", type=int, default=16)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    pools = {formula: random_structures(formula, args.max_atoms, args.seed) for formula in FORMULAS}
    names, rows = [], {way: [] for way in args.ways}
    warm = next(random_structures("MgO", 8, 0))
    for way in args.ways:  # models load, compilers run
        AseRelaxer(TierConfig(optimizer=WAYS[way] or "FIRE", max_steps=2), Counting()).relax(warm)
    for number in range(args.structures):
        formula = FORMULAS[number % len(FORMULAS)]
        structure = next(pools[formula])
        names.append(f"{formula} {len(structure)}")
        for way in args.ways:
            row = ours(WAYS[way], structure) if WAYS[way] else stock(structure)
            rows[way].append(row)
        cells = "  ".join(f"{w} {rows[w][-1]['calls']:4d} {rows[w][-1]['energy'] or np.nan:9.4f}" for w in args.ways)
        print(f"{names[-1]:<12} {cells}", flush=True)
        table = summary(rows)
        base = table[args.ways[0]]
        record = {
            "chgnet": version("chgnet"),
            "max_atoms": args.max_atoms,
            "seed": args.seed,
            "structures": names,
            "summary": table,
            "ratio_calls": {way: values["calls"] / base["calls"] for way, values in table.items()},
            "ratio_cpu": {way: values["cpu_seconds"] / base["cpu_seconds"] for way, values in table.items()},
            "relaxations": rows,
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")  # after each structure, so that a run can be cut short
    for way, values in table.items():
        print(way, " ".join(f"{key} {value:.4g}" for key, value in values.items()))
        print(f"  {way} / {args.ways[0]}: calls {record['ratio_calls'][way]:.2f}, CPU {record['ratio_cpu'][way]:.2f}")


if __name__ == "__main__":
    main()
