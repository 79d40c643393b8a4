"""Candidates as data frames: one row per candidate, per tier of a candidate, or per kind of move."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from fuse_flows.config import MoveName

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
    "enthalpy_per_atom",
    "pressure",
    "n_atoms",
    "formula_units",
    "space_group",
    "space_group_number",
    "volume",
    "density",
    "accepted",
    "verdict",
    "temperature",
    "cluster_id",
    "seconds",
)
ORDER = ["walker", "step", "index"]


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
    frame = frame.sort_values(ORDER, ignore_index=True)
    frame.insert(0, "number", range(1, len(frame) + 1))
    return frame


def history_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Add to candidates what the search had reached when they were judged.

    Parameters
    ----------
    frame
        Rows of :func:`candidate_frame`.

    Returns
    -------
    pandas.DataFrame
        The same rows with ``lowest`` (lowest enthalpy of the walker so far, eV/atom) and ``is_new_lowest``.
    """
    energies = frame["enthalpy_per_atom"].astype(float)
    lowest = energies.groupby(frame["walker"]).cummin()
    lowest = lowest.groupby(frame["walker"]).ffill()
    before = lowest.groupby(frame["walker"]).shift()
    return frame.assign(lowest=lowest, is_new_lowest=energies.notna() & ~(energies >= before))


def tier_frame(candidates: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per tier that a candidate went through.

    Parameters
    ----------
    candidates
        Candidate documents.

    Returns
    -------
    pandas.DataFrame
        The fields of :class:`.TierDoc` after ``candidate_id``, ``walker``, ``step``, ``index``, ``n_atoms`` and
        ``tier``, the number of the tier, counted from 1.
    """
    import pandas as pd

    from fuse_flows.schemas.candidate import TierDoc

    keys = ("candidate_id", "walker", "step", "index", "n_atoms")
    rows = [
        {key: doc.get(key) for key in keys} | {"tier": number} | tier
        for doc in candidates
        for number, tier in enumerate(doc["tiers"], start=1)
    ]
    return pd.DataFrame(rows, columns=[*keys, "tier", *TierDoc.model_fields]).sort_values(ORDER, ignore_index=True)


def move_frame(candidates: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Count what became of each kind of move.

    Parameters
    ----------
    candidates
        Candidate documents.

    Returns
    -------
    pandas.DataFrame
        By the name of the move, in the order of the FUSE2 paper: ``number`` in the paper, ``proposed`` (structures it
        made), ``accepted``, ``relaxed`` (those with an energy), ``failed`` (how often it could not be made) and
        ``reasons`` of these failures with their numbers.
    """
    import pandas as pd

    counts = {name: Counter[str]() for name in MoveName}
    reasons = {name: Counter[str]() for name in MoveName}
    for doc in candidates:
        for name, reason in doc["failed_moves"]:
            counts[MoveName(name)]["failed"] += 1
            reasons[MoveName(name)][reason] += 1
        if doc["move"] is not None:
            move = counts[MoveName(doc["move"])]
            move["proposed"] += 1
            move["accepted"] += doc["accepted"] is True
            move["relaxed"] += doc["energy_per_atom"] is not None
    rows = [
        {"move": name.value, "number": name.number}
        | {key: counts[name][key] for key in ("proposed", "accepted", "relaxed", "failed")}
        | {"reasons": dict(reasons[name].most_common())}
        for name in sorted(MoveName, key=lambda name: name.number)
    ]
    return pd.DataFrame(rows).set_index("move")
