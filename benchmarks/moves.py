"""How often the moves succeed on the structures published with the FUSE2 paper, and how long they take.

    python benchmarks/moves.py [--structures DIR] [--seeds 20]

DIR holds folders of CIFs named by formula. Every move is made from every structure with several seeds, at the default
settings but ``max_atoms: 100``; structures that the guard of a move excludes do not count for it. The table and
``results/moves.json`` hold the share of successes, milliseconds per call (failures included), and how the results
look: the share in which no contact is below 0.65 times the sum of the radii, and the median volume per atom, relative
to the structure before.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
from pymatgen.core import Structure

from fuse_flows.config import make_config
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.base import Move, MoveContext
from fuse_flows.moves.registry import MOVES
from fuse_flows.moves.repair import needed_growth
from fuse_flows.search.propose import move_context
from fuse_flows.structures.blocks import BlockStructure

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "probe_structures"
RESULTS = Path(__file__).parent / "results" / "moves.json"
MAX_ATOMS = 100

Parent = tuple[str, BlockStructure, MoveContext]


def read_parents(folder: Path) -> list[Parent]:
    """Read all structures; the name of their folder is the formula."""
    parents = []
    for path in sorted(folder.rglob("*.cif")):
        context = move_context(make_config({"formula": path.parent.name, "max_atoms": MAX_ATOMS}))
        structure = BlockStructure.from_structure(Structure.from_file(path), edge=context.edge)
        parents.append((f"{path.parent.name}/{path.stem}", structure, context))
    return parents


def measure(move: Move, parents: list[Parent], seeds: int) -> dict[str, Any]:
    """Make one move from every structure with every seed."""
    reasons: Counter[str] = Counter()
    milliseconds, shares, is_open, growth = [], {}, [], []
    for name, parent, context in parents:
        if move.guard(parent, context) is not None:
            continue
        made = 0
        for seed in range(seeds):
            moved, rng = None, np.random.default_rng(seed)
            begun = perf_counter()
            try:
                moved = move.apply(parent, context, rng)
            except MoveFailed as failure:
                reasons[failure.reason] += 1
            milliseconds.append(1000 * (perf_counter() - begun))
            if moved is not None:
                made += 1
                is_open.append(needed_growth(moved, context) < 1.001)
                growth.append(moved.volume / len(moved) / (parent.volume / len(parent)))
        shares[name] = made / seeds
    return {
        "number": move.number,
        "move": move.name.value,
        "structures_allowed": len(shares),
        "success_share": round(float(np.mean(list(shares.values()))), 3),
        "structures_without_success": [name for name, share in shares.items() if not share],
        "median_ms": round(float(np.median(milliseconds)), 2),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 2),
        "open_contacts_share": round(float(np.mean(is_open)), 3),
        "median_volume_ratio": round(float(np.median(growth)), 3),
        "failures": dict(reasons.most_common()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=Path, default=DEFAULT if DEFAULT.is_dir() else None, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--dry", action="store_true", help="Do not write the results file.")
    options = parser.parse_args()
    if options.structures is None:
        parser.error("--structures DIR is needed: folders of CIFs, named by formula")
    warnings.simplefilter("ignore")  # pymatgen on rounded coordinates in CIFs
    parents = read_parents(options.structures)
    print(f"{len(parents)} structures, {options.seeds} seeds, max_atoms {MAX_ATOMS}\n")
    columns = ("allowed", "success", "median ms", "95 % ms", "open", "volume")
    print(f"{'move':>36} " + " ".join(f"{column:>9}" for column in columns) + "  failures")
    rows = []
    for move in MOVES.values():
        row = measure(move, parents, options.seeds)
        rows.append(row)
        failures = ", ".join(f"{reason} {count}" for reason, count in row["failures"].items())
        print(
            f"{row['number']:3} {row['move']:>32} {row['structures_allowed']:9} {row['success_share']:9.1%} "
            f"{row['median_ms']:9.2f} {row['p95_ms']:9.2f} {row['open_contacts_share']:9.1%} "
            f"{row['median_volume_ratio']:9.2f}  {failures}",
            flush=True,
        )
    if not options.dry:
        record = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "structures": len(parents),
            "seeds": options.seeds,
            "max_atoms": MAX_ATOMS,
            "rows": rows,
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
