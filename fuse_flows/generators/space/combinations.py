"""Which Wyckoff positions the atoms of a composition can occupy: counted exactly, drawn evenly, never listed.

A combination says which element occupies each position without freedom (one at most), and how many orbits of each
element lie on each of the others. Only the former couples the elements, so a table over the atoms that are left is
needed for them alone; the others are counted for each element by itself.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate, product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fuse_flows.generators.space.groups import SpaceGroup

Orbits = tuple[tuple[int, ...], ...]
"""For each element the numbers of the positions that its orbits occupy, ascending; free ones may be repeated."""

_MOST_REMEMBERED = 20_000
_BELOW_ONE = 1.0 - 2.0**-53

_FRESH = 2.0**-30
"""Where less than this is left of the width of a number in [0, 1), it has no digits left to decide by."""


class Combinations:
    """All ways to put given numbers of atoms on the Wyckoff positions of a space group.

    Parameters
    ----------
    group
        The space group.
    counts
        Atoms of each element in a primitive cell.
    """

    def __init__(self, group: SpaceGroup, counts: tuple[int, ...]) -> None:
        self.counts = counts
        sizes = [position.multiplicity for position in group.positions]
        self._sizes = sizes
        self._single = [k for k, position in enumerate(group.positions) if position.freedom == 0]
        self._free = [k for k, position in enumerate(group.positions) if position.freedom > 0]
        self._ways = _free_ways(tuple(sizes[k] for k in self._free), max(counts))
        self._tables = _tables(tuple(sizes[k] for k in self._single), self._ways[0].tobytes(), counts)
        self._chances: dict[tuple[int, int | tuple[int, ...]], list[float]] = {}

    @property
    def number(self) -> float:
        """How many combinations there are; exact up to 2^53."""
        return float(self._tables[0][self.counts])

    def draw(self, u: float) -> Orbits:
        """Return one combination.

        Parameters
        ----------
        u
            Number in [0, 1). Equal intervals of it belong to each combination, in a fixed order.

        Returns
        -------
        tuple of tuple of int
            For each element the numbers of its positions.

        Raises
        ------
        ValueError
            If there is no combination.
        """
        if not self.number:
            raise ValueError("no combination of Wyckoff positions fits the composition")
        digits = _Digits(u)
        left = self.counts
        orbits: list[list[int]] = [[] for _ in left]
        for step, position in enumerate(self._single):
            if self._sizes[position] <= max(left):
                chosen = digits.choose(self._owners(step, left))
                if chosen:
                    left = _without(left, chosen - 1, self._sizes[position])
                    orbits[chosen - 1].append(position)
        for element, atoms in enumerate(left):
            still = atoms
            for step, position in enumerate(self._free):
                size = self._sizes[position]
                if size <= still:
                    times = digits.choose(self._times(step, still))
                    orbits[element].extend([position] * times)
                    still -= times * size
        return tuple(tuple(sorted(each)) for each in orbits)

    def _owners(self, step: int, left: tuple[int, ...]) -> list[float]:
        """Return the chances, summed up, that a single position is empty or belongs to each element."""
        found = self._chances.get((step, left))
        if found is None:
            table, size = self._tables[step + 1], self._sizes[self._single[step]]
            ways = [float(table[left])]
            for element, atoms in enumerate(left):
                ways.append(float(table[_without(left, element, size)]) if atoms >= size else 0.0)
            found = self._remember((step, left), ways)
        return found

    def _times(self, step: int, atoms: int) -> list[float]:
        """Return the chances, summed up, that a free position holds 0, 1, ... orbits of an element."""
        found = self._chances.get((step, atoms))
        if found is None:
            ways = self._ways[step + 1][atoms :: -self._sizes[self._free[step]]].tolist()
            found = self._remember((step, atoms), ways)
        return found

    def _remember(self, key: tuple[int, int | tuple[int, ...]], ways: list[float]) -> list[float]:
        if len(self._chances) >= _MOST_REMEMBERED:
            self._chances.clear()
        total = sum(ways)
        sums = [value / total for value in accumulate(ways)]
        whole = max(k for k, value in enumerate(ways) if value)
        self._chances[key] = [*sums[:whole], 1.0]
        return self._chances[key]

    def all(self) -> Iterator[Orbits]:
        """List all combinations; for small numbers of atoms only."""
        for owners in product(range(-1, len(self.counts)), repeat=len(self._single)):
            left = list(self.counts)
            taken: list[list[int]] = [[] for _ in left]
            for position, owner in zip(self._single, owners, strict=True):
                if owner >= 0:
                    left[owner] -= self._sizes[position]
                    taken[owner].append(position)
            if min(left) >= 0:
                fillings = [list(self._fillings(atoms, 0)) for atoms in left]
                for filling in product(*fillings):
                    yield tuple(tuple(sorted((*a, *b))) for a, b in zip(taken, filling, strict=True))

    def _fillings(self, atoms: int, first: int) -> Iterator[tuple[int, ...]]:
        if atoms == 0:
            yield ()
            return
        for k in range(first, len(self._free)):
            position = self._free[k]
            if self._sizes[position] <= atoms:
                for rest in self._fillings(atoms - self._sizes[position], k):
                    yield (position, *rest)

    def most_orbits(self) -> int:
        """Return an upper bound of the number of orbits of a combination."""
        if not self._free:
            return len(self._single)
        smallest = min(self._sizes[k] for k in self._free)
        return min(sum(self.counts), len(self._single) + sum(n // smallest for n in self.counts))


class _Digits:
    """Decisions taken with one number in [0, 1); when its digits are used up, a hash of it gives more."""

    def __init__(self, u: float) -> None:
        self._seed = struct.pack("<d", u)
        self._u, self._width = min(max(u, 0.0), _BELOW_ONE), 1.0

    def choose(self, sums: list[float]) -> int:
        """Return an index; the chances are given summed up, the last sum being 1."""
        chosen = bisect_right(sums, self._u)
        begin = sums[chosen - 1] if chosen else 0.0
        width = sums[chosen] - begin
        self._u = min((self._u - begin) / width, _BELOW_ONE)
        self._width *= width
        if self._width < _FRESH:
            self._seed = hashlib.blake2b(self._seed, digest_size=8).digest()
            self._u, self._width = min(int.from_bytes(self._seed, "little") / 2.0**64, _BELOW_ONE), 1.0
        return chosen


def _without(left: tuple[int, ...], element: int, size: int) -> tuple[int, ...]:
    return (*left[:element], left[element] - size, *left[element + 1 :])


@lru_cache(maxsize=512)
def _free_ways(sizes: tuple[int, ...], most: int) -> tuple[NDArray[np.float64], ...]:
    """Return in how many ways 0 to ``most`` atoms fill the free positions k, k + 1, ...; one array for each k."""
    ways = [np.zeros(most + 1)]
    ways[0][0] = 1
    for size in reversed(sizes):
        new = ways[0].copy()
        for atoms in range(size, most + 1):
            new[atoms] += new[atoms - size]
        ways.insert(0, new)
    return tuple(ways)


@lru_cache(maxsize=64)
def _tables(sizes: tuple[int, ...], ways: bytes, counts: tuple[int, ...]) -> tuple[NDArray[np.float64], ...]:
    """Return in how many ways atoms fill the single positions k, k + 1, ... and the free ones; one table for each k."""
    free = np.frombuffer(ways)
    table = np.ones([n + 1 for n in counts])
    for axis, n in enumerate(counts):
        table *= free[: n + 1].reshape([-1 if k == axis else 1 for k in range(len(counts))])
    tables = [table]
    for size in reversed(sizes):
        new = tables[0].copy()
        for axis, n in enumerate(counts):
            if size <= n:
                target = [slice(None)] * len(counts)
                source = [slice(None)] * len(counts)
                target[axis], source[axis] = slice(size, None), slice(None, n + 1 - size)
                new[tuple(target)] += tables[0][tuple(source)]
        tables.insert(0, new)
    return tuple(tables)
