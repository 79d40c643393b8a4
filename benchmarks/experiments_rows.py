"""What the database knows of the runs of ``experiments.py``, one row each, and what they are measured against."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments_paper import COMPOUNDS
from pymatgen.core import Composition, Structure

from fuse_flows.config import TierConfig
from fuse_flows.errors import DatabaseError
from fuse_flows.relax.tiers import relax_all_through
from fuse_flows.store.jobs import fizzled_jobs
from fuse_flows.store.pools import pool_summary
from fuse_flows.store.queries import candidate_rows
from fuse_flows.store.searches import search_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from experiments import Case

    from fuse_flows.store.connection import Connection

_FIELDS = ("candidate_id", "energy_per_atom", "outcome", "tiers", "n_atoms", "space_group", "source", "move", "origin")


@dataclass(frozen=True)
class Yardstick:
    """Energies of known and published structures in the last tier, eV/atom, by compound and name."""

    known: dict[str, dict[str, float]] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)

    def lowest_known(self, formula: str) -> float | None:
        """Lowest energy of a known structure, if there is any."""
        return min(self.known.get(formula, {}).values(), default=None)

    def lowest_published(self, formula: str) -> float | None:
        """Lowest energy of a structure that the paper published, if there is any."""
        return min(self.published.get(formula, {}).values(), default=None)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"known": self.known, "published": self.published}


def row_of(connection: Connection, case: Case) -> dict[str, Any] | None:
    """What is known of a run; None if the database does not know it."""
    try:
        document = search_document(connection, case.config.search_id)
    except DatabaseError:
        return None
    found = candidate_rows(connection, case.config.search_id, _FIELDS)
    before = {"generate": generation_cpu(connection, case), "rank": ranking_cpu(connection, case)}
    failed = fizzled_jobs(connection, case.config.search_id)
    row = {
        "formula": case.formula,
        "recipe": case.recipe,
        "seed": case.seed,
        "search_id": case.config.search_id,
        "status": document.status,
        "stop_reason": document.stop_reason,
        "failed": failed[0][1] if failed else None,
        "initial": case.config.generator.initial_structures,
        "outcomes": document.outcomes,
    }
    return row | summary_of(found, before, row["initial"])


def summary_of(found: Sequence[dict[str, Any]], before: dict[str, float], initial: int) -> dict[str, Any]:
    """Costs and energies of a run.

    Parameters
    ----------
    found
        Candidates in the order of the search.
    before
        CPU seconds spent before the first one, by what for.
    initial
        Structures of the first population.
    """
    spent = dict(before)
    lowest: list[dict[str, Any]] = []
    total = sum(before.values())
    for number, doc in enumerate(found, start=1):
        for tier in doc["tiers"]:
            cost = tier.get("cpu_seconds")
            cost = tier["seconds"] if cost is None else cost
            spent[tier["calculator"]] = spent.get(tier["calculator"], 0.0) + cost
            total += cost
        energy = doc["energy_per_atom"]
        if energy is not None and (not lowest or energy < lowest[-1]["energy"] - 1e-5):
            lowest.append(
                {
                    "number": number,
                    "cpu_seconds": round(total, 2),
                    "energy": round(energy, 5),
                    "by": doc.get("move") or doc.get("source"),
                    "n_atoms": doc.get("n_atoms"),
                    "space_group": doc.get("space_group"),
                    "candidate_id": doc.get("candidate_id"),
                }
            )
    first = [place["energy"] for place in lowest if place["number"] <= initial]
    complete = len(found) >= initial
    best = lowest[-1]["energy"] if lowest else None
    return {
        "structures": len(found),
        "relaxed": sum(doc["energy_per_atom"] is not None for doc in found),
        "cpu_by": {name: round(seconds, 2) for name, seconds in spent.items()},
        "cpu_seconds": round(total, 2),
        "cpu_per_structure": round(total / len(found), 3) if found else None,
        "cpu_per_structure_tiers": round((total - sum(before.values())) / len(found), 3) if found else None,
        "cpu_is_wall": any(tier.get("cpu_seconds") is None for doc in found for tier in doc["tiers"]),
        "lowest": best,
        "lowest_initial": first[-1] if first and complete else None,
        "improvement": round(first[-1] - best, 5) if first and complete and best is not None else None,
        "history": lowest,
    }


def generation_cpu(connection: Connection, case: Case) -> float:
    """CPU seconds spent on generating structures."""
    summary = pool_summary(connection, case.config.search_id) or {}
    return sum(sum(part["seconds"].values()) for part in summary.get("generated", ()))


def ranking_cpu(connection: Connection, case: Case) -> float:
    """CPU seconds spent on ranking the pool."""
    query = {"metadata.search_id": case.config.search_id, "output.kind": "ranking", "output.done": None}
    return sum(doc["output"].get("cpu_seconds", 0.0) for doc in connection.outputs.find(query, {"output": 1}))


def read_yardstick(*files: Path) -> Yardstick:
    """Read energies of known and published structures; the first file that has a structure decides."""
    known: dict[str, dict[str, float]] = {}
    published: dict[str, dict[str, float]] = {}
    for file in files:
        if not file.is_file():
            continue
        values = json.loads(file.read_text(encoding="utf-8"))
        for name, entry in values.get("known_structures", {}).items():
            formula = compound_of(formula_in(name))
            if formula is not None and entry.get("energy_per_atom") is not None:
                known.setdefault(formula, {}).setdefault(name, entry["energy_per_atom"])
        for formula, entries in values.get("published_fuse2_structures", {}).items():
            for name, entry in entries.items():
                if entry.get("energy_per_atom") is not None:
                    published.setdefault(formula, {}).setdefault(recipe_of(name), entry["energy_per_atom"])
    return Yardstick(known, published)


def recipe_of(name: str) -> str:
    """Our name of the experiment that a file of published structures is named after: mlgen_ChgNET is mlgen-chgnet."""
    return name.lower().replace("_", "-")


def formula_in(name: str) -> str:
    """The formula with which the name of a file begins: Mn of COD_Mn-Manganese-alpha."""
    return name.removeprefix("COD_").split("_")[0].split("-")[0]


def compound_of(formula: str) -> str | None:
    """The compound of the paper that has this formula, whatever the order of its elements."""
    try:
        reduced = Composition(formula).reduced_formula
    except ValueError:
        return None
    return next((known for known in COMPOUNDS if Composition(known).reduced_formula == reduced), None)


def reference_files(data: Path, compounds: Iterable[str]) -> list[tuple[str, str, str, Path]]:
    """Files of known and published structures: section of the yardstick, compound, name, path."""
    files = []
    for path in sorted((data / "reference_cifs").glob("*.cif")):
        known = compound_of(formula_in(path.stem))
        if known is not None and known in compounds:
            files.append(("known_structures", known, path.stem, path))
    for formula in compounds:
        paths = sorted((data / "probe_structures" / formula).glob("*.cif"))
        files += [("published_fuse2_structures", formula, path.stem, path) for path in paths]
    return files


def relax_yardstick(data: Path, compounds: Sequence[str], final: str, output: Path) -> None:
    """Relax known and published structures as the last tier does; what the file has already is not repeated."""
    values: dict[str, Any] = {"about": f"{final}, the default tier", "known_structures": {}}
    values["published_fuse2_structures"] = {}
    if output.is_file():
        values = json.loads(output.read_text(encoding="utf-8"))
    files = reference_files(data, compounds)
    if not files:
        print(f"there are no structures of these compounds in {data}")
    for section, formula, name, path in files:
        place = values[section] if section == "known_structures" else values[section].setdefault(formula, {})
        if name in place:
            continue
        structure = Structure.from_file(path)
        if not structure.is_ordered:
            continue
        result = relax_all_through([structure], (TierConfig(calculator=final),))[0][-1]
        energy = result.energy_per_atom if result.outcome.is_success else None
        place[name] = {"energy_per_atom": energy, "n_atoms": len(structure), "outcome": result.outcome.value}
        print(f"{formula} {name}: {energy} eV/atom, {result.outcome}", flush=True)
        output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
