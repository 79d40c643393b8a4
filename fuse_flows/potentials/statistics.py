"""Histograms of interatomic distances in known crystals, per pair of elements and with what chance would give.

All pair quantities are indexed by a *channel*: the unordered pair of elements, in one of two surroundings (compounds
with anions, and without). In the two, the same pair keeps different distances: Fe-Fe is 2.5 A in alloys and 3 A or
more in oxides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.kernels import pair_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.crystals import CrystalSet

CUTOFF = 11.0
BIN_WIDTH = 0.05
SURROUNDINGS = 2  # 0: with anions, 1: without
_BLOCK = 1000
_SAME_ATOM = 1e-4  # A


@compiled()
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


@compiled(inner=True)
def pair_vectors(
    cell: NDArray[np.float64], positions: NDArray[np.float64], reach: float, least: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """List the pairs of :func:`.pair_list` one by one, for those who look at each once; none of a collapsed cell.

    Parameters
    ----------
    cell, positions, reach
        As there.
    least
        Pairs closer than this are left out: atoms at the same place, A.

    Returns
    -------
    ends, vectors
        (n_pairs, 2): atoms i <= j; (n_pairs, 3): from i to an image of j, A.
    """
    _, blocks, picks, numbers = pair_list(cell, positions, reach)
    ends, vectors = np.empty((picks.size, 2), np.int64), np.empty((picks.size, 3))
    count = 0
    for block in range(blocks.shape[0]):
        i, j = blocks[block, 0], blocks[block, 1]
        for p in range(blocks[block, 2], blocks[block, 3]):
            s, r2 = picks[p], 0.0
            for x in range(3):
                shift = numbers[s, 0] * cell[0, x] + numbers[s, 1] * cell[1, x] + numbers[s, 2] * cell[2, x]
                vectors[count, x] = positions[j, x] - positions[i, x] + shift
                r2 += vectors[count, x] ** 2
            if r2 >= least * least:
                ends[count, 0], ends[count, 1] = i, j
                count += 1
    return ends[:count], vectors[:count]


@compiled()
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
    amount = np.zeros(elements)
    for s in range(len(offsets) - 1):
        cell, n = cells[s], offsets[s + 1] - offsets[s]
        share = weights[s] / n
        amount[:] = 0
        for i in range(offsets[s], offsets[s + 1]):
            amount[kinds[i]] += 1
        ends, vectors = pair_vectors(cell, frac[offsets[s] : offsets[s + 1]] @ cell, bins * width, _SAME_ATOM)
        for p in range(len(ends)):
            i, j = offsets[s] + ends[p, 0], offsets[s] + ends[p, 1]
            r = np.sqrt(vectors[p, 0] ** 2 + vectors[p, 1] ** 2 + vectors[p, 2] ** 2)
            index = channel(kinds[i], kinds[j], surroundings[s], elements)
            observed[index, min(bins - 1, int(r / width))] += 2 * share
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
