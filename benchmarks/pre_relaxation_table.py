"""What ``pre_relaxation.py`` makes of its relaxations: pure functions from rows to ratios, differences and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = dict[str, Any]
SAME = 1.0
"""Energies closer than this are the same, meV/atom."""
LEVEL = 5.0
"""How much above the energy that is to be reached is near enough for ``calls_to_level``, meV/atom."""
RESAMPLES = 2000
FEWEST = 5
"""No interval is given where a compound has fewer structures: it would be far too narrow."""
CONVERGED = "CONVERGED"
MEASURES = ("calls", "cpu")
COLUMNS = (  # title, key, format
    ("calls w/o", "calls_without", "9.1f"),
    ("with", "calls_with", "6.1f"),
    ("ratio", "ratio_calls", "5.2f"),
    ("both ok", "ratio_calls_both", "7.2f"),
    ("equal", "ratio_calls_equal", "5.2f"),
    ("CPU s w/o", "cpu_without", "9.2f"),
    ("with", "cpu_with", "6.2f"),
    ("ratio", "ratio_cpu", "5.2f"),
    ("fall w/o", "fall_without", "8.2f"),
    ("with", "fall_with", "6.2f"),
    ("dE med", "mev_median", "7.1f"),
    ("lowest", "mev_lowest", "7.1f"),
    ("lower", "share_lower", "5.2f"),
    ("same", "share_same", "5.2f"),
    ("Spearman", "spearman", "8.2f"),
    ("V spp", "volume_spp", "5.2f"),
    ("V then", "volume_then", "6.2f"),
    ("V w/o", "volume_without", "5.2f"),
)


def summarise(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Compare the two chains by compound and over all.

    Parameters
    ----------
    rows
        One per structure: ``formula`` and, under ``without`` and ``with``, ``outcome``, ``energy`` (eV/atom or None),
        ``first_energy`` (of the first call), ``trace`` (lowest energy so far after each call, may be absent), ``calls``
        of the engine, ``cpu`` seconds, ``run`` (when it was begun),
        ``volumes`` (at the start and after each tier that ran, A^3) and, for ``with``, ``spp_energy`` (eV/atom or
        None).
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``compounds`` by formula and ``overall``, both of numbers that JSON knows (None where there is none).
    """
    formulas = list(dict.fromkeys(row["formula"] for row in rows))
    groups = {formula: [row for row in rows if row["formula"] == formula] for formula in formulas}
    compounds = {formula: compare(group) for formula, group in groups.items()}
    return {"compounds": compounds, "overall": overall(list(groups.values()), list(compounds.values()), seed)}


def compare(rows: Sequence[Row]) -> dict[str, Any]:
    """Compare the chains over the structures of one compound; energies where both converged, ``with - without``."""
    both = [row for row in rows if row["without"]["outcome"] == row["with"]["outcome"] == CONVERGED]
    differences = [1000 * (row["with"]["energy"] - row["without"]["energy"]) for row in both]
    lowest = {way: _lowest(rows, way) for way in ("without", "with")}
    out: dict[str, Any] = {"structures": len(rows), "both_converged": len(both)}
    for key in MEASURES:
        for way in ("without", "with"):
            out[f"{key}_{way}"] = float(np.mean([row[way][key] for row in rows]))
        out[f"ratio_{key}"] = _ratio(rows, key)
        out[f"ratio_{key}_both"] = _ratio(both, key)
    out["ratio_calls_equal"] = equal_calls(both)
    reached = None
    if lowest["with"] is not None and lowest["without"] is not None:
        reached = 1000 * (lowest["with"] - lowest["without"])
    energies = [(row["with"]["spp_energy"], row["with"]["energy"]) for row in rows if _converged(row, "with")]
    return out | {
        "mev_median": _median(differences),
        "mev_lowest": reached,
        "share_lower": _share(differences, lambda value: value < -SAME),
        "share_same": _share(differences, lambda value: abs(value) <= SAME),
        "spearman": spearman(energies),
        "spearman_of": len(energies),
        "fall_without": _median([_fall(row["without"]) for row in rows if _converged(row, "without")]),
        "fall_with": _median([_fall(row["with"]) for row in rows if _converged(row, "with")]),
        "volume_spp": _median([_growth(row, "with", 0, 1) for row in rows]),
        "volume_then": _median([_growth(row, "with", 1, 2) for row in rows if _converged(row, "with")]),
        "volume_without": _median([_growth(row, "without", 0, 1) for row in rows if _converged(row, "without")]),
        "outcomes_without": _counts([row["without"]["outcome"] for row in rows]),
        "outcomes_with": _counts([row["with"]["outcome"] for row in rows]),
    }


def equal_calls(rows: Sequence[Row]) -> float | None:
    """Return the ratio of the calls, with over without, at which both have the mean energy that CHGNet alone reaches.

    None if a row has no trace, or if the mean is never reached with.
    """
    if not rows or any(not row[way].get("trace") for row in rows for way in ("with", "without")):
        return None
    level = float(np.mean([row["without"]["energy"] for row in rows])) + LEVEL / 1000
    with_, without = (calls_to_level([row[way]["trace"] for row in rows], level) for way in ("with", "without"))
    return None if with_ is None or without is None else with_ / without


def calls_to_level(traces: Sequence[Sequence[float]], level: float) -> int | None:
    """Return how many calls all structures make together until their mean energy is at or below a level.

    Each is allowed the same number of calls; one that ends earlier keeps its last energy. None if they never get there.
    """
    for allowed in range(1, max(map(len, traces)) + 1):
        if np.mean([trace[min(allowed, len(trace)) - 1] for trace in traces]) <= level:
            return sum(min(allowed, len(trace)) for trace in traces)
    return None


def overall(groups: Sequence[Sequence[Row]], compounds: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Each compound counts the same: geometric means of ratios (95 % interval by bootstrap) and medians."""
    rows = [row for group in groups for row in group]
    pooled = compare(rows) if rows else {}
    keys = ("structures", "both_converged", "mev_median", "share_lower", "share_same")
    out: dict[str, Any] = {key: pooled.get(key) for key in (*keys, "outcomes_without", "outcomes_with")}
    out["from_one_run"] = sum(row["without"].get("run") == row["with"].get("run") is not None for row in rows)
    for key in MEASURES:
        out[f"ratio_{key}"] = _geometric_mean([compound[f"ratio_{key}"] for compound in compounds])
        out[f"ratio_{key}_both"] = _geometric_mean([compound[f"ratio_{key}_both"] for compound in compounds])
        out[f"interval_{key}"] = bootstrap(groups, key, seed)
    reached = [compound["ratio_calls_equal"] for compound in compounds]
    out["ratio_calls_equal"] = None if None in reached else _geometric_mean(reached)
    for key in ("fall_without", "fall_with", "mev_lowest", "spearman", "volume_spp", "volume_then", "volume_without"):
        out[key] = _median([compound[key] for compound in compounds])
    return out


def bootstrap(groups: Sequence[Sequence[Row]], key: str, seed: int) -> list[float] | None:
    """Return the 95 % interval of the geometric mean of the ratios, structures drawn anew within each compound.

    None if a compound has fewer than ``FEWEST`` structures.
    """
    pairs = [np.array([[row["with"][key], row["without"][key]] for row in group], dtype=float) for group in groups]
    if not pairs or any(pair[:, 1].sum() <= 0 or len(pair) < FEWEST for pair in pairs):
        return None
    rng = np.random.default_rng(seed)
    logs = np.zeros(RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        for pair in pairs:
            sums = pair[rng.integers(len(pair), size=(RESAMPLES, len(pair)))].sum(axis=1)
            logs += np.log(sums[:, 0] / sums[:, 1]) / len(pairs)
    logs = logs[np.isfinite(logs)]
    return [float(value) for value in np.exp(np.percentile(logs, (2.5, 97.5)))] if logs.size else None


def spearman(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Return the rank correlation of pairs; None for less than three, or where one side never changes."""
    whole = [pair for pair in pairs if None not in pair]
    if len(whole) < 3 or any(len(set(side)) < 2 for side in zip(*whole, strict=True)):
        return None
    return float(spearmanr(*zip(*whole, strict=True)).statistic)


def lines(table: dict[str, Any]) -> list[str]:
    """Return the table and its headline as lines of text."""
    head = "  ".join(f"{title:>{int(form.split('.')[0])}}" for title, _, form in COLUMNS)
    out = [f"{'':>10}  {'n':>3}  {head}"]
    for name, row in [*table["compounds"].items(), ("all", table["overall"])]:
        cells = "  ".join(_cell(row.get(key), form) for _, key, form in COLUMNS)
        out.append(f"{name:>10}  {row['structures'] or 0:3d}  {cells}")
    for name, row in [*table["compounds"].items(), ("all", table["overall"])]:
        out.append(f"{name:>10}  outcomes without {row['outcomes_without']}, with {row['outcomes_with']}")
    whole = table["overall"]
    for key, title in (("calls", "calls of CHGNet"), ("cpu", "CPU seconds")):
        ends = whole[f"interval_{key}"] or (None, None)
        out.append(
            f"[spp, chgnet] / [chgnet], {title}: {_cell(whole[f'ratio_{key}'], '.2f')} "
            f"(95 %: {_cell(ends[0], '.2f')} to {_cell(ends[1], '.2f')}); "
            f"where both converged {_cell(whole[f'ratio_{key}_both'], '.2f')}"
        )
    out.append(f"{whole['from_one_run']} of {whole['structures'] or 0} pairs of CPU seconds were measured in one run")
    return out


def _cell(value: float | None, form: str) -> str:
    width = form.split(".", maxsplit=1)[0]
    return f"{'-':>{width}}" if value is None else f"{value:{form}}"


def _converged(row: Row, way: str) -> bool:
    return bool(row[way]["outcome"] == CONVERGED)


def _lowest(rows: Sequence[Row], way: str) -> float | None:
    return min((row[way]["energy"] for row in rows if _converged(row, way)), default=None)


def _growth(row: Row, way: str, first: int, last: int) -> float | None:
    volumes = row[way]["volumes"]
    return volumes[last] / volumes[first] if len(volumes) > last else None


def _fall(one: Row) -> float:
    return float(one["first_energy"] - one["energy"])


def _ratio(rows: Sequence[Row], key: str) -> float | None:
    """Return the ratio of the sums, which is what a search pays."""
    base = sum(row["without"][key] for row in rows)
    return sum(row["with"][key] for row in rows) / base if base > 0 else None


def _geometric_mean(values: Sequence[float | None]) -> float | None:
    kept = [value for value in values if value]
    return float(np.exp(np.mean(np.log(kept)))) if kept else None


def _median(values: Sequence[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return float(np.median(kept)) if kept else None


def _share(values: Sequence[float], holds: Any) -> float | None:
    return sum(map(holds, values)) / len(values) if values else None


def _counts(outcomes: Sequence[str]) -> dict[str, int]:
    return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
