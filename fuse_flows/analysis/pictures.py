"""Pictures of a search, as matplotlib figures that are returned and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def energy_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Draw the energy of every candidate against its number, as in the paper's Fig. 7.

    Parameters
    ----------
    frame
        Rows of :func:`.candidate_frame`.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Candidates by origin, failures on the upper rim, the lowest energy so far as a line. Outliers more than
        2 eV/atom above the lowest energy are drawn at that height.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    relaxed = frame[frame["energy_per_atom"].notna()]
    axes.set(xlabel="structure", ylabel="energy (eV/atom)", title=title)
    if relaxed.empty:
        axes.text(0.5, 0.5, "no structure has relaxed successfully", ha="center", transform=axes.transAxes)
        return figure
    lowest = relaxed["energy_per_atom"].min()
    ceiling = min(relaxed["energy_per_atom"].max(), lowest + 2.0)
    height = relaxed["energy_per_atom"].clip(upper=ceiling)
    is_move = relaxed["source"] == "move"
    is_accepted = relaxed["accepted"].eq(other=True)
    for mask, marker, color, label in (
        (~is_move, "s", "tab:gray", "random"),
        (is_move & ~is_accepted, "o", "tab:blue", "move, rejected"),
        (is_move & is_accepted, "o", "tab:orange", "move, accepted"),
    ):
        if mask.any():
            axes.scatter(relaxed["number"][mask], height[mask], marker=marker, color=color, s=22, label=label)
    failed = frame[frame["energy_per_atom"].isna()]
    if not failed.empty:
        axes.scatter(failed["number"], [ceiling] * len(failed), marker="x", color="tab:red", s=22, label="failed")
    axes.plot(relaxed["number"], relaxed["energy_per_atom"].cummin(), color="black", lw=1, label="lowest so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right", fontsize="small")
    return figure
