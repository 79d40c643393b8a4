"""Pictures of what a search spent: moves made and failed, seconds and steps of every tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def moves_figure(moves: pd.DataFrame, title: str = "") -> Figure:
    """Draw how often each move was accepted, rejected and impossible.

    Parameters
    ----------
    moves
        Rows of :func:`.move_frame`.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        One bar per move, in the order of the paper: accepted, proposed but not accepted, failed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(moves))
    begin = np.zeros(len(moves))
    parts = (
        ("accepted", moves["accepted"], "tab:orange"),
        ("proposed, not accepted", moves["proposed"] - moves["accepted"], "tab:blue"),
        ("failed", moves["failed"], "tab:red"),
    )
    for label, widths, color in parts:
        axes.barh(places, widths, left=begin, color=color, label=label)
        begin = begin + widths.to_numpy()
    axes.set_yticks(places, [f"{name} {row.number}" for name, row in zip(moves.index, moves.itertuples(), strict=True)])
    axes.invert_yaxis()
    axes.set(xlabel="times")
    axes.set_title(title, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    return figure


def cost_figure(tiers: pd.DataFrame, title: str = "") -> Figure:
    """Draw steps of the optimiser and seconds of every tier.

    Parameters
    ----------
    tiers
        Rows of :func:`.tier_frame`.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Left, seconds of all structures by tier and outcome; middle, how seconds per structure are distributed; right,
        how steps are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    figure.suptitle(title, parse_math=False)
    left.set(ylabel="seconds of all structures")
    middle.set(ylabel="seconds of a structure", yscale="log")
    right.set(ylabel="steps of a structure")
    if tiers.empty:
        left.text(0.5, 0.5, "no structure has been relaxed", ha="center", transform=left.transAxes)
        return figure
    groups = [(number, rows) for number, rows in tiers.groupby("tier")]
    names = [f"{number}: {_plain(rows['calculator'].iloc[0])}" for number, rows in groups]
    places = np.arange(len(groups))
    bottom = np.zeros(len(groups))
    for outcome, color in zip(sorted(tiers["outcome"].unique()), _colors(), strict=False):
        heights = np.array([rows.loc[rows["outcome"] == outcome, "seconds"].sum() for _, rows in groups])
        left.bar(places, heights, bottom=bottom, color=color, label=outcome)
        bottom += heights
    left.set_xticks(places, names)
    left.legend(fontsize="x-small")
    middle.boxplot([rows["seconds"].clip(lower=1e-6) for _, rows in groups], tick_labels=names)
    right.boxplot([rows["steps"] for _, rows in groups], tick_labels=names)
    return figure


def _colors() -> tuple[str, ...]:
    return ("tab:blue", "tab:orange", "tab:red", "tab:purple", "tab:brown", "tab:gray", "tab:olive", "tab:cyan")


def _plain(text: str) -> str:
    r"""Return text that matplotlib draws as it is; it reads what stands between two ``$`` as a formula."""
    return text.replace("$", r"\$")
