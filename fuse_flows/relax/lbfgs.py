"""One L-BFGS for every engine, compiled: it is told numbers and answers with the next point to try.

The functions know nothing of crystals. They minimise a function of a vector whose length is a multiple of three (rows
of three are what the step cap looks at) and whose engine is called by somebody else, so the same code serves an ASE
calculator from Python and a pair potential from a compiled loop. A driver, in Python or under ``njit``, looks like::

    memory = new_memory(x.size, MEMORY, cap, noise, stiffness)
    start(memory, x)
    while True:
        if geometry_is_bad(memory.trial):  # before the engine is called
            if refuse(memory) == STUCK:
                break  # even small steps lead there
            continue
        energy, gradient = engine(memory.trial)
        if tell(memory, energy, gradient) == ACCEPTED:
            # memory.point, memory.gradient and energy_of(memory) are the new point; memory.trial is the next one
            if converged(gradient) or too_many_calls:
                break

``tell`` answers ``ACCEPTED`` or ``SHORTENED`` (the trial point was no good, a shorter step from the last accepted
point was made up); it never answers ``STUCK``: where the energies contradict the forces it turns to FIRE, which looks
at forces alone, so a driver ends by its own count of calls. ``with_guess`` adds a guess of the inverse Hessian, and
:mod:`fuse_flows.relax.springs` has one for crystals. Nothing is random and every sum is taken in a fixed order: the
same input gives the same output to the last bit.

Liu and Nocedal, Math. Program. 45, 503 (1989). The functions of the memory are in :mod:`fuse_flows.relax.memory`, FIRE
is in :mod:`fuse_flows.relax.fire`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fuse_flows.potentials.compiling import compiled
from fuse_flows.relax.fire import dot, fire_step, longest_row, start_fire
from fuse_flows.relax.memory import (
    CAP,
    DIRECTION,
    ENERGY,
    FAILURES,
    FIRE,
    FRACTION,
    GRADIENT,
    MEMORY,
    NEXT,
    NOISE,
    POINT,
    PRODUCTS,
    RADIUS,
    SLOPE,
    STARTED,
    STEPS,
    STIFFNESS,
    STORED,
    TRIAL,
    Memory,
    energy_of,
    new_memory,
    start,
    with_guess,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "ACCEPTED",
    "MEMORY",
    "SHORTENED",
    "STUCK",
    "Memory",
    "energy_of",
    "new_memory",
    "refuse",
    "start",
    "tell",
    "with_guess",
]

ACCEPTED = 0
"""The trial point is the new point."""
SHORTENED = 1
"""The trial point was discarded; a shorter step was made up."""
STUCK = 2
"""Even the shortest steps were refused."""

_SMALLEST = 2e-3
"""Radius (A) below which refused steps are given up."""
_MAX_FAILURES = 8
"""Failures in a row after which the energies are not believed any more."""
_ARMIJO = 1e-4


@compiled()
def tell(memory: Memory, energy: float, gradient: np.ndarray) -> int:
    """Take the numbers of the trial point and make up the next trial point.

    Parameters
    ----------
    memory
        Changed in place.
    energy, gradient
        Energy and its gradient (n,) at ``memory.trial``; finite.

    Returns
    -------
    int
        ``ACCEPTED`` or ``SHORTENED``.
    """
    rows, inverse, numbers = memory
    rise = energy - numbers[ENERGY]
    promised = numbers[FRACTION] * numbers[SLOPE]
    believed = numbers[FIRE] == 0.0 and numbers[STARTED] == 1.0
    curved = _remember(rows, numbers, gradient) if believed else False
    if not believed or rise <= _ARMIJO * promised + numbers[NOISE]:
        if believed and rise <= 0.25 * promised:
            numbers[RADIUS] = min(2.0 * numbers[RADIUS], numbers[CAP])
        numbers[STARTED], numbers[FAILURES] = 1.0, 0.0
        numbers[ENERGY] = energy
        for k in range(rows.shape[1]):
            rows[POINT, k] = rows[TRIAL, k]
            rows[GRADIENT, k] = gradient[k]
        answer, turn = ACCEPTED, True
    else:
        numbers[FAILURES] += 1.0
        if numbers[FAILURES] >= _MAX_FAILURES:
            start_fire(rows, numbers)
        elif curved:  # the failure itself tells where the function is stiff: a new direction rather than a shorter one
            numbers[RADIUS] = 0.5 * longest_row(rows, DIRECTION) * numbers[FRACTION]
        answer, turn = SHORTENED, curved
    if numbers[FIRE] == 1.0:
        fire_step(rows, numbers)
    elif turn:
        _newton_step(rows, inverse, numbers)
    else:
        _shorten(rows, numbers, _interpolate(numbers, rise))
    return answer


@compiled()
def refuse(memory: Memory) -> int:
    """Discard the trial point without numbers, because its geometry is bad, and make up a shorter step.

    Parameters
    ----------
    memory
        Changed in place.

    Returns
    -------
    int
        ``SHORTENED``, or ``STUCK`` if the step was so short already that the structure itself is to blame, and for
        the first point of all.
    """
    rows, _, numbers = memory
    if numbers[STARTED] == 0.0:
        return STUCK
    length = 0.0
    for k in range(0, rows.shape[1], 3):
        norm2 = 0.0
        for c in range(k, k + 3):
            norm2 += (rows[TRIAL, c] - rows[POINT, c]) ** 2
        length = max(length, math.sqrt(norm2))
    if length < _SMALLEST:
        return STUCK
    if numbers[FIRE] == 1.0:
        for k in range(rows.shape[1]):
            rows[TRIAL, k] = rows[POINT, k] + 0.4 * (rows[TRIAL, k] - rows[POINT, k])
            rows[DIRECTION, k] = 0.0
    else:
        numbers[RADIUS] = 0.5 * length
        _shorten(rows, numbers, 0.4)
    return SHORTENED


@compiled(inner=True)
def _remember(rows: np.ndarray, numbers: np.ndarray, gradient: np.ndarray) -> bool:
    """Keep the step to the trial point if the function curves upwards along it."""
    size = (rows.shape[0] - STEPS) // 2
    slot = int(numbers[NEXT])
    product, step2, change2 = 0.0, 0.0, 0.0
    for k in range(rows.shape[1]):
        step, change = rows[TRIAL, k] - rows[POINT, k], gradient[k] - rows[GRADIENT, k]
        product += step * change
        step2 += step * step
        change2 += change * change
    if not product > 1e-8 * math.sqrt(step2 * change2):
        return False
    for k in range(rows.shape[1]):
        rows[STEPS + slot, k] = rows[TRIAL, k] - rows[POINT, k]
        rows[STEPS + size + slot, k] = gradient[k] - rows[GRADIENT, k]
    numbers[PRODUCTS + slot] = product
    numbers[NEXT] = (slot + 1) % size
    numbers[STORED] = min(int(numbers[STORED]) + 1, size)
    return True


@compiled(inner=True)
def _newton_step(rows: np.ndarray, inverse: np.ndarray, numbers: np.ndarray) -> None:
    """Point the direction downhill by the two-loop recursion, at most one radius long, and try all of it."""
    slope = 0.0
    for _ in range(2):
        _recursion(rows, inverse, numbers)
        slope = dot(rows, DIRECTION, GRADIENT)
        if slope < 0.0:
            break
        numbers[STORED] = numbers[NEXT] = 0.0  # forget
    longest = longest_row(rows, DIRECTION)
    factor = numbers[RADIUS] / longest if longest > numbers[RADIUS] else 1.0
    numbers[SLOPE] = slope * factor
    numbers[FRACTION] = 1.0
    for k in range(rows.shape[1]):
        rows[DIRECTION, k] *= factor
        rows[TRIAL, k] = rows[POINT, k] + rows[DIRECTION, k]


@compiled(inner=True)
def _recursion(rows: np.ndarray, inverse: np.ndarray, numbers: np.ndarray) -> None:
    size, n = (rows.shape[0] - STEPS) // 2, rows.shape[1]
    stored, slot = int(numbers[STORED]), int(numbers[NEXT])
    changes, weights = STEPS + size, PRODUCTS + size
    for k in range(n):
        rows[DIRECTION, k] = -rows[GRADIENT, k]
    for _ in range(stored):
        slot = slot - 1 if slot > 0 else size - 1
        weight = dot(rows, STEPS + slot, DIRECTION) / numbers[PRODUCTS + slot]
        numbers[weights + slot] = weight
        for k in range(n):
            rows[DIRECTION, k] -= weight * rows[changes + slot, k]
    _apply_inverse(rows, inverse, numbers)
    for _ in range(stored):
        weight = numbers[weights + slot] - dot(rows, changes + slot, DIRECTION) / numbers[PRODUCTS + slot]
        for k in range(n):
            rows[DIRECTION, k] += weight * rows[STEPS + slot, k]
        slot = slot + 1 if slot < size - 1 else 0


@compiled(inner=True)
def _apply_inverse(rows: np.ndarray, inverse: np.ndarray, numbers: np.ndarray) -> None:
    """Multiply the direction by the guess of the inverse Hessian, scaled to the newest step; the trial row is lost."""
    size, n = (rows.shape[0] - STEPS) // 2, rows.shape[1]
    plain = inverse.shape[0] == 0
    factor = 1.0 / numbers[STIFFNESS]
    if numbers[STORED] > 0.0:
        newest = (int(numbers[NEXT]) - 1) % size
        change = STEPS + size + newest
        if plain:
            square = dot(rows, change, change)
        else:
            _times(inverse, rows, change)
            square = dot(rows, change, TRIAL)
        factor = numbers[PRODUCTS + newest] / square
    if not plain:
        _times(inverse, rows, DIRECTION)
        for k in range(n):
            rows[DIRECTION, k] = rows[TRIAL, k]
    for k in range(n):
        rows[DIRECTION, k] *= factor


@compiled(inner=True)
def _times(matrix: np.ndarray, rows: np.ndarray, row: int) -> None:
    """Write the product of a matrix (n, n) and a row into the trial row."""
    for i in range(rows.shape[1]):
        total = 0.0
        for k in range(rows.shape[1]):
            total += matrix[i, k] * rows[row, k]
        rows[TRIAL, i] = total


@compiled(inner=True)
def _interpolate(numbers: np.ndarray, rise: float) -> float:
    """Where along the failed step the minimum should be, as a fraction of it between 0.1 and 0.5."""
    slope = numbers[SLOPE] * numbers[FRACTION]
    curvature = 2.0 * (rise - slope)
    return min(0.5, max(0.1, -slope / curvature)) if curvature > 0.0 else 0.5


@compiled(inner=True)
def _shorten(rows: np.ndarray, numbers: np.ndarray, factor: float) -> None:
    numbers[FRACTION] *= factor
    for k in range(rows.shape[1]):
        rows[TRIAL, k] = rows[POINT, k] + numbers[FRACTION] * rows[DIRECTION, k]
