"""How many relaxations does a search need, and do learnt moves, or the refusal of copies, save any?

    python benchmarks/search_quality.py [--only SrTiO3 Y2TiO5] [--policies random uniform weights reinforce]
        [--duplicates note] [--seeds 10] [--structures 600] [--processes 2] [--budget-minutes 60]

Searches with a fast potential and without a database: the engine's own steps in a plain loop, one search per process.
Drawn and tabulated is the share of seeds that reached the target against the number of relaxations.

Policies (``move_policy``): ``uniform``, ``weights`` (small changes often, fresh structures seldom; after melting the
other way round), ``reinforce``, and ``random``, which draws only fresh structures (move 14): the alternative that
all ratios refer to. ``--duplicates`` compares what is done about copies instead, with uniform moves: ``off`` (not
looked for), ``note`` (the default), ``redraw`` (known proposals are drawn again, up to three times), ``reject`` (copies
are rejected), ``both``. Each combination of the two options is a variant.

Target: the known structure relaxed by the same tier in the same run, if its cell fits into ``max_atoms``; otherwise, or
if some search went lower by more than the window, the lowest energy that any search here has seen. Success is an energy
no more than 2 meV/atom above it. The published targets (Zamaraeva et al., 10.1039/d3dd00138e: Ewald sums with the same
Buckingham potentials) are printed beside it; they are energies of the same scale only with ``--tier`` options that use
an Ewald sum, such as '{"calculator_kwargs": {"coulomb": "ewald"}}'.

Both comparisons (several policies with one treatment of copies, or the other way round) have their report in
``results/search_quality.json`` and a picture beside it. The file is written after every search; a search whose
configuration stands in it is not run again (``--fresh`` to forget them, ``--draw`` for table and picture only). No
search begins after ``--budget-minutes``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from crystals import CRYSTALS
from quality_report import draw, table

from fuse_flows.config import MoveName, SearchConfig, make_config
from fuse_flows.jobs.evaluate import evaluate, evaluation_of
from fuse_flows.jobs.steps import walk
from fuse_flows.jobs.visited import cluster_fields
from fuse_flows.relax.tiers import relax_through
from fuse_flows.search.judge import start
from fuse_flows.search.propose import propose_initial
from fuse_flows.search.visited import VisitedMinima

RESULTS = Path(__file__).parent / "results" / "search_quality.json"
INITIAL = 20

# Formula: calculator, largest cell in atoms, structures of a search, published target in eV/atom.
CASES: dict[str, tuple[str, int, int, float | None]] = {
    "SrTiO3": ("buckingham", 20, 300, None),
    "Y2TiO5": ("buckingham", 16, 600, -32.682202),
    "Sr4Ti3O10": ("buckingham", 17, 600, -29.984896),
    "Cu3Au": ("emt", 16, 200, None),
}

_SMALL = (1, 2, 3, 4, 7, 8, 10)  # numbers of moves that change little
_FRESH = {13: 5.0, 14: 10.0}
POLICIES: dict[str, dict[str, Any]] = {
    "random": {
        "moves": {key: {MoveName.NEW_STRUCTURE_MAXIMUM_SIZE.value: 1.0} for key in ("weights", "melted_weights")}
    },
    "uniform": {"move_policy": "uniform"},
    "weights": {
        "move_policy": "weights",
        "moves": {
            "weights": {name.value: 3.0 if name.number in _SMALL else 1.0 for name in MoveName},
            "melted_weights": {name.value: _FRESH.get(name.number, 1.0) for name in MoveName},
        },
    },
    "reinforce": {"move_policy": "reinforce"},
}
DUPLICATES: dict[str, dict[str, Any]] = {
    "off": {"enabled": False},
    "note": {},
    "redraw": {"redraws": 3},
    "reject": {"reject": True},
    "both": {"reject": True, "redraws": 3},
}


def config_for(case: str, policy: str, duplicates: str, seed: int, options: dict[str, Any]) -> SearchConfig:
    """The configuration of one search; ``options`` are those of the command line that count."""
    calculator, max_atoms, structures, _ = CASES[case]
    tier = {"calculator": calculator, **(options["tier"] if calculator == "buckingham" else {})}
    values = {
        "formula": case,
        "label": "search quality",
        "max_atoms": max_atoms,
        "seed": seed,
        "generator": {"initial_structures": INITIAL},
        "duplicates": DUPLICATES[duplicates],
        "stop": {"max_structures": options["structures"] or structures, "patience": 10**6},
        "tiers": [tier],
        **POLICIES[policy],
    }
    return make_config(values)


def run_search(case: str, policy: str, duplicates: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Run one search: lowest energies as they came, with the number of the structure and what made it."""
    warnings.simplefilter("ignore")  # of pymatgen, on electronegativities of single elements
    config = config_for(case, policy, duplicates, seed, options)
    relax_through(CRYSTALS[case].structure, config.tiers)  # what is compiled or loaded once does not count
    begun, cpu = time.perf_counter(), time.process_time()
    visited = VisitedMinima(config.duplicates) if config.duplicates.enabled else None
    population = [evaluate(propose_initial(config, index), config) for index in range(INITIAL)]
    if visited is not None:
        population = [candidate | cluster_fields(candidate, visited) for candidate in population]
    state = start(config, [evaluation_of(candidate) for candidate in population])
    judged = list(population)
    while state.stop_reason is None:
        state, candidates = walk(config, state, visited)
        judged += candidates
    lowest: list[tuple[int, float, str]] = []
    for number, candidate in enumerate(judged, start=1):
        energy = candidate["energy_per_atom"]
        if energy is not None and (not lowest or energy < lowest[-1][1] - 1e-5):
            lowest.append((number, round(energy, 5), candidate["move"] or candidate["source"]))
    copies = sum(bool(candidate.get("is_duplicate")) for candidate in judged)
    return {
        "case": case,
        "policy": policy,
        "duplicates": duplicates,
        "seed": seed,
        "search_id": config.search_id,
        "tier": options["tier"],
        "structures": len(judged),
        "relaxed": sum(candidate["energy_per_atom"] is not None for candidate in judged),
        "copies": copies if visited is not None else None,
        "lowest": lowest,
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.perf_counter() - begun, 2),
        "relaxation_seconds": round(sum(candidate["seconds"] for candidate in judged), 2),
    }


def known_energies(cases: list[str], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Relax the known structures, and say which of them the searches can reach."""
    known = {}
    for case in cases:
        crystal = CRYSTALS[case]
        tiers = config_for(case, "random", "off", 0, options).tiers
        result = relax_through(crystal.structure, tiers)[-1]
        known[case] = {
            "name": f"{crystal.name} ({crystal.source})",
            "atoms": len(crystal.structure),
            "fits": len(crystal.structure) <= CASES[case][1],
            "outcome": str(result.outcome),
            "ev_per_atom": round(result.energy_per_atom, 5),
            "published_target_ev_per_atom": CASES[case][3],
            "structures": options["structures"] or CASES[case][2],
        }
    return known


def read_record(path: Path) -> dict[str, Any]:
    """Read what earlier runs left: all searches, and a report for each comparison."""
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {"reports": {}, "runs": {}}


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write everything in one go, so that a run that is killed leaves a whole file; one search per line."""
    head = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("fuse-flows", "ase", "numpy")},
        "policies": POLICIES,
        "duplicates": DUPLICATES,
        "reports": record["reports"],
    }
    runs = ",\n".join(f"  {json.dumps(key)}: {json.dumps(run)}" for key, run in sorted(record["runs"].items()))
    text = json.dumps(head, indent=1).removesuffix("\n}") + ',\n "runs": {\n' + runs + "\n }\n}\n"
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".part").write_text(text, encoding="utf-8")
    path.with_suffix(".part").replace(path)


def key_of(config: SearchConfig) -> str:
    return f"{config.search_id}/{config.stop.max_structures}"


def run_all(
    tasks: list[tuple[str, str, str, int]],
    record: dict[str, Any],
    options: dict[str, Any],
    arguments: argparse.Namespace,
) -> None:
    """Run the searches that are missing, and keep each result as it comes."""
    runs = record["runs"]
    waiting = [task for task in tasks if key_of(config_for(*task, options)) not in runs]
    print(f"{len(tasks)} searches, {len(tasks) - len(waiting)} of them known")
    ends = time.monotonic() + 60 * arguments.budget_minutes
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        running: dict[Any, tuple[str, str, str, int]] = {}
        while waiting or running:
            while waiting and len(running) < arguments.processes and time.monotonic() < ends:
                task = waiting.pop(0)
                running[pool.submit(run_search, *task, options)] = task
            if not running:
                break
            done = next(as_completed(running))
            row = done.result()
            runs[key_of(config_for(*running.pop(done), options))] = row
            write_record(arguments.results, record)
            each = 1000 * row["cpu_seconds"] / row["structures"]
            print(
                f"{row['case']:>10} {row['policy']:>10} {row['duplicates']:>7} {row['seed']:3}  lowest "
                f"{row['lowest'][-1][1] if row['lowest'] else float('nan'):10.4f} eV/atom after "
                f"{row['lowest'][-1][0] if row['lowest'] else 0:5} structures; {row['relaxed']} of {row['structures']} "
                f"relaxed, {row['copies']} copies, {each:.0f} ms of CPU per structure",
                flush=True,
            )
    if waiting:
        print(f"time is over; {len(waiting)} searches not begun")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="Some cases.")
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--duplicates", nargs="+", choices=list(DUPLICATES), default=["note"])
    parser.add_argument("--seeds", type=int, default=10, help="Number of seeds.")
    parser.add_argument("--structures", type=int, help="Structures of each search; default: by case.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--budget-minutes", type=float, default=60.0, help="No search begins later than this.")
    parser.add_argument("--tier", type=json.loads, default={}, help="JSON: more keys of the Buckingham tier.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file; pictures are put beside it.")
    parser.add_argument("--fresh", action="store_true", help="Run all searches, also those that stand in the results.")
    parser.add_argument("--draw", action="store_true", help="No search, only table and picture of what is there.")
    arguments = parser.parse_args()
    options = {"structures": arguments.structures, "tier": arguments.tier}
    record = {"reports": {}, "runs": {}} if arguments.fresh else read_record(arguments.results)
    variants = list(product(arguments.policies, arguments.duplicates))
    tasks = [
        (case, *variant, seed) for seed in range(arguments.seeds) for case in arguments.only for variant in variants
    ]
    known = known_energies(arguments.only, options)
    if not arguments.draw:
        run_all(tasks, record, options, arguments)
    keys = [key_of(config_for(*task, options)) for task in tasks]
    mine = [record["runs"][key] for key in keys if key in record["runs"]]
    everything = [run for run in record["runs"].values() if run["tier"] == options["tier"]]
    report = table(mine, everything, known, variants)
    name = "policies" if len(arguments.duplicates) == 1 else "duplicates"
    record["reports"][name] = {"known": known, "tier": options["tier"], **report}
    write_record(arguments.results, record)
    draw(report, arguments.results.with_name(f"{arguments.results.stem}_{name}.png"))


if __name__ == "__main__":
    main()
