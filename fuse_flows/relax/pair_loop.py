"""The relaxation of positions and cell on pair potentials as one compiled loop.

The vector of the optimiser holds the positions in the undeformed cell and c (U - 1), with U the symmetric stretch
that takes the undeformed cell to the present one and c = sqrt(n) A for n atoms: the stiffness of a cell of n atoms
is n times that of an atom, so this makes both of one order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.ewald import reciprocal_sum
from fuse_flows.potentials.kernels import (
    COLLAPSED,
    count_isolated,
    determinant,
    inverse,
    list_is_stale,
    pair_list,
    pair_sum,
)
from fuse_flows.relax.lbfgs import ACCEPTED, STUCK, refuse, tell
from fuse_flows.relax.memory import TRIAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.relax.lbfgs import Memory

    Array = NDArray[np.float64]
    Kinds = NDArray[np.int64]
    Tables = tuple[Array, Kinds, int, float, float]

CONVERGED = 0
OUT_OF_STEPS = 1
UNFINISHED = 2
TOO_CLOSE = 3
EXPLODED = 4
ISOLATED = 5
ABSURD_FORCE = 6
NOT_FINITE = 7

# Indices of the record of a relaxation; energies in eV, lengths in A.
ENERGY = 0  # of the accepted point
FMAX = 1  # largest norm of a force
SMAX = 2  # largest component of the stress, counted from the pressure, eV/A^3
GNORM = 3  # root mean square of forces (eV/A) and strain derivatives (eV)
STEPS = 4  # accepted points after the first
CALLS = 5  # sums of the potentials
LISTS = 6  # lists of pairs made
WORST = 7  # what was wrong with the geometry refused last: contact, factor of volume, atoms or force
N_RECORD = 8

SKIN = 1.0
"""Reach of a list beyond the cut-off, A."""


@compiled(inner=True)
def multiply(one: Array, two: Array, out: Array) -> None:
    """Fill ``out`` with the product of two (3, 3) matrices."""
    for k in range(3):
        for m in range(3):
            out[k, m] = one[k, 0] * two[0, m] + one[k, 1] * two[1, m] + one[k, 2] * two[2, m]


@compiled(inner=True)
def copy(one: Array, out: Array) -> None:
    """Fill ``out`` with an array of the same shape, (n, 3)."""
    for i in range(one.shape[0]):
        for k in range(3):
            out[i, k] = one[i, k]


@compiled(inner=True)
def largest_row(rows: Array) -> float:
    """Return the largest norm of the rows of an array (n, 3); NaN if any of its numbers is."""
    largest = 0.0
    for i in range(rows.shape[0]):
        norm2 = rows[i, 0] ** 2 + rows[i, 1] ** 2 + rows[i, 2] ** 2
        largest = norm2 if norm2 > largest or math.isnan(norm2) else largest
    return math.sqrt(largest)


@compiled(inner=True)
def stretch_of(x: Array, n: int) -> Array:
    """Return the symmetric stretch (3, 3) that a vector holds; it has no array arithmetic, which is slow to compile."""
    stretch = np.zeros((3, 3))
    unit = 2.0 * math.sqrt(n)
    for k in range(3):
        for m in range(3):
            stretch[k, m] = (x[3 * (n + k) + m] + x[3 * (n + m) + k]) / unit
        stretch[k, k] += 1.0
    return stretch


@compiled()
def place(x: Array, reference: Array, relax_cell: bool, cell: Array, positions: Array) -> bool:
    """Turn the vector of the optimiser into a cell (3, 3) and positions (n, 3), A, filled; whether all are finite."""
    n = positions.shape[0]
    total = 0.0
    if relax_cell:
        stretch = stretch_of(x, n)
        multiply(reference, stretch, cell)
        for i in range(n):
            for k in range(3):
                positions[i, k] = x[3 * i] * stretch[0, k] + x[3 * i + 1] * stretch[1, k] + x[3 * i + 2] * stretch[2, k]
                total += positions[i, k]
    else:
        for i in range(n):
            for k in range(3):
                positions[i, k] = x[3 * i + k]
                total += positions[i, k]
        for k in range(3):
            for m in range(3):
                cell[k, m] = reference[k, m]
    return math.isfinite(total + determinant(cell))


@compiled(inner=True)
def slope(x: Array, relax_cell: bool, forces: Array, virial: Array, gradient: Array) -> None:
    """Turn forces (n, 3) and virial (3, 3) into the gradient with respect to the vector, which is filled."""
    n = forces.shape[0]
    if not relax_cell:
        for i in range(n):
            for k in range(3):
                gradient[3 * i + k] = -forces[i, k]
        return
    stretch = stretch_of(x, n)
    for i in range(n):
        for k in range(3):
            gradient[3 * i + k] = -(
                forces[i, 0] * stretch[0, k] + forces[i, 1] * stretch[1, k] + forces[i, 2] * stretch[2, k]
            )
    to_stretch = np.empty((3, 3))
    multiply(inverse(stretch), virial, to_stretch)
    unit = 2.0 * math.sqrt(n)
    for k in range(3):
        for m in range(3):
            gradient[3 * (n + k) + m] = (to_stretch[k, m] + to_stretch[m, k]) / unit


@compiled(inner=True)
def measure(record: Array, energy: float, forces: Array, virial: Array, volume: float, relax_cell: bool) -> None:
    """Write energy and the sizes of forces and stress into the record."""
    largest, squares = 0.0, 0.0
    for i in range(forces.shape[0]):
        norm2 = forces[i, 0] ** 2 + forces[i, 1] ** 2 + forces[i, 2] ** 2
        largest = max(largest, norm2)
        squares += norm2
    variables = 3.0 * forces.shape[0]
    if relax_cell:
        variables += 6.0
        for k in range(3):
            for m in range(k, 3):
                squares += virial[k, m] ** 2
    tension = 0.0
    for k in range(3):
        for m in range(3):
            tension = max(tension, abs(virial[k, m]))
    record[ENERGY] = energy
    record[FMAX] = math.sqrt(largest)
    record[SMAX] = tension / volume
    record[GNORM] = math.sqrt(squares / variables)


@compiled(inner=True)
def is_converged(record: Array, limits: Array, relax_cell: bool) -> bool:
    """Whether the accepted point meets the limits: gnorm if it is above zero, else fmax and smax."""
    if limits[LIMIT_GNORM] > 0.0:
        return record[GNORM] <= limits[LIMIT_GNORM]
    return record[FMAX] <= limits[LIMIT_FMAX] and (not relax_cell or record[SMAX] <= limits[LIMIT_SMAX])


# Indices of the limits.
LIMIT_FMAX = 0  # eV/A
LIMIT_SMAX = 1  # eV/A^3
LIMIT_GNORM = 2  # 0: fmax and smax count
LIMIT_CONTACT = 3  # shortest distance, A
LIMIT_VOLUME = 4  # largest factor of the volume
LIMIT_FORCE = 5  # absurd force, eV/A
LIMIT_STEPS = 6
PRESSURE = 7  # at which the enthalpy is minimised, eV/A^3
N_LIMITS = 8


@compiled()
def relax_loop(
    memory: Memory,
    reference: Array,
    kinds: Kinds,
    tables: Tables,
    cutoff: float,
    own_energy: float,
    charges: Array | None,
    alpha: float,
    tail: float,
    relax_cell: bool,
    limits: Array,
    calls: int,
    record: Array,
    forces: Array,
    virial: Array,
) -> int:
    """Relax until something ends it, or a number of calls is used up.

    Parameters
    ----------
    memory
        The optimiser, started; its ``point`` is the last accepted one. It may be handed in again after ``UNFINISHED``.
    reference
        (3, 3) undeformed cell, A.
    kinds, tables, cutoff, own_energy
        Species (n,), ``PairTables.arrays()``, cut-off (A), and sum of the self energies (eV).
    charges, alpha
        Charges (n,), e, and splitting (1/A) of an Ewald sum whose part between pairs is in the tables; None: no sum,
        which is compiled without it.
    relax_cell
        Whether the cell is relaxed.
    limits
        See the ``LIMIT``... indices.
    calls
        Sums of the potentials to make at most.
    record, forces, virial
        Filled with what belongs to the accepted point; see the indices of the record.

    Returns
    -------
    int
        How it ended. The first point of all is judged too; later points that are bad only shorten the step, and end
        the relaxation when even small steps lead there.
    """
    n = kinds.size
    rows, firsts, last, r_min, spacing = tables
    cell, positions = np.empty((3, 3)), np.empty((n, 3))
    list_cell, list_positions = np.empty((3, 3)), np.empty((n, 3))
    new_forces, new_virial, gradient = np.empty((n, 3)), np.empty((3, 3)), np.empty(memory.rows.shape[1])
    before = abs(determinant(reference))
    blocks, picks, vectors = np.zeros((0, 4), np.int64), np.zeros(0, np.uint32), np.zeros((0, 3))
    reach = cutoff + SKIN
    trial = memory.rows[TRIAL]
    listed = False
    for _ in range(calls):
        record[CALLS] += 1
        bad = CONVERGED
        if place(trial, reference, relax_cell, cell, positions):
            volume = abs(determinant(cell))
            factor = max(volume / before, before / volume)
            if not factor <= limits[LIMIT_VOLUME]:
                bad, record[WORST] = EXPLODED, factor
        else:
            bad = NOT_FINITE
        if bad == CONVERGED and (
            not listed or list_is_stale(cell, positions, list_cell, list_positions, cutoff, reach)
        ):
            status, blocks, picks, vectors = pair_list(cell, positions, reach)
            listed = status != COLLAPSED
            record[LISTS] += 1
            if not listed:
                bad, record[WORST] = TOO_CLOSE, 0.0
            copy(cell, list_cell)
            copy(positions, list_positions)
        if bad == CONVERGED:
            energy, shortest = pair_sum(
                cell,
                positions,
                kinds,
                blocks,
                picks,
                vectors,
                rows,
                firsts,
                last,
                r_min,
                spacing,
                new_forces,
                new_virial,
            )
            if shortest < limits[LIMIT_CONTACT]:
                bad, record[WORST] = TOO_CLOSE, shortest
            else:
                if charges is not None:
                    energy += reciprocal_sum(cell, positions, charges, alpha, new_forces, new_virial)
                    energy += tail / volume
                    for k in range(3):
                        new_virial[k, k] -= tail / volume
                largest, total = largest_row(new_forces), energy + largest_row(new_virial)
                if not math.isfinite(largest + total):
                    bad = NOT_FINITE
                elif largest > limits[LIMIT_FORCE]:
                    bad, record[WORST] = ABSURD_FORCE, largest
        if bad != CONVERGED:
            if refuse(memory) == STUCK:
                return bad
            continue
        value = energy + own_energy
        if limits[PRESSURE] != 0.0:
            value += limits[PRESSURE] * volume
            for k in range(3):
                new_virial[k, k] += limits[PRESSURE] * volume
        slope(trial, relax_cell, new_forces, new_virial, gradient)
        first = record[CALLS] == 1
        if tell(memory, value, gradient) != ACCEPTED:
            continue
        if not first:
            record[STEPS] += 1
        copy(new_forces, forces)
        copy(new_virial, virial)
        measure(record, energy + own_energy, forces, virial, volume, relax_cell)
        done = is_converged(record, limits, relax_cell)
        if first or done:
            alone = count_isolated(pair_list(cell, positions, cutoff)[1], n)
            if alone > 0:
                record[WORST] = alone
                return ISOLATED
        if done:
            return CONVERGED
        if record[STEPS] >= limits[LIMIT_STEPS]:
            return OUT_OF_STEPS
    return UNFINISHED
