"""Pair potentials as the energy model: no network and no training, thousands of candidates in a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import fuse_flows
from fuse_flows.potentials.tables import PairTables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fuse_flows.generators.base import Cell


class PairEnergyModel:
    """Energy model of tabulated pair potentials; see :class:`fuse_flows.generators.base.EnergyModel`.

    Parameters
    ----------
    tables
        The potentials, or a function that takes the symbols of a compound in alphabetical order and returns tables
        that hold them (it may raise ConfigError); None for the statistical proxy potentials of the package.
    name
        Name of the model.
    pressure
        GPa; with one, enthalpies are returned.
    """

    def __init__(
        self,
        tables: PairTables | Callable[[tuple[str, ...]], PairTables] | None = None,
        name: str = "spp",
        *,
        pressure: float = 0.0,
    ) -> None:
        self.pressure = pressure
        self.name = name
        self.version = fuse_flows.__version__
        self._source = spp_tables if tables is None else tables
        self._made: dict[tuple[str, ...], PairTables] = {}

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse elements without potentials.

        Raises
        ------
        ConfigError
            Naming them.
        """
        self._tables(tuple(sorted(set(symbols)))).kinds(sorted(set(symbols)))

    def energies(self, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """Sum the potentials of each cell; neighbours in the sequence with the same atoms are passed on together.

        Parameters
        ----------
        cells
            Any cells.

        Returns
        -------
        numpy.ndarray
            Energies in eV/atom, shape (len(cells),); NaN for collapsed cells.
        """
        energies = np.empty(len(cells))
        begin = 0
        for end in range(1, len(cells) + 1):
            if end == len(cells) or not np.array_equal(cells[end].numbers, cells[begin].numbers):
                energies[begin:end] = self._alike(cells[begin:end])
                begin = end
        return energies

    def _alike(self, cells: Sequence[Cell]) -> NDArray[np.float64]:
        from pymatgen.core import Element

        from fuse_flows.potentials.batches import pair_energies

        symbols = [Element.from_Z(int(number)).symbol for number in cells[0].numbers]
        tables = self._tables(tuple(sorted(set(symbols))))
        kinds = tables.kinds(symbols)
        lattices = np.array([cell.lattice for cell in cells], dtype=np.float64)
        coords = np.array([cell.frac_coords for cell in cells], dtype=np.float64)
        sums = pair_energies(lattices, coords, kinds, tables.cutoff, *tables.arrays())
        totals = sums + tables.self_energies[kinds].sum()
        if self.pressure:
            from ase.units import GPa

            totals = totals + self.pressure * GPa * np.abs(np.linalg.det(lattices))
        return np.asarray(totals / kinds.size)

    def _tables(self, symbols: tuple[str, ...]) -> PairTables:
        if not callable(self._source):
            return self._source
        if symbols not in self._made:
            self._made[symbols] = self._source(symbols)
        return self._made[symbols]


def spp_tables(symbols: tuple[str, ...]) -> PairTables:
    """Return the statistical proxy potentials of the package for the elements of a compound.

    Raises
    ------
    ConfigError
        If there is none for an element.
    """
    from fuse_flows.potentials.library import load_library

    return PairTables(symbols, *load_library().tables(symbols))
