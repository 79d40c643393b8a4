"""Does a relaxation with statistical proxy potentials before CHGNet save calls of CHGNet, and what does it reach?

    python benchmarks/pre_relaxation.py [--structures 20] [--only CoAs2 WCl2] [--budget-minutes 30] [--fresh]

Random structures of six compounds of the FUSE2 paper (10.1039/d4fd00094c), as the assembler proposes them for the first
population of a search, are relaxed by ``[chgnet]`` and by ``[spp, chgnet]`` from the same start, one after the other on
one thread. The headline is the ratio of calls and of CPU seconds, with over without: sums over the structures
of a compound (failures included: a search pays for them), the geometric mean over compounds, a 95 % interval by
bootstrap; ``both ok`` counts only structures that converged both ways. Energies (meV/atom, with - without) are compared
where both converged; ``lowest`` compares the lowest of all structures. ``Spearman`` is the rank correlation within
the composition of the SPP energy, after its relaxation, with CHGNet's final energy. ``V spp`` and ``V then`` are the
median changes of volume by the two tiers of one chain, ``V w/o`` that of CHGNet alone.
``equal`` asks for calls at the same energy: the mean over the structures of the lowest energy so far, as a function of
the number of calls that each of them was allowed, comes within 5 meV/atom of the mean that CHGNet alone ends at after
so many calls with, over without.
``fall`` is how far CHGNet goes down from its first call to its end (median, eV/atom), where it converged.

``results/pre_relaxation.json`` is written after each structure. A relaxation that stands in it is not run again if
start, tiers, chgnet's version and (for spp) the potentials are the same, so that other potentials cost half of a new
run; calls do not depend on the machine, but CPU seconds do, and the last line says how many pairs of them were
measured in one run. After a change of the code, ask for ``--fresh``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import warnings
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from pre_relaxation_table import lines, summarise

from fuse_flows.config import SearchConfig, TierConfig
from fuse_flows.relax.chgnet import ChgnetCalculator
from fuse_flows.relax.spp_tier import spp_options, spp_tables
from fuse_flows.relax.tiers import build_relaxer, relax_through
from fuse_flows.search.propose import propose_initial

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from fuse_flows.relax.ase_tier import AseRelaxer

RESULTS = Path(__file__).parent / "results" / "pre_relaxation.json"
MAX_ATOMS = {"Ca3Ti2O7": 24, "CoAs2": 12, "Cu7S4": 22, "WCl2": 12, "YWB4": 12, "Li4OBrCl": 14}
CHGNET = TierConfig(time_limit=7200.0)  # the machine may be busy; the steps limit the work
SPP = TierConfig(calculator="spp", time_limit=7200.0)
WAYS = {"without": (CHGNET,), "with": (SPP, CHGNET)}


class Counting(ChgnetCalculator):
    """Our CHGNet calculator that counts its calls and keeps their energies, eV."""

    calls = 0
    energies: tuple[float, ...] = ()

    def calculate(self, *args: Any, **keywords: Any) -> None:
        """Count and compute."""
        self.calls += 1
        super().calculate(*args, **keywords)
        self.energies = (*self.energies, self.results["energy"])


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


@cache
def potentials_of(formula: str) -> str:
    """Return a hash of the potentials that a compound is relaxed with."""
    tables = spp_tables(spp_options(SPP), SearchConfig(formula=formula, max_atoms=200).counts)
    return digest([(pair, np.round(values, 6).tolist()) for pair, values in sorted(tables.values.items())])


def key_of(way: str, start: Structure, potentials: str) -> str:
    """Return a hash of all that decides how a relaxation ends, the code excepted."""
    geometry = [np.round(values, 8).tolist() for values in (start.lattice.matrix, start.cart_coords)]
    symbols = [site.specie.symbol for site in start]
    tiers = [tier.model_dump(mode="json") for tier in WAYS[way]]
    return digest([geometry, symbols, tiers, version("chgnet"), potentials if SPP in WAYS[way] else ""])


def relax(way: str, start: Structure, counting: Counting) -> dict[str, Any]:
    """Relax through the tiers of a search and count."""
    counting.calls, counting.energies = 0, ()
    begun = time.process_time()
    results = relax_through(start, WAYS[way])
    cpu = time.process_time() - begun
    last = results[-1]
    finished = len(results) == len(WAYS[way])
    row = {
        "outcome": str(last.outcome) if finished else f"SPP {last.outcome}",
        "reason": last.reason,
        "energy": last.energy_per_atom if finished else None,
        "first_energy": counting.energies[0] / len(start) if counting.energies else None,
        "trace": np.round(np.minimum.accumulate(np.array(counting.energies) / len(start)), 4).tolist(),
        "calls": counting.calls,
        "cpu": round(cpu, 3),
        "volumes": [round(item.volume, 3) for item in (start, *(result.structure for result in results))],
    }
    first = {"spp_energy": results[0].energy_per_atom, "spp_steps": results[0].steps, "spp_outcome": results[0].outcome}
    return row | (first if way == "with" else {})


def write(path: Path, rows: list[dict[str, Any]], seed: int) -> None:
    """Write rows and table in one go, so that a run that is killed leaves a whole file."""
    order = list(MAX_ATOMS)
    rows = sorted(rows, key=lambda row: (order.index(row["formula"]), row["index"]))
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("fuse-flows", "chgnet", "torch")},
        "seed": seed,
        "tiers": {way: [tier.model_dump(mode="json") for tier in tiers] for way, tiers in WAYS.items()},
        **summarise(rows),
        "rows": rows,
    }
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".part").replace(path)


def start_of(formula: str, index: int, seed: int) -> Structure | None:
    """Return a member of the first population of a search; None if none could be assembled."""
    return propose_initial(SearchConfig(formula=formula, max_atoms=MAX_ATOMS[formula], seed=seed), index).structure


def stored(path: Path, seed: int) -> tuple[dict[tuple[str, int], dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the structures whose relaxations are all up to date, and every relaxation that is, by key."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    relaxations: dict[str, dict[str, Any]] = {}
    found = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    for row in found:
        start = start_of(row["formula"], row["index"], seed)
        if start is None:
            continue
        potentials = potentials_of(row["formula"])
        current = [way for way in WAYS if row[way]["key"] == key_of(way, start, potentials)]
        relaxations |= {row[way]["key"]: row[way] for way in current}
        if len(current) == len(WAYS):
            rows[row["formula"], row["index"]] = row
    return rows, relaxations


def show(row: dict[str, Any]) -> None:
    cells = []
    for way in WAYS:
        one = row[way]
        energy = float("nan") if one["energy"] is None else one["energy"]
        cells.append(f"{way} {one['calls']:4d} calls {one['cpu']:6.1f} s {energy:9.4f} {one['outcome']}")
    print(f"{row['formula']:>10} {row['index']:3d} {row['atoms']:3d} atoms  {'   '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=int, default=20, help="Structures of each compound.")
    parser.add_argument("--only", nargs="+", choices=list(MAX_ATOMS), default=list(MAX_ATOMS), help="Some compounds.")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--budget-minutes", type=float, default=120.0, help="No structure begins later than this.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true", help="Run all relaxations, also those that stand in the file.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows, known = ({}, {}) if options.fresh else stored(options.results, options.seed)
    counting = Counting()
    cast("AseRelaxer", build_relaxer(CHGNET)).calculator = counting
    small = SearchConfig(formula="CoAs2", max_atoms=3)
    relax_through(propose_initial(small, 0).structure, WAYS["with"])  # the model has run, loops are compiled
    run = datetime.now(UTC).isoformat(timespec="seconds")
    ends = time.monotonic() + 60 * options.budget_minutes
    for index, formula in product(range(options.structures), options.only):
        start = None if (formula, index) in rows else start_of(formula, index, options.seed)
        if start is None or time.monotonic() > ends:
            continue
        row: dict[str, Any] = {"formula": formula, "index": index, "atoms": len(start)}
        row["potentials"] = potentials_of(formula)
        for way in list(WAYS)[:: 1 if index % 2 else -1]:  # neither is always first
            key = key_of(way, start, row["potentials"])
            row[way] = known.get(key) or {"key": key, "run": run, **relax(way, start, counting)}
        rows[formula, index] = row
        show(row)
        write(options.results, list(rows.values()), options.seed)
    print("\n".join(lines(summarise(list(rows.values())))))


if __name__ == "__main__":
    main()
