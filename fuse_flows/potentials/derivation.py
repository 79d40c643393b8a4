"""From histograms of distances to a first pair potential: V(r) = -kT ln g(r), with a wall, for every pair.

1. **Normalise.** g(r) = observed / expected neighbours, the expectation being that of independent atoms at the density
   of each crystal (4 pi r^2 rho_B dr), so that g goes to 1 at large distances. Each formula has the weight 1.
2. **Borrow.** Pairs with few crystals take part of their statistics from related pairs (``relatives.py``). What is
   borrowed counts like ``borrowed`` formulas of the pair's own, so it vanishes for pairs with many crystals.
3. **Smooth** observed and expected numbers with a Gaussian of the width ``bandwidth``.
4. **Invert.** V = -kT ln g. Inwards of the first shell, where g falls below ``floor``, V goes on as a parabola that
   rises steadily: no data is taken as a wall. Pairs of like charge, whose first shell is far out, so get a wall that
   begins far out. (``reach`` damps the later shells; it is long by default.)
5. After the correction: mix with the potentials of related pairs once more (:func:`.blend`), and put the wall back
   where no data are (:func:`with_wall`).

A correction of the shape, which also sets the scale of energy, comes from ``restoring.py``. The idea of proxy
potentials from statistics is that of D. Antypov et al., ChemPhysChem 2024, 10.1002/cphc.202400254; the formulas here
are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.relatives import pool
from fuse_flows.potentials.statistics import BIN_WIDTH, DistanceStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.potentials.relatives import Relatives

_SHELL = 0.3
_FIRST_PEAK = 16  # bins after the beginning of a shell in which its peak is looked for


@dataclass(frozen=True)
class InversionSettings:
    """The choices of the inversion.

    Attributes
    ----------
    bandwidth
        Width (standard deviation) of the smoothing in angstrom.
    borrowed
        What related pairs tell counts like so many formulas of the pair's own.
    chemical_width
        Range of k on the chemical scale (steps from one element to the next).
    radius_width
        Range of k in the relative difference of the radii.
    other
        Factor for statistics of the other surroundings (with and without anions).
    thermal_energy
        kT in eV.
    reach
        Beyond the first shell, -kT ln g is multiplied by exp(-(r - peak) / reach), angstrom.
    floor
        Value of g where the wall begins.
    wall_slope, wall_curvature
        Smallest slope (eV/A) and curvature (eV/A^2) of the wall of the first potentials.
    last_slope, last_curvature
        The same for the wall that is put on after the correction.
    """

    bandwidth: float = 0.10
    borrowed: float = 5.0
    chemical_width: float = 2.0
    radius_width: float = 0.12
    thermal_energy: float = 0.05
    reach: float = 50.0
    floor: float = 0.03
    other: float = 1e-3
    wall_slope: float = 1.0
    wall_curvature: float = 8.0
    last_slope: float = 2.0
    last_curvature: float = 20.0


def pair_distribution(
    statistics: DistanceStatistics, relatives: Relatives, settings: InversionSettings
) -> NDArray[np.float64]:
    """Return the smoothed g(r) of every channel, with what is borrowed from related pairs.

    Parameters
    ----------
    statistics
        The histograms.
    relatives
        Who is related to whom.
    settings
        Bandwidth and how much is borrowed.

    Returns
    -------
    numpy.ndarray
        Shape (channels, bins), at the middles of the bins.
    """
    weights = np.maximum(statistics.weights, 1e-12)
    parts = []
    for rows in (statistics.observed, statistics.expected):
        mean, _ = pool(rows / weights[:, None], statistics.weights, relatives, other=settings.other, shift=0.5)
        parts.append(smooth(rows + settings.borrowed * mean, settings.bandwidth / BIN_WIDTH))
    return np.asarray(parts[0] / np.maximum(parts[1], 1e-30))


def smooth(rows: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Smooth rows with a Gaussian of the width ``width`` (in bins); the last value is continued."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(rows, width, axis=-1, mode="nearest"))


def invert(g: NDArray[np.float64], centres: NDArray[np.float64], settings: InversionSettings) -> NDArray[np.float64]:
    """Return -kT ln g with a wall inwards of the first shell, in eV.

    Parameters
    ----------
    g
        Shape (channels, bins).
    centres
        Middles of the bins in angstrom, shape (bins,).
    settings
        Where the wall begins and how it rises.

    Returns
    -------
    numpy.ndarray
        Shape (channels, bins).
    """
    potential = -settings.thermal_energy * np.log(np.maximum(g, settings.floor))
    for row, values in zip(g, potential, strict=True):
        start = first_shell(row, settings.floor)
        peak = start + int(np.argmax(row[start : start + _FIRST_PEAK]))
        values[peak:] *= np.exp(-(centres[peak:] - centres[peak]) / settings.reach)
        inner = centres[start] - centres[:start]
        slope = max((values[start] - values[start + 1]) / BIN_WIDTH, settings.wall_slope)
        values[:start] = values[start] + slope * inner + 0.5 * settings.wall_curvature * inner**2
    return np.asarray(potential)


def first_shell(g: NDArray[np.float64], floor: float) -> int:
    """Return the bin where the first shell of neighbours begins.

    Rare contacts far inside it (peroxide O-O, say) do not count as a shell: the shell is the innermost region where
    g comes to ``_SHELL``, and its beginning the place inwards of that where g first falls below ``floor``.
    """
    reached = np.flatnonzero(g > _SHELL)
    peak = int(reached[0]) if len(reached) else len(g) - 2
    below = np.flatnonzero(g[:peak] < floor)
    return int(below[-1]) + 1 if len(below) else 0


def shell_edges(g: NDArray[np.float64], centres: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Return where the first shell begins for every channel (:func:`first_shell`), in angstrom, shape (channels,)."""
    return np.array([centres[first_shell(row, floor)] for row in g])


def with_wall(
    values: NDArray[np.float64], r: NDArray[np.float64], edges: NDArray[np.float64], settings: InversionSettings
) -> NDArray[np.float64]:
    """Let every potential rise ever more steeply inwards of its edge, whatever it did there before.

    Parameters
    ----------
    values
        Shape (channels, points), eV.
    r
        Uniform grid in angstrom, shape (points,).
    edges
        Where no data are left, angstrom, shape (channels,).
    settings
        Smallest slope and curvature of the wall.

    Returns
    -------
    numpy.ndarray
        Shape (channels, points); unchanged outwards of the edges.
    """
    step = float(r[1] - r[0])
    result = values.copy()
    for row, edge in zip(result, edges, strict=True):
        start = int(np.clip(np.searchsorted(r, edge), 1, len(r) - 2))
        slope = max((row[start] - row[start + 1]) / step, settings.last_slope)
        for m in range(start - 1, -1, -1):
            slope = max((row[m] - row[m + 1]) / step, slope + settings.last_curvature * step)
            row[m] = row[m + 1] + slope * step
    return np.asarray(result)
