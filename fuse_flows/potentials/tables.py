"""Tabulated pair potentials: cubic splines on one uniform grid of distances for all pairs of a few elements.

Between the first knot and the cut-off a potential is the cubic spline through its values. Beyond the cut-off it is
zero, so values that do not end there with zero slope make forces jump: see :func:`taper`. Below the first knot it
goes on as

    V(r_min + t) = V + V' t + max(V'', 0) t^2 / 2 - w t^3 / 6,    t < 0,

with V, V' and V'' of the spline at r_min: energy and force are continuous, and the wall w (100 eV/A^3 unless told
otherwise) makes the potential steeper than a straight line, so that even a table that attracts at its first knot
repels below.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

_FIELD = "potentials"
_WALL = 100.0
_FEWEST_KNOTS = 8


class PairTables:
    """Pair potentials of a set of elements as splines.

    Parameters
    ----------
    symbols
        Elements; their order numbers the species.
    r
        Uniform grid from the first knot to the cut-off, A, shape (n_grid,).
    values
        V(r), eV, shape (n_grid,), of each pair of symbols in alphabetical order.
    self_energies
        Energy of each atom of an element by itself, eV, such as the self term of a damped Coulomb sum; 0 if not given.
    wall
        Strength w of the wall below the first knot, eV/A^3.

    Raises
    ------
    ConfigError
        If the grid is not uniform and positive, a pair is missing, or values have another shape or are not finite.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        r: ArrayLike,
        values: Mapping[tuple[str, str], ArrayLike],
        self_energies: Mapping[str, float] | None = None,
        *,
        wall: float = _WALL,
    ) -> None:
        self.symbols = tuple(symbols)
        self.r = _checked_grid(r)
        self.wall = float(wall)
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise ConfigError(_FIELD, f"the elements {self.symbols} must be at least one, and each only once")
        n = len(self.symbols)
        self.pairs = [tuple(sorted((self.symbols[i], self.symbols[j]))) for i in range(n) for j in range(i, n)]
        self.pair_index = np.zeros((n, n), dtype=np.int64)
        upper = np.triu_indices(n)
        self.pair_index[upper] = self.pair_index[upper[::-1]] = np.arange(len(self.pairs))
        own = {} if self_energies is None else self_energies
        self.self_energies = np.array([float(own.get(symbol, 0.0)) for symbol in self.symbols])
        self._values = np.array([_checked_values(pair, values, self.r.size) for pair in self.pairs])
        self._splines = _spline_coefficients(self.r, self._values)

    @classmethod
    def from_values(
        cls,
        r: ArrayLike,
        values: Mapping[tuple[str, str], ArrayLike],
        self_energies: Mapping[str, float] | None = None,
        *,
        wall: float = _WALL,
    ) -> Self:
        """Make tables of all elements that occur in the pairs, in alphabetical order; see the class."""
        return cls(sorted({symbol for pair in values for symbol in pair}), r, values, self_energies, wall=wall)

    @classmethod
    def from_functions(
        cls,
        r: ArrayLike,
        functions: Mapping[tuple[str, str], Callable[[NDArray[np.float64]], ArrayLike]],
        self_energies: Mapping[str, float] | None = None,
        *,
        wall: float = _WALL,
    ) -> Self:
        """Make tables of functions that take distances in A and return energies in eV; see the class."""
        grid = _checked_grid(r)
        return cls.from_values(grid, {pair: f(grid) for pair, f in functions.items()}, self_energies, wall=wall)

    @classmethod
    def from_dict(cls, library: Mapping[str, Any]) -> Self:
        """Make tables of what :meth:`as_dict` returned.

        Parameters
        ----------
        library
            ``symbols``, ``r_min``, ``cutoff`` (A), ``values`` by pair such as ``"Ca-O"`` (eV), and, if there are any,
            ``self_energies`` (eV) and ``wall`` (eV/A^3).

        Raises
        ------
        ConfigError
            If a key is missing, or as for the class.
        """
        try:
            values = {_pair(*name.split("-")): np.asarray(v, dtype=np.float64) for name, v in library["values"].items()}
            r = np.linspace(float(library["r_min"]), float(library["cutoff"]), len(next(iter(values.values()))))
            symbols = library["symbols"]
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            message = f"a library needs symbols, r_min, cutoff and values by pair such as 'Ca-O' ({error!r})"
            raise ConfigError(_FIELD, message) from error
        return cls(symbols, r, values, library.get("self_energies"), wall=library.get("wall", _WALL))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can write; see :meth:`from_dict`."""
        return {
            "symbols": list(self.symbols),
            "r_min": self.r_min,
            "cutoff": self.cutoff,
            "values": {"-".join(pair): v.tolist() for pair, v in zip(self.pairs, self._values, strict=True)},
            "self_energies": dict(zip(self.symbols, self.self_energies.tolist(), strict=True)),
            "wall": self.wall,
        }

    @property
    def r_min(self) -> float:
        """First knot, A."""
        return float(self.r[0])

    @property
    def cutoff(self) -> float:
        """Last knot, A."""
        return float(self.r[-1])

    @property
    def spacing(self) -> float:
        """Distance between knots, A."""
        return (self.cutoff - self.r_min) / (self.r.size - 1)

    @property
    def values(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """V(r) by pair in alphabetical order, eV."""
        return {(one, two): v for (one, two), v in zip(self.pairs, self._values, strict=True)}

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """Splines by species, shape (n_species, n_species, n_grid - 1, 4): ascending powers of r - knot, eV/A^k."""
        return self._splines[self.pair_index]

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """What the kernels read, shape (n_pairs * (n_grid + 1), 4), in ascending powers of (r - knot) / spacing, eV.

        Each pair has a row for distances below the first knot, one for each interval, and one of zeros beyond the
        cut-off.
        """
        n_pairs, n_intervals, _ = self._splines.shape
        table = np.zeros((n_pairs, n_intervals + 2, 4))
        table[:, 1:-1] = self._splines
        table[:, 0, :2] = self._splines[:, 0, :2]
        table[:, 0, 2] = np.maximum(self._splines[:, 0, 2], 0.0)
        table[:, 0, 3] = -self.wall / 6.0
        return np.ascontiguousarray((table * self.spacing ** np.arange(4)).reshape(-1, 4))

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """Where the rows of each pair of species begin, shape (n_species, n_species)."""
        return self.pair_index * (self.r.size + 1)

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.int64], int, float, float]:
        """Return the arguments of :func:`fuse_flows.potentials.kernels.pair_sum`: rows to spacing."""
        return self.rows, self.first_rows, self.r.size, self.r_min, self.spacing

    def kinds(self, symbols: Iterable[str]) -> NDArray[np.int64]:
        """Return the species of atoms.

        Parameters
        ----------
        symbols
            Their elements.

        Returns
        -------
        numpy.ndarray
            Numbers of the species, shape (n,).

        Raises
        ------
        ConfigError
            If there is no potential for an element.
        """
        number = {symbol: k for k, symbol in enumerate(self.symbols)}
        listed = list(symbols)
        lacking = sorted(set(listed) - set(number))
        if lacking:
            known = ", ".join(self.symbols)
            raise ConfigError(_FIELD, f"no pair potential for {', '.join(lacking)}; the tables hold {known}")
        return np.array([number[symbol] for symbol in listed], dtype=np.int64)

    def evaluate(self, one: str, two: str, r: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return energy (eV) and slope (eV/A) of a pair of elements at distances (A), the wall included."""
        i, j = self.kinds((one, two))
        x = (np.asarray(r, dtype=np.float64) - self.r_min) / self.spacing
        row = np.clip(np.floor(x).astype(np.int64) + 1, 0, self.r.size)
        t = x - np.maximum(row - 1, 0)
        c0, c1, c2, c3 = self.rows[self.first_rows[i, j] + row].T
        return c0 + t * (c1 + t * (c2 + t * c3)), (c1 + t * (2 * c2 + 3 * t * c3)) / self.spacing

    def subset(self, symbols: Iterable[str]) -> PairTables:
        """Return the tables of some of the elements only.

        Raises
        ------
        ConfigError
            If there is no potential for an element.
        """
        chosen = list(symbols)
        self.kinds(chosen)
        own = dict(zip(self.symbols, self.self_energies.tolist(), strict=True))
        return PairTables(chosen, self.r, self.values, own, wall=self.wall)


def taper(r: ArrayLike, values: ArrayLike, width: float = 2.0) -> NDArray[np.float64]:
    """Switch a potential off: the last ``width`` A go to zero at the end of the grid with continuous second derivative.

    Parameters
    ----------
    r
        Distances, A, shape (n_grid,); the last one is the cut-off.
    values
        V(r), shape (..., n_grid).
    width
        Range of the switch, A.

    Returns
    -------
    numpy.ndarray
        The values times 1 - 10 s^3 + 15 s^4 - 6 s^5 with s = (r - r_cut + width) / width, between 0 and 1.
    """
    grid = np.asarray(r, dtype=np.float64)
    s = np.clip((grid - grid[-1] + width) / width, 0.0, 1.0)
    return np.asarray(values, dtype=np.float64) * (1.0 - s**3 * (10.0 - 15.0 * s + 6.0 * s**2))


def _checked_grid(r: ArrayLike) -> NDArray[np.float64]:
    grid = np.ascontiguousarray(r, dtype=np.float64)
    if grid.ndim != 1 or grid.size < _FEWEST_KNOTS or not np.isfinite(grid).all() or grid[0] <= 0:
        raise ConfigError(_FIELD, f"the grid needs at least {_FEWEST_KNOTS} positive distances in A")
    step = (grid[-1] - grid[0]) / (grid.size - 1)
    if step <= 0 or np.abs(np.diff(grid) - step).max() > 1e-6 * step:
        raise ConfigError(_FIELD, "the grid of distances must be uniform and ascending, as numpy.linspace makes it")
    return grid


def _checked_values(
    pair: tuple[str, ...], values: Mapping[tuple[str, str], ArrayLike], n_grid: int
) -> NDArray[np.float64]:
    one, two = pair
    found = values.get((one, two), values.get((two, one)))
    if found is None:
        raise ConfigError(_FIELD, f"the pair {one}-{two} is missing; give its V(r), zeros for none")
    array = np.asarray(found, dtype=np.float64)
    if array.shape != (n_grid,) or not np.isfinite(array).all():
        raise ConfigError(_FIELD, f"the values of {one}-{two} must be {n_grid} finite numbers, one for each distance")
    return array


def _pair(one: str, two: str) -> tuple[str, str]:
    return (one, two) if one <= two else (two, one)


def _spline_coefficients(r: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic splines (not-a-knot at both ends) of all pairs, shape (n_pairs, n_grid - 1, 4), ascending powers."""
    from scipy.interpolate import CubicSpline

    return np.ascontiguousarray(CubicSpline(r, values, axis=1).c.transpose(2, 1, 0)[..., ::-1])
