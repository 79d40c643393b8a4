"""From histograms of distances to a first pair potential: V(r) = -kT ln g(r), with a wall, for every pair.

1. **Normalise.** g(r) = observed / expected neighbours, the expectation being that of independent atoms at the density
   of each crystal (4 pi r^2 rho_B dr), so that g goes to 1 at large distances. Each formula has the weight 1.
2. **Borrow.** Pairs with few crystals take part of their statistics from related pairs. Distances are scaled by the sum
   of the two radii; the weight of the pair (C, D) for (A, B) is k(A, C) k(B, D), where k falls off with the distance
   of the elements on Pettifor's chemical scale (D. G. Pettifor, J. Phys. C 19, 285 (1986)) and with the difference of
   their radii. What is borrowed counts like ``borrowed`` formulas of the pair's own, so it vanishes for pairs with many
   crystals. Where there is too little, the circle of relatives is widened, so that every pair
   finds something to borrow from.
3. **Smooth** observed and expected numbers with a Gaussian of the width ``bandwidth``.
4. **Invert.** V = -kT ln g. Inwards of the first shell, where g falls below ``floor``, V goes on as a parabola that
   rises steadily: no data is taken as a wall. Pairs of like charge, whose first shell is far out, so get a wall that
   begins far out. (``reach`` damps the later shells; it is long by default.)
5. After the correction: mix with the potentials of related pairs once more (:func:`blend`), and put the wall back where
   no data are (:func:`with_wall`).

A correction of the shape, which also sets the scale of energy, comes from ``restoring.py``. The idea of proxy
potentials from statistics is that of D. Antypov et al., ChemPhysChem 2024, 10.1002/cphc.202400254; the formulas here
are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.statistics import BIN_WIDTH, SURROUNDINGS, DistanceStatistics, channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_NEGLIGIBLE = 1e-12
_NEAR = 0.02
_WIDENINGS = (1.0, 2.0, 4.0, 1000.0)
_ENOUGH = 3.0
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


@dataclass(frozen=True)
class Relatives:
    """Which elements are related, and how nearly.

    Attributes
    ----------
    radii
        Radii in angstrom, shape (elements,).
    circles
        k(A, C), each of shape (elements, elements), from the nearest relatives to everything.
    """

    radii: NDArray[np.float64]
    circles: tuple[NDArray[np.float64], ...]


def relatives_of(symbols: Sequence[str], settings: InversionSettings) -> Relatives:
    """Return how the elements are related.

    Parameters
    ----------
    symbols
        The elements.
    settings
        Widths.
    """
    from pymatgen.core import Element

    from fuse_flows.structures.radii import element_radius

    radii = np.array([element_radius(symbol) for symbol in symbols])
    scale = np.array([float(Element(symbol).mendeleev_no) for symbol in symbols])
    steps = (scale[:, None] - scale[None, :]) / settings.chemical_width
    strain = np.log(radii[:, None] / radii[None, :]) / settings.radius_width
    circles = []
    for widening in _WIDENINGS:
        kin = np.exp(-0.5 * (steps**2 + strain**2) / widening**2)
        circles.append(np.where(kin < _NEAR, 0.0, kin))
    return Relatives(radii, tuple(circles))


@compiled()
def _pool(  # noqa: PLR0917 - numba has no keywords
    rows: NDArray[np.float64],
    weights: NDArray[np.float64],
    kin: NDArray[np.float64],
    radii: NDArray[np.float64],
    other: float,
    shift: float,
    pooled: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Fill ``pooled`` and ``sums`` (see :func:`pool`) where ``sums`` is still small."""
    elements, points = len(radii), rows.shape[1]
    for surroundings in range(SURROUNDINGS):
        for a in range(elements):
            for b in range(a, elements):
                target = channel(a, b, surroundings, elements)
                if sums[target] > _ENOUGH:
                    continue
                sums[target] = 0.0
                pooled[target] = 0.0
                for c in np.flatnonzero(kin[a]):
                    for d in np.flatnonzero(kin[b]):
                        stretch = (radii[c] + radii[d]) / (radii[a] + radii[b])
                        for origin in range(SURROUNDINGS):
                            source = channel(c, d, origin, elements)
                            share = kin[a, c] * kin[b, d] * weights[source] * (1.0 if origin == surroundings else other)
                            if share < _NEGLIGIBLE:
                                continue
                            sums[target] += share
                            for m in range(points):
                                x = min(max((m + shift) * stretch - shift, 0.0), points - 1.001)
                                low = int(x)
                                value = rows[source, low] * (1.0 - x + low) + rows[source, low + 1] * (x - low)
                                pooled[target, m] += share * value


def pool(
    rows: NDArray[np.float64],
    weights: NDArray[np.float64],
    relatives: Relatives,
    *,
    other: float,
    shift: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average functions of the distance over related pairs, with distances scaled by the sums of the radii.

    The circle of relatives is widened for the pairs that find too little in it.

    Parameters
    ----------
    rows
        Functions on a uniform grid, shape (channels, points).
    weights
        Their weights, shape (channels,).
    relatives
        Who is related to whom.
    other
        Factor for pairs in the other surroundings.
    shift
        The distance of the first point from 0, in steps of the grid.

    Returns
    -------
    mean : numpy.ndarray
        Shape (channels, points).
    sums : numpy.ndarray
        Sum of the weights that went into it, shape (channels,).
    """
    pooled, sums = np.zeros_like(rows), np.zeros(len(rows))
    for kin in relatives.circles:
        _pool(rows, weights, kin, relatives.radii, other, shift, pooled, sums)
    return pooled / sums[:, None], sums


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


def blend(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    relatives: Relatives,
    settings: InversionSettings,
    shift: float,
) -> NDArray[np.float64]:
    """Mix potentials with those of related pairs, as much as their own data are few.

    Parameters
    ----------
    values
        Potentials on a uniform grid in eV, shape (channels, points).
    weights
        Formulas behind each, shape (channels,).
    relatives
        Who is related to whom.
    settings
        ``borrowed``: the number of formulas at which both have the same weight.
    shift
        The distance of the first point from 0, in steps of the grid.

    Returns
    -------
    numpy.ndarray
        Shape (channels, points).
    """
    mean, _ = pool(values, weights, relatives, other=settings.other, shift=shift)
    own = (weights / (weights + settings.borrowed))[:, None]
    return np.asarray(own * values + (1 - own) * mean)


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
