"""Crystal graphs, compiled: all neighbours within a cut-off, with atoms that no distance tells apart merged.

A network that sees atomic numbers and distances gives the same features to two atoms that have the same element and,
as far as the network looks, the same neighbours at the same distances. Such atoms, found by refining colours until
nothing changes (Weisfeiler and Leman, 1968), share one node that counts as many, and the same goes for their edges.
What the network answers stays the same; known crystals need a fraction of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.kernels import FINE, pair_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]


@compiled(inner=True)
def _mixed(value: int) -> Any:
    """Scatter the bits of a 64-bit number (the finaliser of splitmix64, Steele et al., OOPSLA 2014)."""
    z = np.uint64(value) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled()
def neighbours(cell: Array, frac: Array, cutoff: float) -> tuple[int, Whole, Whole, Array]:
    """List the neighbours of every atom.

    Parameters
    ----------
    cell
        (3, 3) lattice vectors as rows, A.
    frac
        (n, 3) fractional coordinates.
    cutoff
        Largest distance, A.

    Returns
    -------
    status, first, others, distances
        ``FINE`` or ``COLLAPSED`` (no list); the neighbours of atom i are ``others[first[i]:first[i + 1]]``, at
        ``distances``, A, images of the atom itself among them.
    """
    n = frac.shape[0]
    positions = np.empty((n, 3))
    for i in range(n):
        for x in range(3):
            positions[i, x] = frac[i, 0] * cell[0, x] + frac[i, 1] * cell[1, x] + frac[i, 2] * cell[2, x]
    status, blocks, picks, vectors = pair_list(cell, positions, cutoff)
    first = np.zeros(n + 1, np.int64)
    if status != FINE:
        return status, first, np.zeros(0, np.int64), np.zeros(0)
    for b in range(blocks.shape[0]):
        pairs = blocks[b, 3] - blocks[b, 2]
        first[blocks[b, 0] + 1] += pairs
        first[blocks[b, 1] + 1] += pairs
    for i in range(n):
        first[i + 1] += first[i]
    others = np.empty(first[n], np.int64)
    distances = np.empty(first[n])
    place = first[:n].copy()
    for b in range(blocks.shape[0]):
        i, j = blocks[b, 0], blocks[b, 1]
        for p in range(blocks[b, 2], blocks[b, 3]):
            s = picks[p]
            square = 0.0
            for x in range(3):
                d = positions[j, x] - positions[i, x]
                d += vectors[s, 0] * cell[0, x] + vectors[s, 1] * cell[1, x] + vectors[s, 2] * cell[2, x]
                square += d * d
            d = np.sqrt(square)
            others[place[i]], distances[place[i]] = j, d
            place[i] += 1
            others[place[j]], distances[place[j]] = i, d
            place[j] += 1
    return status, first, others, distances


@compiled(inner=True)
def _shells(distances: Array, tolerance: float) -> Whole:
    """Return a number for each distance; those closer than a tolerance share one, and chains are cut at ten of it."""
    order = np.argsort(distances)
    shells = np.empty(distances.size, np.int64)
    shell, start, last = -1, -np.inf, -np.inf
    for k in range(order.size):
        d = distances[order[k]]
        if d - last > tolerance or d - start > 10.0 * tolerance:
            shell += 1
            start = d
        last = d
        shells[order[k]] = shell
    return shells


@compiled(inner=True)
def _ranks(hashes: NDArray[np.uint64], colours: Whole) -> int:
    """Write the rank of each hash, in order of appearance, into ``colours``; return how many there are."""
    count = 0
    leaders = np.empty(hashes.size, np.int64)
    for i in range(hashes.size):
        colours[i] = count
        for c in range(count):
            if hashes[leaders[c]] == hashes[i]:
                colours[i] = c
                break
        if colours[i] == count:
            leaders[count] = i
            count += 1
    return count


@compiled(inner=True)
def _refine(numbers: Whole, first: Whole, near: Whole, shells: Whole, colours: Whole) -> int:
    """Give atoms the same colour unless their elements, or the colours around them, differ; return their number."""
    n = numbers.size
    hashes = np.empty(n, np.uint64)
    for i in range(n):
        hashes[i] = _mixed(numbers[i])
    count = _ranks(hashes, colours)
    for _ in range(n):
        for i in range(n):
            total = _mixed(colours[i])
            for k in range(first[i], first[i + 1]):
                total += _mixed(colours[near[k]] * 1048576 + shells[k] + 7919)
            hashes[i] = _mixed(total)
        before = count
        count = _ranks(hashes, colours)
        if count == before:
            break
    return count


@compiled(inner=True)
def _means(lengths: Array, shells: Whole) -> Array:
    """Return the mean length of each shell."""
    count = 0
    for k in range(shells.size):
        count = max(count, shells[k] + 1)
    means, members = np.zeros(count), np.zeros(count)
    for k in range(shells.size):
        means[shells[k]] += lengths[k]
        members[shells[k]] += 1.0
    for k in range(count):
        means[k] /= members[k]
    return means


@compiled()
def merged_graph(
    cell: Array, numbers: Whole, frac: Array, cutoff: float, tolerance: float
) -> tuple[int, Whole, Whole, Whole, Whole, Whole, Whole, Array]:
    """Build the graph of one crystal.

    Parameters
    ----------
    cell, frac, cutoff
        As in :func:`neighbours`.
    numbers
        (n,) atomic numbers.
    tolerance
        Distances closer than this may be taken for the same, A; negative: nothing is merged.

    Returns
    -------
    status, elements, atoms, centres, others, kinds, counts, lengths
        ``FINE`` or ``COLLAPSED``; per node its atomic number and how many atoms it stands for; per edge the nodes
        it leads from and to, the number of its length, and how many such neighbours one atom of its centre has;
        the lengths, A.
    """
    n = numbers.size
    status, first, near, lengths = neighbours(cell, frac, cutoff)
    shells = _shells(lengths, tolerance) if tolerance >= 0.0 else np.arange(lengths.size)
    colours = np.arange(n)
    count = _refine(numbers, first, near, shells, colours) if tolerance >= 0.0 else n
    elements, atoms = np.empty(count, np.int64), np.zeros(count, np.int64)
    leaders = np.full(count, -1, np.int64)
    size = 0
    for i in range(n):
        if leaders[colours[i]] < 0:
            leaders[colours[i]] = i
            elements[colours[i]] = numbers[i]
            size += first[i + 1] - first[i]
        atoms[colours[i]] += 1
    centres, others = np.empty(size, np.int64), np.empty(size, np.int64)
    kinds, counts = np.empty(size, np.int64), np.zeros(size, np.int64)
    edge = -1
    for c in range(count):
        begin = first[leaders[c]]
        keys = np.empty(first[leaders[c] + 1] - begin, np.int64)
        for k in range(keys.size):
            keys[k] = colours[near[begin + k]] * 1048576 + shells[begin + k]
        last = -1
        for k in np.argsort(keys):
            if keys[k] != last:
                last = keys[k]
                edge += 1
                centres[edge], others[edge], kinds[edge] = c, colours[near[begin + k]], shells[begin + k]
            counts[edge] += 1
    edge += 1
    means = _means(lengths, shells)
    return status, elements, atoms, centres[:edge], others[:edge], kinds[:edge], counts[:edge], means
