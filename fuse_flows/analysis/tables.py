"""Candidates as rows: of a data frame, a CSV file or a table on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.search.energies import compared
from fuse_flows.store.frames import COLUMNS, candidate_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["COLUMNS", "best_rows", "candidate_frame", "failed_rows", "where_from"]


def best_rows(candidates: Iterable[dict[str, Any]], lowest: float | None = None) -> list[dict[str, Any]]:
    """Return what the table of best structures shows of each candidate.

    Parameters
    ----------
    candidates
        Candidate documents, best first.
    lowest
        Enthalpy that the others are compared with, eV/atom; None for that of the first candidate.

    Returns
    -------
    list of dict
        Rank, energy, enthalpy, size, space group, density, origin and number of copies; ``e_above_hull`` (eV/atom) and
        ``hull_level`` where :meth:`.Search.above_hull` has added them.
    """
    rows: list[dict[str, Any]] = []
    for rank, doc in enumerate(candidates, start=1):
        enthalpy = doc.get("enthalpy_per_atom", doc["energy_per_atom"])  # the latter: of before there was pressure
        lowest = enthalpy if lowest is None else lowest
        rows.append(
            {
                "rank": rank,
                "candidate_id": doc["candidate_id"],
                "energy_per_atom": doc["energy_per_atom"],
                "enthalpy_per_atom": enthalpy,
                "pressure": doc.get("pressure", 0.0),
                "above_best_mev": 1000 * (enthalpy - lowest),
                "formula_units": doc["formula_units"],
                "n_atoms": doc["n_atoms"],
                "space_group": doc["space_group"],
                "space_group_number": doc["space_group_number"],
                "density": doc["density"],
                "origin": where_from(doc),
                "step": doc["step"],
                "copies": doc.get("copies", 1),
            }
            | {key: doc[key] for key in ("e_above_hull", "hull_level") if key in doc}
        )
    return rows


def failed_rows(candidates: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is shown of candidates that have no energy: where they come from, and why they failed.

    Parameters
    ----------
    candidates
        Candidate documents.

    Returns
    -------
    list of dict
        ``candidate_id``, ``walker``, ``step``, ``origin``, ``outcome``, ``reason``, ``tier`` (the calculator that gave
        up; empty if none was asked), and ``energy_per_atom`` and ``enthalpy_per_atom``, the last ones of that tier
        (eV/atom) or None.
    """
    rows = []
    for doc in candidates:
        last = doc["tiers"][-1] if doc["tiers"] else {"calculator": "", "energy_per_atom": None}
        rows.append(
            {name: doc[name] for name in ("candidate_id", "walker", "step", "outcome", "reason")}
            | {
                "origin": where_from(doc),
                "tier": last["calculator"],
                "energy_per_atom": last["energy_per_atom"],
                "enthalpy_per_atom": compared(last),
            }
        )
    return rows


def where_from(candidate: Mapping[str, Any]) -> str:
    """Return in a word where a candidate comes from: its name in the pool, the move that made it, or its source."""
    return str(candidate.get("origin") or candidate["move"] or candidate["source"])
