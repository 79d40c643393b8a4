"""The compiled sum over pairs of atoms in a crystal: list of images, energy, forces and virial.

The list. For atoms i <= j all lattice vectors s with |r_j - r_i + s| within a reach are enumerated plane by plane
and row by row in the triangular form of the cell (Fincke and Pohst, Math. Comput. 44, 463 (1985)): every vector
that is looked at counts, whatever the shape of the cell, so cells smaller or flatter than the cut-off cost no more
than their neighbours. A pair (j, i, -s) is the same pair and is not listed; of an atom and its own images one half
is.

The sum. The list has a block for each (i, j) with the numbers of its vectors s; the vectors themselves follow the
cell, so the list stays valid while atoms and cell move, as long as :func:`list_is_stale` says so.
Inside a block nothing is written to memory. Distances below the first knot, and those that rounding puts at the
cut-off, read rows of the table made for them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Block = NDArray[np.int64]
    Pick = NDArray[np.uint32]

#: A list of so many pairs per atom means a collapsed cell (1e5 pairs within 12 A are 28 atoms per A^3).
MOST_PAIRS = 100_000
MOST_VECTORS = 4_000_000

FINE = 0
COLLAPSED = 1


@compiled(inner=True)
def inverse(cell: Array) -> Array:
    """Return the inverse of a (3, 3) matrix; not finite for a singular one."""
    inv = np.empty((3, 3))
    for k in range(3):
        k1, k2 = (k + 1) % 3, (k + 2) % 3
        for m in range(3):
            m1, m2 = (m + 1) % 3, (m + 2) % 3
            inv[m, k] = cell[k1, m1] * cell[k2, m2] - cell[k1, m2] * cell[k2, m1]
    det = cell[0, 0] * inv[0, 0] + cell[0, 1] * inv[1, 0] + cell[0, 2] * inv[2, 0]
    scale = 1.0 / det if det != 0.0 else np.inf
    for k in range(3):
        for m in range(3):
            inv[k, m] *= scale
    return inv


@compiled()
def determinant(cell: Array) -> float:
    """Return the determinant of a (3, 3) matrix."""
    return (
        cell[0, 0] * (cell[1, 1] * cell[2, 2] - cell[1, 2] * cell[2, 1])
        - cell[0, 1] * (cell[1, 0] * cell[2, 2] - cell[1, 2] * cell[2, 0])
        + cell[0, 2] * (cell[1, 0] * cell[2, 1] - cell[1, 1] * cell[2, 0])
    )


@compiled(inner=True)
def _triangle(cell: Array) -> Array:
    """Return the cell in its own frame, shape (3, 3): a along x, b in the xy plane."""
    low = np.zeros((3, 3))
    axes = np.empty((3, 3))
    for k in range(3):
        for x in range(3):
            axes[k, x] = cell[k, x]
        for m in range(k):
            low[k, m] = cell[k, 0] * axes[m, 0] + cell[k, 1] * axes[m, 1] + cell[k, 2] * axes[m, 2]
            for x in range(3):
                axes[k, x] -= low[k, m] * axes[m, x]
        low[k, k] = math.sqrt(axes[k, 0] ** 2 + axes[k, 1] ** 2 + axes[k, 2] ** 2)
        for x in range(3):
            axes[k, x] /= low[k, k]
    return low


@compiled()
def pair_list(cell: Array, positions: Array, reach: float) -> tuple[int, Block, Pick, Array]:
    """List all pairs within a reach.

    Parameters
    ----------
    cell
        (3, 3) lattice vectors as rows, A.
    positions
        (n, 3) positions, A; they need not lie inside the cell.
    reach
        Largest distance, A.

    Returns
    -------
    status, blocks, picks, vectors
        ``FINE`` or ``COLLAPSED`` (no list); blocks (n_blocks, 4): atoms i and j, first and last + 1 of their picks;
        picks (n_pairs,): numbers of lattice vectors; vectors (n_vectors, 3): lattice vectors in units of the cell.
    """
    n = positions.shape[0]
    inv = inverse(cell)
    frac = np.empty((n, 3))
    for i in range(n):
        for k in range(3):
            frac[i, k] = positions[i, 0] * inv[0, k] + positions[i, 1] * inv[1, k] + positions[i, 2] * inv[2, k]
    low = _triangle(cell)
    least, most = np.zeros(3, np.int64), np.zeros(3, np.int64)
    size = 1.0
    for k in range(3):
        lowest, highest = frac[0, k], frac[0, k]
        for i in range(n):
            lowest, highest = min(lowest, frac[i, k]), max(highest, frac[i, k])
        extent = reach * math.sqrt(inv[0, k] ** 2 + inv[1, k] ** 2 + inv[2, k] ** 2) + highest - lowest
        if not extent < MOST_VECTORS:
            size = np.inf
            break
        most[k] = int(extent) + 1
        least[k] = -most[k]
        size *= 2.0 * most[k] + 1.0
    guess = 2.1 * reach**3 * n * n / abs(determinant(cell)) + 8.0 * n
    if not (size < MOST_VECTORS and guess < MOST_PAIRS * n):
        return COLLAPSED, np.zeros((0, 4), np.int64), np.zeros(0, np.uint32), np.zeros((0, 3))
    n_b, n_c = 2 * most[1] + 1, 2 * most[2] + 1
    number = np.zeros(int(size), np.int32)  # of a lattice vector, plus one; 0: not met yet
    vectors = np.empty((256, 3))
    n_vectors = 0
    blocks = np.empty((n * (n + 1) // 2, 4), np.int64)
    picks = np.empty(int(1.15 * guess) + 64, np.uint32)
    n_blocks, n_picks = 0, 0
    reach2 = reach * reach
    for i in range(n):
        for j in range(i, n):
            f0, f1, f2 = frac[j, 0] - frac[i, 0], frac[j, 1] - frac[i, 1], frac[j, 2] - frac[i, 2]
            begin = n_picks
            c_first = 0 if i == j else math.ceil(-reach / low[2, 2] - f2)
            for c in range(c_first, math.floor(reach / low[2, 2] - f2) + 1):
                z = (f2 + c) * low[2, 2]
                left = reach2 - z * z
                if left < 0.0:
                    continue
                half = math.sqrt(left) / low[1, 1]
                middle = f1 + (f2 + c) * low[2, 1] / low[1, 1]
                b_first = 0 if i == j and c == 0 else math.ceil(-half - middle)
                for b in range(b_first, math.floor(half - middle) + 1):
                    y = (middle + b) * low[1, 1]
                    rest = left - y * y
                    if rest < 0.0:
                        continue
                    width = math.sqrt(rest) / low[0, 0]
                    centre = f0 + ((f1 + b) * low[1, 0] + (f2 + c) * low[2, 0]) / low[0, 0]
                    a_first = 1 if i == j and c == 0 and b == 0 else math.ceil(-width - centre)
                    a_last = math.floor(width - centre)
                    if n_picks + a_last - a_first + 1 > picks.size:
                        longer = np.empty(2 * picks.size + a_last - a_first + 1, np.uint32)
                        for p in range(n_picks):
                            longer[p] = picks[p]
                        picks = longer
                    for a in range(a_first, a_last + 1):
                        cellno = ((a + most[0]) * n_b + b + most[1]) * n_c + c + most[2]
                        if number[cellno] == 0:
                            if n_vectors == vectors.shape[0]:
                                more = np.empty((2 * n_vectors, 3))
                                for p in range(n_vectors):
                                    for x in range(3):
                                        more[p, x] = vectors[p, x]
                                vectors = more
                            vectors[n_vectors, 0], vectors[n_vectors, 1], vectors[n_vectors, 2] = a, b, c
                            n_vectors += 1
                            number[cellno] = n_vectors
                        picks[n_picks] = number[cellno] - 1
                        n_picks += 1
            if n_picks > begin:
                blocks[n_blocks, 0], blocks[n_blocks, 1] = i, j
                blocks[n_blocks, 2], blocks[n_blocks, 3] = begin, n_picks
                n_blocks += 1
    return FINE, blocks[:n_blocks], picks[:n_picks], vectors[:n_vectors]


@compiled(fast=True)
def pair_sum(
    cell: Array,
    positions: Array,
    kinds: Block,
    blocks: Block,
    picks: Pick,
    vectors: Array,
    rows: Array,
    first_rows: Block,
    last_row: int,
    r_min: float,
    spacing: float,
    forces: Array,
    virial: Array,
) -> tuple[float, float]:
    """Sum the potentials of a list.

    Parameters
    ----------
    cell, positions
        As in :func:`pair_list`, A.
    kinds
        (n,) species.
    blocks, picks, vectors
        The list.
    rows, first_rows, last_row, r_min, spacing
        The tables; ``last_row`` is the row of zeros, counted from the first one of its pair; see
        :class:`fuse_flows.potentials.tables.PairTables`.
    forces, virial
        Filled: (n, 3) forces, eV/A; (3, 3) derivative of the energy with respect to a strain, eV.

    Returns
    -------
    energy, shortest
        Energy without self energies, eV; shortest distance within the cut-off, A (infinity if there is none).
    """
    per = 1.0 / spacing
    origin = 1.0 - r_min * per
    beyond = (r_min + (last_row - 1) * spacing) ** 2
    shifts = np.empty(vectors.shape)
    for s in range(vectors.shape[0]):
        for x in range(3):
            shifts[s, x] = vectors[s, 0] * cell[0, x] + vectors[s, 1] * cell[1, x] + vectors[s, 2] * cell[2, x]
    for i in range(forces.shape[0]):
        forces[i, 0], forces[i, 1], forces[i, 2] = 0.0, 0.0, 0.0
    energy, nearest = 0.0, np.inf
    vxx, vyy, vzz, vxy, vxz, vyz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for block in range(blocks.shape[0]):
        i, j = blocks[block, 0], blocks[block, 1]
        row = first_rows[kinds[i], kinds[j]]
        x0, y0, z0 = (
            positions[j, 0] - positions[i, 0],
            positions[j, 1] - positions[i, 1],
            positions[j, 2] - positions[i, 2],
        )
        fx, fy, fz = 0.0, 0.0, 0.0
        for p in range(blocks[block, 2], blocks[block, 3]):
            s = picks[p]
            dx, dy, dz = x0 + shifts[s, 0], y0 + shifts[s, 1], z0 + shifts[s, 2]
            r2 = dx * dx + dy * dy + dz * dz
            if r2 >= beyond:
                continue
            nearest = min(nearest, r2)
            r = math.sqrt(r2)
            u = r * per + origin
            k = min(max(int(u), 0), last_row)
            t = u - max(k, 1)
            q = np.uint64(row + k)
            c1, c2, c3 = rows[q, 1], rows[q, 2], rows[q, 3]
            energy += rows[q, 0] + t * (c1 + t * (c2 + t * c3))
            g = (c1 + t * (2.0 * c2 + 3.0 * t * c3)) * per / r
            gx, gy, gz = g * dx, g * dy, g * dz
            fx += gx
            fy += gy
            fz += gz
            vxx += gx * dx
            vyy += gy * dy
            vzz += gz * dz
            vxy += gx * dy
            vxz += gx * dz
            vyz += gy * dz
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz
        forces[j, 0] -= fx
        forces[j, 1] -= fy
        forces[j, 2] -= fz
    virial[0, 0], virial[1, 1], virial[2, 2] = vxx, vyy, vzz
    virial[0, 1], virial[0, 2], virial[1, 2] = vxy, vxz, vyz
    virial[1, 0], virial[2, 0], virial[2, 1] = vxy, vxz, vyz
    return energy, math.sqrt(nearest)


@compiled()
def list_is_stale(
    cell: Array, positions: Array, old_cell: Array, old_positions: Array, cutoff: float, reach: float
) -> bool:
    """Say whether pairs may have come within the cut-off that a list does not have.

    A pair that was further apart than the reach is now further apart than the reach times the least stretch of the
    cell, less what the two atoms have moved beside following the cell.

    Parameters
    ----------
    cell, positions
        Present cell (3, 3) and positions (n, 3), A.
    old_cell, old_positions
        Those the list was made for.
    cutoff, reach
        Cut-off and reach of the list, A.
    """
    back = inverse(old_cell)
    turn = np.empty((3, 3))
    for k in range(3):
        for m in range(3):
            turn[k, m] = back[k, 0] * cell[0, m] + back[k, 1] * cell[1, m] + back[k, 2] * cell[2, m]
    rows, columns = 0.0, 0.0
    for k in range(3):
        row, column = 0.0, 0.0
        for m in range(3):
            same = 1.0 if k == m else 0.0
            row += abs(turn[k, m] - same)
            column += abs(turn[m, k] - same)
        rows, columns = max(rows, row), max(columns, column)
    room = reach * (1.0 - math.sqrt(rows * columns)) - cutoff
    if not room > 0.0:
        return True
    furthest = 0.0
    for i in range(positions.shape[0]):
        moved = 0.0
        for x in range(3):
            followed = (
                old_positions[i, 0] * turn[0, x] + old_positions[i, 1] * turn[1, x] + old_positions[i, 2] * turn[2, x]
            )
            moved += (positions[i, x] - followed) ** 2
        furthest = max(furthest, moved)
    return not 2.0 * math.sqrt(furthest) < room


@compiled(inner=True)
def count_isolated(blocks: Block, n: int) -> int:
    """Count the atoms that are in no pair of a list; images of the atom itself are pairs."""
    seen = np.zeros(n, np.int64)
    alone = n
    for b in range(blocks.shape[0]):
        for side in range(2):
            alone -= 1 - seen[blocks[b, side]]
            seen[blocks[b, side]] = 1
    return alone
