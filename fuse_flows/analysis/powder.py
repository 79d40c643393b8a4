"""Simulated powder patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from pymatgen.core import Structure

RADIATION = "CuKa"
RANGE = (10.0, 90.0)
_LABELLED = 8


def powder_pattern(structure: Structure) -> pd.DataFrame:
    """Simulate the X-ray powder pattern of a structure.

    Parameters
    ----------
    structure
        The structure; the indices belong to its cell.

    Returns
    -------
    pandas.DataFrame
        ``two_theta`` (degrees, 10 to 90, Cu K-alpha), ``intensity`` (the highest is 100), ``d`` (angstrom) and ``hkl``,
        one of the reflections of the peak.
    """
    import pandas as pd
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    pattern = XRDCalculator(wavelength=RADIATION).get_pattern(structure, two_theta_range=RANGE)
    labels = [" ".join(str(index) for index in _three(peak[0]["hkl"])) if peak else "" for peak in pattern.hkls]
    columns = {"two_theta": pattern.x, "intensity": pattern.y, "d": pattern.d_hkls, "hkl": labels}
    return pd.DataFrame(columns)


def powder_figure(pattern: pd.DataFrame) -> Figure:
    """Draw a powder pattern.

    Parameters
    ----------
    pattern
        Rows of :func:`powder_pattern`.

    Returns
    -------
    matplotlib.figure.Figure
        Sticks; the strongest have their indices.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.vlines(pattern["two_theta"], 0, pattern["intensity"], color="tab:blue", lw=1.2)
    for row in pattern.nlargest(_LABELLED, "intensity").itertuples():
        axes.annotate(
            row.hkl,
            (row.two_theta, row.intensity),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize="x-small",
        )
    axes.set(xlabel="2θ (degrees)", ylabel="intensity", xlim=RANGE, ylim=(0, 112))
    return figure


def _three(hkl: tuple[int, ...]) -> tuple[int, ...]:
    """Return three indices, of hexagonal ones those without the third, which follows from the others."""
    return hkl if len(hkl) == 3 else (hkl[0], hkl[1], hkl[3])
