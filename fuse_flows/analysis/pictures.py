"""Pictures of a search, as matplotlib figures that are returned and never shown.

Text that comes from the database is drawn as it is: dollar signs begin no formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_flows.store.frames import history_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CEILING = 2.0
"""Energies more than this above the lowest are drawn at this height, eV/atom."""
_MANY = 2000  # points; beyond that an SVG holds them as a bitmap
_NOTHING = "no structure has relaxed successfully"


def energy_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Draw the energy of every candidate against its number, as in the paper's Fig. 7, and the temperature below it.

    Parameters
    ----------
    frame
        Rows of :func:`.candidate_frame`; walkers follow one another.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Candidates by origin, failures on the upper rim, the lowest energy so far of each walker as a line. Outliers
        more than 2 eV/atom above the lowest energy are drawn at that height. The lower panel is there once a structure
        has been judged.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    judged = frame[frame["temperature"].notna()]
    if judged.empty:
        axes = figure.subplots()
    else:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.set(ylabel=f"{quantity(frame)} (eV/atom)")
    axes.set_title(title, parse_math=False)
    lower = axes if judged.empty else below
    lower.set(xlabel="structure")
    if frame["enthalpy_per_atom"].notna().any():
        _draw_energies(axes, frame)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    else:
        axes.text(0.5, 0.5, _NOTHING, ha="center", transform=axes.transAxes)
    if not judged.empty:
        for _, walk in judged.groupby("walker"):
            below.plot(walk["number"], walk["temperature"].astype(float), color="tab:red", lw=1, drawstyle="steps-post")
        below.set(ylabel="T (eV/atom)")
        below.set_ylim(bottom=0)
    for begin in frame.groupby("walker")["number"].min().iloc[1:]:
        axes.axvline(begin - 0.5, color="tab:gray", lw=0.5, ls=":")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def volume_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Draw energy against volume and density, by the number of formula units in the cell.

    Parameters
    ----------
    frame
        Rows of :func:`.candidate_frame`.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels: volume per formula unit (cubic angstrom) and density (g/cm3). Energies above the ceiling are
        left out.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    left.set(xlabel="volume (A$^3$ per formula unit)", ylabel=f"{quantity(frame)} (eV/atom)")
    right.set(xlabel="density (g/cm$^3$)")
    figure.suptitle(title, parse_math=False)
    relaxed = frame[frame["enthalpy_per_atom"].notna()]
    if relaxed.empty:
        left.text(0.5, 0.5, _NOTHING, ha="center", transform=left.transAxes)
        return figure
    relaxed = relaxed[relaxed["enthalpy_per_atom"] <= relaxed["enthalpy_per_atom"].min() + CEILING]
    from matplotlib import colormaps

    sizes = sorted(relaxed["formula_units"].unique())
    colors = colormaps["viridis"]
    for place, units in enumerate(sizes):
        rows = relaxed[relaxed["formula_units"] == units]
        color = [colors(place / max(len(sizes) - 1, 1))]
        dots = {"s": 18, "c": color, "alpha": 0.8, "label": f"{units:.0f}", "rasterized": len(relaxed) > _MANY}
        left.scatter(rows["volume"] / units, rows["enthalpy_per_atom"], **dots)
        right.scatter(rows["density"], rows["enthalpy_per_atom"], **dots)
    right.legend(title="formula units", fontsize="small", ncols=1 + len(sizes) // 8)
    return figure


def walkers_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Draw the lowest energy of every walker against the structures it has tried.

    Parameters
    ----------
    frame
        Rows of :func:`.candidate_frame`.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Above, the lowest energy so far of each walker; below, how many walkers are within 1 meV/atom of the lowest
        energy of all, after so many structures.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.set(ylabel=f"lowest {quantity(frame)} (eV/atom)")
    axes.set_title(title, parse_math=False)
    below.set(xlabel="structures of the walker", ylabel="walkers at best")
    history = history_frame(frame)
    lowest = history["lowest"].min()
    if history["lowest"].isna().all():
        axes.text(0.5, 0.5, _NOTHING, ha="center", transform=axes.transAxes)
        return figure
    arrivals = []
    for walker, walk in history.groupby("walker"):
        tried = range(1, len(walk) + 1)
        axes.plot(tried, walk["lowest"].clip(upper=lowest + CEILING), lw=1.2, drawstyle="steps-post", label=f"{walker}")
        there = (walk["lowest"] <= lowest + 1e-3).to_numpy()
        if there.any():
            arrivals.append(int(there.argmax()) + 1)
    longest = int(history.groupby("walker").size().max())
    steps = [0, *sorted(arrivals), longest]
    below.step(steps, [*range(len(arrivals) + 1), len(arrivals)], where="post", color="black")
    below.set_ylim(0, history["walker"].nunique() + 0.2)
    for each in (below.xaxis, below.yaxis):
        each.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title="walker", fontsize="small", ncols=4)
    return figure


def quantity(frame: pd.DataFrame) -> str:
    """Return what is drawn: the energy, or the enthalpy and at which pressure.

    Parameters
    ----------
    frame
        Rows of :func:`.candidate_frame`.

    Returns
    -------
    str
        In words.
    """
    pressures = sorted(set(frame["pressure"].dropna()) - {0.0})
    return "enthalpy at " + ", ".join(f"{pressure:g} GPa" for pressure in pressures) if pressures else "energy"


def _draw_energies(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw candidates by their origin, and the lowest energy so far."""
    relaxed = frame[frame["enthalpy_per_atom"].notna()]
    ceiling = min(relaxed["enthalpy_per_atom"].max(), relaxed["enthalpy_per_atom"].min() + CEILING)
    height = relaxed["enthalpy_per_atom"].clip(upper=ceiling)
    many = len(frame) > _MANY
    for mask, marker, color, label in _kinds(relaxed):
        if mask.any():
            axes.scatter(
                relaxed["number"][mask], height[mask], marker=marker, color=color, label=label, s=22, rasterized=many
            )
    failed = frame[frame["enthalpy_per_atom"].isna()]
    if not failed.empty:
        axes.scatter(
            failed["number"],
            [ceiling] * len(failed),
            marker="x",
            color="tab:red",
            label="failed",
            s=22,
            rasterized=many,
        )
    label = "lowest so far"
    for _, walk in relaxed.groupby("walker"):
        axes.plot(
            walk["number"], walk["enthalpy_per_atom"].cummin().clip(upper=ceiling), color="black", lw=1, label=label
        )
        label = "_"  # the others need no line in the legend
    taken = relaxed["accepted"].eq(other=True)
    for _, walk in relaxed[taken].groupby("walker"):
        axes.plot(walk["number"], height[walk.index], color="tab:orange", lw=0.6, zorder=0)


def _kinds(relaxed: pd.DataFrame) -> Iterator[tuple[pd.Series, str, str, str]]:
    """Yield which candidates are of a kind, how they are drawn, and what the legend says."""
    is_move = relaxed["source"] == "move"
    is_accepted = relaxed["accepted"].eq(other=True)
    for source in sorted(set(relaxed["source"][~is_move])):
        yield (
            relaxed["source"] == source,
            "s",
            {"random": "tab:gray", "file": "tab:green"}.get(source, "tab:purple"),
            source,
        )
    drawn = is_move & relaxed["origin"].notna()  # moves 13 and 14 took it from the pool
    yield is_move & ~drawn & ~is_accepted, "o", "tab:blue", "move, rejected"
    yield is_move & ~drawn & is_accepted, "o", "tab:orange", "move, accepted"
    yield drawn & ~is_accepted, "^", "tab:blue", "move, of the pool, rejected"
    yield drawn & is_accepted, "^", "tab:orange", "move, of the pool, accepted"
