"""Histograms of interatomic distances in known crystals, per pair of elements and with what chance would give.

All pair quantities are indexed by a *channel*: the unordered pair of elements, in one of two surroundings (compounds
with anions, and without). In the two, the same pair keeps different distances: Fe-Fe is 2.5 A in alloys and 3 A or
more in oxides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.crystals import CrystalSet

CUTOFF = 11.0
BIN_WIDTH = 0.05
SURROUNDINGS = 2  # 0: with anions, 1: without
_BLOCK = 1000


@numba.njit(cache=True)
def channel(a: int, b: int, surroundings: int, elements: int) -> int:
    """Return the number of the channel of elements a and b (positions in the list of elements)."""
    low, high = min(a, b), max(a, b)
    pair = low * elements - (low * (low - 1)) // 2 + high - low
    return surroundings * ((elements * (elements + 1)) // 2) + pair


def channel_pairs(elements: int) -> NDArray[np.int64]:
    """Return the positions (a, b), a <= b, of every pair in the order of :func:`channel`, shape (pairs, 2)."""
    return np.array([(a, b) for a in range(elements) for b in range(a, elements)], dtype=np.int64)


@dataclass(frozen=True)
class DistanceStatistics:
    """Distances seen and distances expected by chance.

    Attributes
    ----------
    symbols
        The elements.
    observed
        Weighted number of neighbours per atom of the crystal and bin, shape (channels, bins).
    expected
        The same for independent atoms at the crystal's own densities, 4 pi r^2 dr rho_B, shape (channels, bins).
    crystals
        Number of crystals that hold the pair, shape (channels,).
    weights
        Sum of the weights of these crystals, shape (channels,).
    """

    symbols: tuple[str, ...]
    observed: NDArray[np.float64]
    expected: NDArray[np.float64]
    crystals: NDArray[np.int64]
    weights: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middles of the bins in angstrom."""
        return np.asarray((np.arange(self.observed.shape[1]) + 0.5) * BIN_WIDTH, dtype=np.float64)


@numba.njit(cache=True)
def image_ranges(cell: NDArray[np.float64], cutoff: float) -> tuple[int, int]:
    """Return how many images along the first two vectors can lie within the cut-off of a wrapped difference."""
    volume = abs(np.linalg.det(cell))
    first = np.cross(cell[1], cell[2])
    second = np.cross(cell[2], cell[0])
    n_first = int(np.ceil(cutoff * np.sqrt(np.dot(first, first)) / volume + 0.5))
    n_second = int(np.ceil(cutoff * np.sqrt(np.dot(second, second)) / volume + 0.5))
    return n_first, n_second


@numba.njit(cache=True)
def _count(  # noqa: PLR0917 - numba has no keywords
    offsets: NDArray[np.int64],
    kinds: NDArray[np.int64],
    frac: NDArray[np.float64],
    cells: NDArray[np.float64],
    surroundings: NDArray[np.int64],
    weights: NDArray[np.float64],
    elements: int,
    width: float,
    observed: NDArray[np.float64],
    expected: NDArray[np.float64],
    crystals: NDArray[np.int64],
    weight_sums: NDArray[np.float64],
) -> None:
    """Add the crystals to the histograms (in place)."""
    bins = observed.shape[1]
    cutoff = bins * width
    cut2 = cutoff * cutoff
    amount = np.zeros(elements)
    for s in range(len(offsets) - 1):
        cell = cells[s]
        begin, end = offsets[s], offsets[s + 1]
        n = end - begin
        share = weights[s] / n
        n_first, n_second = image_ranges(cell, cutoff)
        third2 = np.dot(cell[2], cell[2])
        amount[:] = 0
        for i in range(begin, end):
            amount[kinds[i]] += 1
            for j in range(i, end):
                row = observed[channel(kinds[i], kinds[j], surroundings[s], elements)]
                factor = share if i == j else 2 * share
                f0, f1, f2 = frac[j, 0] - frac[i, 0], frac[j, 1] - frac[i, 1], frac[j, 2] - frac[i, 2]
                f0 -= np.floor(f0 + 0.5)
                f1 -= np.floor(f1 + 0.5)
                for a in range(-n_first, n_first + 1):
                    for b in range(-n_second, n_second + 1):
                        x = (f0 + a) * cell[0, 0] + (f1 + b) * cell[1, 0]
                        y = (f0 + a) * cell[0, 1] + (f1 + b) * cell[1, 1]
                        z = (f0 + a) * cell[0, 2] + (f1 + b) * cell[1, 2]
                        along = (x * cell[2, 0] + y * cell[2, 1] + z * cell[2, 2]) / third2
                        reach = along * along - (x * x + y * y + z * z - cut2) / third2
                        if reach <= 0:
                            continue
                        reach = np.sqrt(reach)
                        for c in range(int(np.ceil(-along - reach - f2)), int(np.floor(-along + reach - f2)) + 1):
                            dx, dy, dz = (
                                x + (f2 + c) * cell[2, 0],
                                y + (f2 + c) * cell[2, 1],
                                z + (f2 + c) * cell[2, 2],
                            )
                            r2 = dx * dx + dy * dy + dz * dz
                            if 1e-8 < r2 < cut2:
                                row[min(bins - 1, int(np.sqrt(r2) / width))] += factor
        volume = abs(np.linalg.det(cell))
        for a in range(elements):
            for b in range(a, elements):
                if amount[a] > 0 and amount[b] > 0:
                    index = channel(a, b, surroundings[s], elements)
                    crystals[index] += 1
                    weight_sums[index] += weights[s]
                    density = share * amount[a] * amount[b] / volume * (1 if a == b else 2)
                    for m in range(bins):
                        shell = ((m + 1) ** 3 - m**3) * width**3 * 4 / 3 * np.pi
                        expected[index, m] += density * shell


def distance_statistics(
    crystals: CrystalSet,
    symbols: Sequence[str],
    *,
    cutoff: float = CUTOFF,
    progress: Callable[[int], None] | None = None,
) -> DistanceStatistics:
    """Count the distances of every pair of elements.

    Parameters
    ----------
    crystals
        The crystals. Each formula counts once, however many crystals it has, and each crystal per atom.
    symbols
        The elements; every element of the crystals must be there.
    cutoff
        Largest distance in angstrom.
    progress
        Called with the number of crystals done, now and then.

    Returns
    -------
    DistanceStatistics
        Histograms with bins of 0.05 A.
    """
    elements = len(symbols)
    channels = SURROUNDINGS * elements * (elements + 1) // 2
    bins = round(cutoff / BIN_WIDTH)
    observed, expected = np.zeros((channels, bins)), np.zeros((channels, bins))
    counts, sums = np.zeros(channels, dtype=np.int64), np.zeros(channels)
    kinds = kinds_of(crystals, symbols)
    weights, surroundings = crystals.composition_weights(), surroundings_of(crystals)
    for begin in range(0, len(crystals), _BLOCK):
        end = min(begin + _BLOCK, len(crystals))
        _count(
            crystals.offsets[begin : end + 1], kinds, crystals.frac, crystals.cells[begin:end],
            surroundings[begin:end], weights[begin:end], elements, BIN_WIDTH, observed, expected, counts, sums,
        )  # fmt: skip
        if progress is not None:
            progress(end)
    return DistanceStatistics(tuple(symbols), observed, expected, counts, sums)


def kinds_of(crystals: CrystalSet, symbols: Sequence[str]) -> NDArray[np.int64]:
    """Return the position of each atom's element in the list of elements, shape (atoms,)."""
    from ase.data import atomic_numbers

    position = np.full(len(atomic_numbers) + 1, -1, dtype=np.int64)
    position[[atomic_numbers[symbol] for symbol in symbols]] = np.arange(len(symbols))
    return position[crystals.numbers]


def surroundings_of(crystals: CrystalSet) -> NDArray[np.int64]:
    """Return 0 for crystals with anions and 1 for those without, shape (n,)."""
    return np.where(crystals.anion_flags(), 0, 1).astype(np.int64)
