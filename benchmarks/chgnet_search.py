"""A whole search with CHGNet before and after: chgnet's own calculator with FIRE, and our calculator and optimiser.

    python benchmarks/chgnet_search.py [--formula Ca3Ti2O7] [--max-atoms 24] [--structures 100] [--ways after before]

Both searches have the same seed, so the same first population (25 structures of the random assembler); from there on
each goes its own way, because relaxations end in different places. CPU seconds are those of this process, on one
thread, because the machine may be shared. A search that is cut short counts with what it has: the result is written
after every step, and the ratio is that of CPU seconds for equal numbers of structures.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

from fuse_flows.relax.threads import limit_threads

limit_threads(1)  # before numpy and torch load

from fuse_flows.config import SearchConfig, TierConfig
from fuse_flows.jobs.evaluate import evaluate, evaluation_of
from fuse_flows.jobs.steps import walk
from fuse_flows.relax.tiers import relax_through
from fuse_flows.search.judge import start
from fuse_flows.search.propose import propose_initial

RESULTS = Path(__file__).parent / "results" / "chgnet_search.json"
INITIAL = 25
TIERS = {
    "after": TierConfig(),
    "before": TierConfig(
        calculator="chgnet.model.dynamics:CHGNetCalculator",
        calculator_kwargs={"use_device": "cpu"},
        optimizer="FIRE",
        second_pass=None,
    ),
}


def config_for(args: argparse.Namespace, way: str) -> SearchConfig:
    return SearchConfig(
        formula=args.formula,
        max_atoms=args.max_atoms,
        seed=args.seed,
        generator={"initial_structures": INITIAL},
        stop={"max_structures": args.structures, "patience": 10**6},
        tiers=[TIERS[way]],
    )


def search(args: argparse.Namespace, way: str, record: dict[str, Any]) -> None:
    """Run one search, and write down CPU seconds and the lowest energy after each structure."""
    config = config_for(args, way)
    relax_through(propose_initial(config, 0).structure, [TIERS[way].model_copy(update={"max_steps": 2})])  # loads
    row = record[way] = {"tier": TIERS[way].model_dump(mode="json"), "done": False, "structures": []}
    begun, population = time.process_time(), []

    def note(candidate: dict[str, Any]) -> None:
        spent = round(time.process_time() - begun, 1)
        row["structures"].append([spent, candidate["energy_per_atom"], candidate["outcome"]])
        write(record)

    for index in range(INITIAL):
        population.append(evaluate(propose_initial(config, index), config))
        note(population[-1])
    state = start(config, [evaluation_of(candidate) for candidate in population])
    while state.stop_reason is None:
        state, candidates = walk(config, state)
        for candidate in candidates:
            note(candidate)
    row["done"] = True
    write(record)


def write(record: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(record | {"comparison": comparison(record)}, indent=1, default=str) + "\n")


def comparison(record: dict[str, Any]) -> dict[str, Any]:
    """Compare what both have done for the same number of structures."""
    rows = {way: record[way]["structures"] for way in TIERS if way in record}
    number = min((len(found) for found in rows.values()), default=0)
    if len(rows) < len(TIERS) or not number:
        return {}
    table: dict[str, Any] = {"structures": number}
    for way, found in rows.items():
        energies = [energy for _, energy, _ in found[:number] if energy is not None]
        table[way] = {
            "cpu_seconds": found[number - 1][0],
            "best_ev_per_atom": min(energies, default=None),
            "converged": sum(outcome == "CONVERGED" for *_, outcome in found[:number]),
        }
    table["cpu_ratio"] = round(table["before"]["cpu_seconds"] / table["after"]["cpu_seconds"], 2)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formula", default="Ca3Ti2O7")
    parser.add_argument("--max-atoms", type=int, default=24)
    parser.add_argument("--structures", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=list(TIERS), default=list(TIERS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    record["search"] = {key: getattr(args, key) for key in ("formula", "max_atoms", "structures", "seed")}
    for way in args.ways:
        search(args, way, record)
    print(json.dumps(comparison(record), indent=1))


if __name__ == "__main__":
    main()
