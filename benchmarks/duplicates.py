"""What it costs to compare a candidate with all visited minima.

    python benchmarks/duplicates.py [--sizes 100 1000 5000] [--candidates 40] [--dry]

Minima: random structures of SrTiO3 with up to 20 atoms, taken off the grid of the assembler as a relaxation does (cells
strained by 4 %, atoms displaced by 0.2 A), energies spread over 1 eV/atom as CHGNet finds them. Half of the candidates
are copies of minima (another cell, rattled by 0.02 A, 0.2 meV/atom apart), half of them are new. The check of a
candidate is what a step does: recognise the proposal before it is relaxed, make its key, look for its cluster. "Cold"
is the first check of a process, which describes minima for the first time; "build" is the index that a job makes.
"Plain" is StructureMatcher.fit with every minimum, measured on a subset and scaled. The table and
``results/duplicates.json`` hold milliseconds of CPU time per candidate, how many copies were found, and how many new
ones were taken for copies.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import process_time
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from fuse_flows.config import DuplicatesConfig, make_config
from fuse_flows.search.propose import propose_initial
from fuse_flows.search.visited import Minimum, VisitedMinima
from fuse_flows.structures.fingerprint import Cell, fingerprint

RESULTS = Path(__file__).parent / "results" / "duplicates.json"
PLAIN_MINIMA, PLAIN_CANDIDATES = 100, 4
SPREAD = 1.0  # eV/atom

Candidate = tuple[Structure, float]


def random_candidates(number: int, seed: int) -> list[Candidate]:
    """Assemble structures, distort them and give them energies."""
    config = make_config({"formula": "SrTiO3", "max_atoms": 20, "seed": seed, "rattle": 0.2})
    rng = np.random.default_rng(seed)
    found: list[Candidate] = []
    index = 0
    while len(found) < number:
        structure = propose_initial(config, index).structure
        index += 1
        if structure is not None:
            strain = np.eye(3) + 0.04 * rng.normal(size=(3, 3))
            strained = Structure(structure.lattice.matrix @ strain, structure.species, structure.frac_coords)
            found.append((strained, -8.4 + SPREAD * rng.random()))
    return found


def copy_of(candidate: Candidate, rng: np.random.Generator) -> Candidate:
    """Return the same crystal in another cell, with noise."""
    structure, energy = candidate
    shear = np.eye(3, dtype=int)
    shear[1, 0] = rng.integers(-1, 2)
    other = structure * shear
    other.perturb(0.02)
    return other, energy + 2e-4 * rng.uniform(-1, 1)


def check(visited: VisitedMinima, candidate: Candidate, config: DuplicatesConfig) -> bool:
    """Do what a step does; say whether the candidate is a copy."""
    structure, energy = candidate
    visited.recognise(structure)
    cell = Cell.from_structure(structure)
    key = fingerprint(cell, energy, config.energy_tolerance, config.volume_tolerance)
    return visited.find(Minimum("candidate", energy, key.atoms, cell)) is not None


def measure(minima: list[Candidate], copies: list[Candidate], new: list[Candidate]) -> dict[str, Any]:
    config = DuplicatesConfig()
    representatives = [
        Minimum.from_structure(str(k), structure, energy) for k, (structure, energy) in enumerate(minima)
    ]
    begun = process_time()
    visited = VisitedMinima(config, representatives)
    building = process_time() - begun
    begun = process_time()
    check(visited, new[0], config)
    cold = process_time() - begun
    for minimum in representatives:
        _ = minimum.surroundings
    times: dict[str, list[float]] = {"copy": [], "new": []}
    found = {"copy": 0, "new": 0}
    for kind, candidates in (("copy", copies), ("new", new)):
        for candidate in candidates:
            begun = process_time()
            found[kind] += check(visited, candidate, config)
            times[kind].append(1000 * (process_time() - begun))
    matcher = StructureMatcher()
    begun = process_time()
    for structure, _ in [*copies[: PLAIN_CANDIDATES // 2], *new[: PLAIN_CANDIDATES // 2]]:
        for other, _ in minima[:PLAIN_MINIMA]:
            matcher.fit(other, structure)
    pairs = PLAIN_CANDIDATES * min(PLAIN_MINIMA, len(minima))
    plain = 1000 * (process_time() - begun) / pairs * len(minima)
    mean = float(np.mean([*times["copy"], *times["new"]]))
    return {
        "minima": len(minima),
        "copy_ms": round(float(np.mean(times["copy"])), 2),
        "new_ms": round(float(np.mean(times["new"])), 2),
        "longest_ms": round(max(*times["copy"], *times["new"]), 2),
        "cold_ms": round(1000 * cold, 1),
        "build_ms": round(1000 * building, 1),
        "plain_ms": round(plain, 1),
        "plain_over_check": round(plain / mean, 1),
        "copies_found": f"{found['copy']}/{len(copies)}",
        "new_taken_for_copies": f"{found['new']}/{len(new)}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--dry", action="store_true", help="Do not write the results file.")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    rng = np.random.default_rng(0)
    minima = random_candidates(max(options.sizes), seed=1)
    new = random_candidates(options.candidates // 2, seed=2)
    StructureMatcher().fit(minima[0][0], minima[1][0])  # loads what it needs
    rows = []
    for size in options.sizes:
        chosen = rng.choice(size, options.candidates // 2, replace=size < options.candidates // 2)
        row = measure(minima[:size], [copy_of(minima[k], rng) for k in chosen], new)
        if not rows:
            print(("{:>22}" * len(row)).format(*row))
        print(("{!s:>22}" * len(row)).format(*row.values()), flush=True)
        rows.append(row)
    if not options.dry:
        record = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {name: version(name) for name in ("fuse-flows", "pymatgen", "spglib", "numpy")},
            "rows": rows,
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
