"""Energy, forces and stress of one structure, once, without a relaxation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fuse_flows.errors import FuseFlowsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from fuse_flows.potentials.tables import PairTables

COINCIDENT = 1e-3
"""Atoms closer than this (A) are at the same place: no force can tell which way to part them."""


class GeometryError(FuseFlowsError, ValueError):
    """A structure has no energy: atoms coincide, the cell has no volume, or numbers are not finite."""


class PairNumbers(NamedTuple):
    """What pair potentials say about a structure.

    Parameters
    ----------
    energy
        Total energy, self energies included, eV.
    forces
        (n, 3) forces, eV/A.
    stress
        (3, 3) stress, eV/A^3, positive under tension as in ASE.
    shortest
        Shortest distance within the cut-off, A; infinity if there is none.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    shortest: float


def evaluate(tables: PairTables, symbols: Iterable[str], cell: ArrayLike, positions: ArrayLike) -> PairNumbers:
    """Sum pair potentials over every image within the cut-off of a crystal.

    Cells of any shape and size are summed exactly: smaller or flatter than the cut-off, skewed, left-handed.

    Parameters
    ----------
    tables
        The potentials.
    symbols
        Elements of the atoms.
    cell
        (3, 3) lattice vectors as rows, A.
    positions
        (n, 3) Cartesian positions, A; they need not lie inside the cell.

    Returns
    -------
    PairNumbers
        Energy, forces, stress and the shortest distance.

    Raises
    ------
    ConfigError
        If there is no potential for an element.
    GeometryError
        If atoms coincide, the cell has collapsed or is flat, or numbers are not finite.
    """
    from fuse_flows.potentials.kernels import COLLAPSED, determinant, pair_list, pair_sum

    kinds = tables.kinds(symbols)
    lattice = np.array(cell, dtype=np.float64, order="C")  # a view that must not be written to is compiled anew
    coords = np.array(positions, dtype=np.float64, order="C").reshape(-1, 3)
    if lattice.shape != (3, 3) or len(coords) != kinds.size or not kinds.size:
        raise GeometryError(f"{kinds.size} elements need a cell (3, 3) and as many positions, not {coords.shape}")
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all()):
        raise GeometryError("cell or positions are not finite")
    status, blocks, picks, vectors = pair_list(lattice, coords, tables.cutoff)
    if status == COLLAPSED:
        raise GeometryError("the cell has no volume, or so little that its atoms have no end of neighbours")
    forces, virial = np.zeros_like(coords), np.zeros((3, 3))
    energy, shortest = pair_sum(lattice, coords, kinds, blocks, picks, vectors, *tables.arrays(), forces, virial)
    if shortest < COINCIDENT:
        raise GeometryError("two atoms coincide")
    energy += float(tables.self_energies[kinds].sum())
    return PairNumbers(float(energy), forces, virial / abs(determinant(lattice)), float(shortest))
