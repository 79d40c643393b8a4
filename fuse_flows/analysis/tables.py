"""Candidates as rows: of a data frame, a CSV file or a table on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

COLUMNS = (
    "candidate_id",
    "walker",
    "step",
    "index",
    "source",
    "origin",
    "move",
    "outcome",
    "energy_per_atom",
    "n_atoms",
    "formula_units",
    "space_group",
    "space_group_number",
    "volume",
    "density",
    "accepted",
    "cluster_id",
    "seconds",
)


def candidate_frame(candidates: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per candidate, in the order of the search.

    Parameters
    ----------
    candidates
        Candidate documents.

    Returns
    -------
    pandas.DataFrame
        With the columns of ``COLUMNS`` and ``number``, the running number of the structure, counted from 1.
    """
    import pandas as pd

    frame = pd.DataFrame([{column: doc.get(column) for column in COLUMNS} for doc in candidates], columns=COLUMNS)
    frame = frame.sort_values(["walker", "step", "index"], ignore_index=True)
    frame.insert(0, "number", range(1, len(frame) + 1))
    return frame


def best_rows(candidates: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the table of best structures shows of each candidate.

    Parameters
    ----------
    candidates
        Candidate documents, best first.

    Returns
    -------
    list of dict
        Rank, energies, size, space group, density, origin and number of copies.
    """
    rows: list[dict[str, Any]] = []
    for rank, doc in enumerate(candidates, start=1):
        lowest = rows[0]["energy_per_atom"] if rows else doc["energy_per_atom"]
        rows.append(
            {
                "rank": rank,
                "candidate_id": doc["candidate_id"],
                "energy_per_atom": doc["energy_per_atom"],
                "above_best_mev": 1000 * (doc["energy_per_atom"] - lowest),
                "formula_units": doc["formula_units"],
                "n_atoms": doc["n_atoms"],
                "space_group": doc["space_group"],
                "space_group_number": doc["space_group_number"],
                "density": doc["density"],
                "origin": doc.get("origin") or doc["move"] or doc["source"],
                "step": doc["step"],
                "copies": doc.get("copies", 1),
            }
        )
    return rows
