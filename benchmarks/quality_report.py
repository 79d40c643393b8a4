"""Table and picture of ``search_quality.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WINDOW = 0.002  # eV/atom
RESAMPLES = 2000


def target_of(runs: list[dict[str, Any]], known: dict[str, Any]) -> dict[str, Any]:
    """Choose the energy that the searches have to reach, eV/atom, and say where it comes from."""
    lowest = min((run["lowest"][-1][1] for run in runs if run["lowest"]), default=float("inf"))
    if known["fits"] and known["ev_per_atom"] <= lowest + WINDOW:
        return {"ev_per_atom": known["ev_per_atom"], "is": f"known structure, {known['name']}"}
    return {"ev_per_atom": lowest, "is": "lowest energy of all searches here"}


def structures_needed(run: dict[str, Any], target: float) -> int | None:
    """Return the number of the first structure that reached the target."""
    return next((number for number, energy, _ in run["lowest"] if energy <= target + WINDOW), None)


def share(needed: Sequence[int | None], limit: int) -> NDArray[np.float64]:
    """Return the share of searches that succeeded by each number of structures, shape (limit + 1,)."""
    count = np.zeros(limit + 1)
    for number in needed:
        if number is not None and number <= limit:
            count[number] += 1
    return np.cumsum(count) / max(len(needed), 1)


def cost(needed: Sequence[int | None], limit: int) -> float:
    """Structures relaxed per success: what a user pays who restarts a search that used up its structures."""
    successes = sum(number is not None for number in needed)
    paid = sum(limit if number is None else number for number in needed)
    return paid / successes if successes else float("inf")


def ratio_interval(mine: list[int | None], other: list[int | None], limit: int) -> tuple[float, float, float]:
    """Ratio of two costs with its 80 % interval, from seeds drawn with replacement.

    The same seed has the same first population under every policy, so both costs are of the same seeds.
    """
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(min(len(mine), len(other)), size=len(mine))
        costs = [cost([values[i] for i in drawn], limit) for values in (mine, other)]
        if np.isfinite(costs).any():
            ratios.append(costs[0] / costs[1])
    middle = cost(mine, limit) / cost(other, limit) if np.isfinite(cost(other, limit)) else float("nan")
    low, high = np.percentile(ratios, [10, 90], method="nearest") if ratios else (float("nan"), float("nan"))
    return middle, float(low), float(high)


def table(
    runs: list[dict[str, Any]],
    everything: list[dict[str, Any]],
    known: dict[str, dict[str, Any]],
    variants: list[tuple[str, str]],
) -> dict[str, Any]:
    """Print the table and return it.

    Parameters
    ----------
    runs
        The searches to compare.
    everything
        All searches with the same potential, which the target may come from.
    known
        Known structures, and structures of each search, by case.
    variants
        Policy and treatment of duplicates, in the order of the table; ratios refer to the first.
    """
    report: dict[str, Any] = {"window_ev_per_atom": WINDOW, "targets": {}, "shares": {}}
    for case, facts in known.items():
        here = [run for run in runs if run["case"] == case]
        if not here:
            continue
        target = target_of([run for run in everything if run["case"] == case], facts)
        limit = facts["structures"]
        report["targets"][case] = target | {"structures": limit}
        published = facts["published_target_ev_per_atom"]
        print(f"\n{case}: target {target['ev_per_atom']:.4f} eV/atom, {target['is']}")
        print(f"  {facts['name']}, {facts['atoms']} atoms: {facts['ev_per_atom']:.4f}; published target: {published}")
        marks = [limit // 4, limit // 2, limit]
        heads = " ".join(f"{mark:>6}" for mark in marks)
        print(
            f"  {'':>20} {'found':>6}  share of searches by  {'median':>7} {'per':>8} {'ratio to first':>22} {'CPU':>7}"
        )
        print(f"  {'':>20} {'':>6}   {heads} {'needed':>7} {'success':>8} {'(80 % interval)':>22} {'ms':>7}")
        base: list[int | None] | None = None
        for policy, duplicates in variants:
            mine = [run for run in here if (run["policy"], run["duplicates"]) == (policy, duplicates)]
            if not mine:
                continue
            needed = [structures_needed(run, target["ev_per_atom"]) for run in mine]
            base = needed if base is None else base
            ratio = ratio_interval(needed, base, limit)
            curve = share(needed, limit)
            row = {
                "found": sum(number is not None for number in needed),
                "seeds": len(mine),
                "needed": needed,
                "share_at": {str(mark): round(float(curve[mark]), 3) for mark in marks},
                "structures_per_success": cost(needed, limit),
                "ratio": ratio[0],
                "ratio_80_percent": ratio[1:],
                "cpu_ms_per_structure": 1000 * sum(r["cpu_seconds"] for r in mine) / sum(r["structures"] for r in mine),
                "copies": sum(run["copies"] or 0 for run in mine),
            }
            report["shares"].setdefault(case, {})[f"{policy}, {duplicates}"] = _without_infinity(row)
            numbers = [limit + 1 if number is None else number for number in needed]
            print(
                f"  {policy + ', ' + duplicates:>20} {row['found']:3}/{row['seeds']:<2}   "
                + " ".join(f"{curve[mark]:6.0%}" for mark in marks)
                + f" {np.median(numbers):7.0f} {row['structures_per_success']:8.0f} "
                f"{ratio[0]:8.2f} ({ratio[1]:.2f} to {ratio[2]:.2f}) {row['cpu_ms_per_structure']:7.0f}",
                flush=True,
            )
    return report


def _without_infinity(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows neither infinity nor not-a-number."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    return {key: plain(value) for key, value in row.items()}


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw the share of successful searches against the number of relaxations, one panel per case."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shares = report["shares"]
    if not shares:
        return
    figure, panels = plt.subplots(1, len(shares), figsize=(4.2 * len(shares), 3.4), sharey=True, squeeze=False)
    for panel, (case, variants) in zip(panels[0], shares.items(), strict=True):
        limit = report["targets"][case]["structures"]
        for name, row in variants.items():
            panel.step(np.arange(limit + 1), share(row["needed"], limit), where="post", label=name)
        panel.set_title(f"{case}, {row['seeds']} seeds", fontsize=10)
        panel.set_xlabel("structures relaxed")
        panel.set_ylim(-0.02, 1.02)
    panels[0][0].set_ylabel("share of searches that succeeded")
    panels[0][-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
