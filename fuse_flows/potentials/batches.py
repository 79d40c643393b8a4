"""Compiled passes over many crystals of one composition: pair energies, and how distances are distributed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.kernels import FINE, determinant, pair_list, pair_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@compiled(inner=True)
def _place(frac_coords: Array, cell: Array, positions: Array) -> None:
    """Write the positions of atoms, given by fractions of a cell, to ``positions``."""
    for i in range(positions.shape[0]):
        for x in range(3):
            positions[i, x] = (
                frac_coords[i, 0] * cell[0, x] + frac_coords[i, 1] * cell[1, x] + frac_coords[i, 2] * cell[2, x]
            )


@compiled()
def pair_energies(
    lattices: Array,
    frac_coords: Array,
    kinds: NDArray[np.int64],
    cutoff: float,
    rows: Array,
    first_rows: NDArray[np.int64],
    last_row: int,
    r_min: float,
    spacing: float,
) -> Array:
    """Sum pair potentials for many crystals.

    Parameters
    ----------
    lattices, frac_coords
        Lattice vectors as rows, A, shape (n, 3, 3), and fractional coordinates, shape (n, atoms, 3).
    kinds
        Species of the atoms, shape (atoms,).
    cutoff
        Largest distance, A.
    rows, first_rows, last_row, r_min, spacing
        The tables; see :func:`fuse_flows.potentials.kernels.pair_sum`.

    Returns
    -------
    numpy.ndarray
        Energies without self energies, eV, shape (n,); NaN for collapsed cells.
    """
    n, atoms = frac_coords.shape[0], kinds.size
    energies = np.empty(n)
    positions, forces, virial = np.empty((atoms, 3)), np.empty((atoms, 3)), np.empty((3, 3))
    cell = np.empty((3, 3))
    for k in range(n):
        for i in range(3):
            for x in range(3):
                cell[i, x] = lattices[k, i, x]
        _place(frac_coords[k], cell, positions)
        status, blocks, picks, vectors = pair_list(cell, positions, cutoff)
        if status != FINE:
            energies[k] = np.nan
            continue
        energies[k] = pair_sum(
            cell,
            positions,
            kinds,
            blocks,
            picks,
            vectors,
            rows,
            first_rows,
            last_row,
            r_min,
            spacing,
            forces,
            virial,
        )[0]
    return energies


@compiled()
def radial_densities(
    lattices: Array, frac_coords: Array, kinds: NDArray[np.int64], reach: float, bins: int, width: float
) -> Array:
    """Return how the distances of each two kinds of atoms are distributed, whatever the cell and its size.

    Parameters
    ----------
    lattices, frac_coords
        As in :func:`pair_energies`.
    kinds
        Kinds of the atoms, 0, 1, ..., shape (atoms,).
    reach
        Largest distance, in units of the cube root of the volume per atom, as all lengths here.
    bins
        Number of distances at which the densities are given.
    width
        Standard deviation of the Gaussian that stands for each distance.

    Returns
    -------
    numpy.ndarray
        Shape (n, pairs of kinds, bins): distances per atom and unit of length over those of evenly spread atoms, less
        one; zero for a collapsed cell.
    """
    n, atoms = frac_coords.shape[0], kinds.size
    n_kinds = 0
    for i in range(atoms):
        n_kinds = max(n_kinds, kinds[i] + 1)
    densities = np.zeros((n, n_kinds * (n_kinds + 1) // 2, bins))
    number = np.zeros(n_kinds)
    for i in range(atoms):
        number[kinds[i]] += 1.0
    positions, cell, spacing = np.empty((atoms, 3)), np.empty((3, 3)), reach / bins
    for k in range(n):
        unit = (abs(determinant(lattices[k])) / atoms) ** (1.0 / 3.0)
        for i in range(3):
            for x in range(3):
                cell[i, x] = lattices[k, i, x] / unit
        _place(frac_coords[k], cell, positions)
        status, blocks, picks, vectors = pair_list(cell, positions, reach + 3.0 * width)
        if status != FINE:
            continue
        for block in range(blocks.shape[0]):
            i, j = blocks[block, 0], blocks[block, 1]
            one, two = min(kinds[i], kinds[j]), max(kinds[i], kinds[j])
            row = two * (two + 1) // 2 + one
            # pairs of unlike atoms are listed once
            weight = (1.0 if one != two else 2.0) * atoms / (number[one] * number[two])
            for p in range(blocks[block, 2], blocks[block, 3]):
                s = picks[p]
                r2 = 0.0
                for x in range(3):
                    d = (
                        positions[j, x]
                        - positions[i, x]
                        + vectors[s, 0] * cell[0, x]
                        + vectors[s, 1] * cell[1, x]
                        + vectors[s, 2] * cell[2, x]
                    )
                    r2 += d * d
                r = math.sqrt(r2)
                first = max(0, int((r - 3.0 * width) / spacing))
                last = min(bins - 1, int((r + 3.0 * width) / spacing))
                for b in range(first, last + 1):
                    z = ((b + 0.5) * spacing - r) / width
                    densities[k, row, b] += weight * math.exp(-0.5 * z * z)
        for row in range(densities.shape[1]):
            for b in range(bins):
                shell = (b + 0.5) * spacing
                norm = 4.0 * math.pi * shell * shell * width * math.sqrt(2.0 * math.pi)
                densities[k, row, b] = densities[k, row, b] / norm - 1.0
    return densities
