"""Does the search find structures that everybody knows?

    python benchmarks/known_structures.py [--seeds 0 1 2] [--processes 2] [--only MgO CoAs2] [--recipes fgen mlgen-spp]
        [--budget-minutes 120]

Nineteen compounds of 2 to 14 atoms per cell (``crystals.py``, with the sources), CHGNet, several seeds each, through a
real LaunchPad. The known structure is relaxed by the same tier in the same run; every result is stated against it. A
search has found it if a candidate lies no more than 5 meV/atom above it, or matches it (StructureMatcher, default
tolerances). ``lower`` marks a best candidate that lies more than 5 meV/atom below it: the potential has another ground
state. A search ends as soon as a candidate is low enough, or when its structures are used up.

The first population is assembled at random (``fgen``), or as the recipe says; the graph network of ``mlgen`` has learnt
formation energies of the first fourteen, as has that of the FUSE2 paper; the last five were held out.

Reported are: meV/atom above the known structure, structures needed, whether the structure that found it belonged to the
first population or came from a move (and which), seconds of relaxation (wall), and CPU seconds of the process; both
without the loading of the model and the relaxation of the known structure.

``results/known_structures.json`` is written after each search, and searches that stand in it, made with the same
configuration, are not run again (``--fresh`` to forget them). No search begins after ``--budget-minutes``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.insert(0, str(Path(__file__).parent))

from crystals import CRYSTALS
from ports import free_port
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from fuse_flows.cli.options import search_config
from fuse_flows.config import SearchConfig, TierConfig
from fuse_flows.flows.local import submit, work
from fuse_flows.flows.recipes import RECIPES
from fuse_flows.relax.tiers import relax_through
from fuse_flows.store.connection import connect_server
from fuse_flows.store.queries import candidates
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

if TYPE_CHECKING:
    from fuse_flows.relax.result import RelaxResult

    Key = tuple[str, str, int]  # recipe, formula, seed

RESULTS = Path(__file__).parent / "results" / "known_structures.json"
WINDOW = 0.005  # eV/atom

# Largest cell in atoms, structures in all.
LIMITS = {
    "MgO": (8, 40),
    "NaCl": (8, 40),
    "ZnS": (8, 60),
    "NiAs": (8, 200),
    "Li3N": (8, 60),
    "CaF2": (12, 80),
    "Mg2Si": (12, 80),
    "SrTiO3": (10, 60),
    "TiO2": (12, 120),
    "Al2O3": (10, 200),
    "FeS2": (12, 400),
    "CoAs2": (12, 400),
    "SiO2": (12, 200),
    "MgAl2O4": (14, 300),
    "KNbO3": (10, 60),
    "LaB6": (7, 200),
    "MgB2": (6, 60),
    "Cr2O3": (10, 200),
    "CuFeS2": (8, 200),
}
COLUMNS = {
    "recipe": "recipe",
    "formula": "formula",
    "seed": "seed",
    "found": "found",
    "meV above": "mev_above_known",
    "lower": "lower",
    "needed": "structures_needed",
    "found by": "found_by",
    "structures": "structures",
    "relaxed": "relaxed",
    "relax s": "relaxation_seconds",
    "cpu s": "cpu_seconds",
    "space group": "best_space_group",
}


def config_for(recipe: str, formula: str, seed: int, known_energy: float | None = None) -> SearchConfig:
    """The search; once the energy of the known structure is known, with the energy at which to stop."""
    max_atoms, structures = LIMITS[formula]
    config = search_config(formula, recipe=recipe, seed=seed, max_atoms=max_atoms, max_structures=structures)
    if known_energy is None:
        return config
    stop = config.stop.model_copy(update={"target_energy": known_energy + WINDOW})
    execution = config.execution.model_copy(update={"structures_per_job": 10, "steps_per_job": 10})
    return config.model_copy(update={"stop": stop, "execution": execution})


def run_search(recipe: str, formula: str, seed: int, folder: str, port: int) -> dict[str, Any]:
    """Run one search to its end and say whether it succeeded."""
    os.chdir(folder)
    logging.disable(logging.INFO)  # FireWorks and jobflow report every job
    connection = connect_server(EmbeddedServer(Path(folder) / "db", port=port))
    known = relax_through(CRYSTALS[formula].structure, (TierConfig(),))[-1]
    config = config_for(recipe, formula, seed, known.energy_per_atom)
    begun, cpu = time.perf_counter(), time.process_time()
    submit(connection, config)
    work(connection, config.search_id)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    documents = candidates(connection, config.search_id)
    return {
        "recipe": recipe,
        "formula": formula,
        "seed": seed,
        "search_id": config.search_id,
        "max_structures": config.stop.max_structures,
        **outcome(documents, known),
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
    }


def outcome(documents: list[dict[str, Any]], known: RelaxResult) -> dict[str, Any]:
    """Compare the candidates of a search, in order, with the known structure, relaxed."""
    relaxed = [document for document in documents if document["energy_per_atom"] is not None]
    best = min(relaxed, key=lambda document: document["energy_per_atom"], default=None)
    found = first_success(documents, known)
    by = None
    if found is not None:
        document = documents[found]
        by = "first population" if document["step"] == 0 else document["move"] or document["source"]
    above = None if best is None else 1000 * (best["energy_per_atom"] - known.energy_per_atom)
    seconds = [document["seconds"] for document in documents]
    return {
        "found": found is not None,
        "found_by": by,
        "structures_needed": None if found is None else found + 1,
        "relaxation_seconds_needed": None if found is None else round(sum(seconds[: found + 1]), 1),
        "lower": bool(above is not None and above < -1000 * WINDOW),
        "mev_above_known": None if above is None else round(above, 2),
        "best_space_group": None if best is None else best["space_group"],
        "best_matches": best is not None and bool(StructureMatcher().fit(structure_of(best), known.structure)),
        "known_ev_per_atom": round(known.energy_per_atom, 5),
        "structures": len(documents),
        "relaxed": len(relaxed),
        "relaxation_seconds": round(sum(seconds), 1),
    }


def first_success(documents: list[dict[str, Any]], known: RelaxResult) -> int | None:
    """Return the number of the first candidate that is low enough, or matches."""
    matcher = StructureMatcher()
    for number, document in enumerate(documents):
        energy = document["energy_per_atom"]
        if energy is not None and (
            energy <= known.energy_per_atom + WINDOW or matcher.fit(structure_of(document), known.structure)
        ):
            return number
    return None


def structure_of(document: dict[str, Any]) -> Structure:
    return Structure.from_dict(document["structure"])


def read_rows(path: Path) -> dict[Key, dict[str, Any]]:
    """Read the searches of earlier runs that were made with the present configuration."""
    if not path.exists():
        return {}
    found = [{"recipe": RECIPES[0]} | row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    rows = {(row["recipe"], row["formula"], row["seed"]): row for row in found}
    return {key: row for key, row in rows.items() if key[1] in LIMITS and is_current(row)}


def is_current(row: dict[str, Any]) -> bool:
    config = config_for(row["recipe"], row["formula"], row["seed"])
    return (row.get("search_id"), row.get("max_structures")) == (config.search_id, config.stop.max_structures)


def write_rows(path: Path, rows: dict[Key, dict[str, Any]]) -> None:
    """Write all rows in one go, so that a run that is killed leaves a whole file."""
    order = list(LIMITS)
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("fuse-flows", "chgnet", "torch", "ase")},
        "tier": TierConfig().model_dump(mode="json"),
        "window_mev_per_atom": 1000 * WINDOW,
        "rows": [rows[key] for key in sorted(rows, key=lambda key: (key[0], order.index(key[1]), key[2]))],
    }
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".part").replace(path)


def show(row: dict[str, Any]) -> None:
    print(" ".join(f"{row[key]!s:>{max(10, len(title))}.26}" for title, key in COLUMNS.items()), flush=True)


def summary(rows: dict[Key, dict[str, Any]], recipe: str) -> None:
    """Print of a recipe, by compound, how many seeds succeeded, how, and what they needed."""
    rows = {key: row for key, row in rows.items() if key[0] == recipe}
    print(f"\n{recipe:>10} {'found':>7} {'first population':>17} {'structures needed':>22} {'worst meV above':>16}")
    for formula in LIMITS:
        mine = [row for row in rows.values() if row["formula"] == formula]
        if mine:
            found = [row for row in mine if row["found"]]
            first = sum(row["found_by"] == "first population" for row in found)
            needed = " ".join(str(row["structures_needed"]) for row in found)
            above = max(row["mev_above_known"] for row in mine if row["mev_above_known"] is not None)
            share = f"{len(found)}/{len(mine)}"
            print(f"{formula:>10} {share:>7} {first:17} {needed:>22} {above:16.1f}")
    keys = ("cpu_seconds", "relaxation_seconds", "structures")
    cpu, relax, structures = (sum(row[key] for row in rows.values()) for key in keys)
    print(f"all: {cpu:.0f} CPU seconds, {relax:.0f} s of relaxation, {structures} structures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=sorted(LIMITS), default=list(LIMITS), help="Some compounds.")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=[RECIPES[0]])
    parser.add_argument("--budget-minutes", type=float, default=120.0, help="No search begins later than this.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true", help="Run all searches, also those that stand in the results.")
    options = parser.parse_args()
    rows = {} if options.fresh else read_rows(options.results)
    wanted = product(options.recipes, options.seeds, options.only)
    waiting = [key for recipe, seed, formula in wanted if (key := (recipe, formula, seed)) not in rows]
    print(" ".join(f"{title:>{max(10, len(title))}}" for title in COLUMNS))
    for row in rows.values():
        show(row)
    ends = time.monotonic() + 60 * options.budget_minutes
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "db", port=free_port())
        server.start()
        ensure_indexes(connect_server(server))
        try:
            with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
                running = {}
                while waiting or running:
                    while waiting and len(running) < options.processes and time.monotonic() < ends:
                        key = waiting.pop(0)
                        running[pool.submit(run_search, *key, folder, server.port)] = key
                    if not running:
                        break
                    done = next(as_completed(running))
                    rows[running.pop(done)] = done.result()
                    show(done.result())
                    write_rows(options.results, rows)
        finally:
            server.stop()
    for recipe in options.recipes:
        summary(rows, recipe)
    if waiting:
        print(f"time is over; not begun: {', '.join(' '.join(map(str, key)) for key in waiting)}")


if __name__ == "__main__":
    main()
