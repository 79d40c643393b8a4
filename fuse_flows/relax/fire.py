"""FIRE, to which the L-BFGS turns where the energies contradict the forces: it looks at forces alone.

Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fuse_flows.potentials.compiling import compiled
from fuse_flows.relax.memory import CAP, DIRECTION, DOWNHILL, FIRE, GRADIENT, MIXING, POINT, TIME_STEP, TRIAL

if TYPE_CHECKING:
    import numpy as np

_FIRST_TIME_STEP, _LONGEST_TIME_STEP, _FIRST_MIXING = 0.05, 0.5, 0.1


@compiled(inner=True)
def dot(rows: np.ndarray, one: int, two: int) -> float:
    """Return the scalar product of two rows."""
    total = 0.0
    for k in range(rows.shape[1]):
        total += rows[one, k] * rows[two, k]
    return total


@compiled(inner=True)
def longest_row(rows: np.ndarray, row: int) -> float:
    """Return the largest norm of three numbers in a row (3 n,)."""
    longest = 0.0
    for k in range(0, rows.shape[1], 3):
        norm = math.sqrt(rows[row, k] ** 2 + rows[row, k + 1] ** 2 + rows[row, k + 2] ** 2)
        longest = max(longest, norm)
    return longest


@compiled(inner=True)
def start_fire(rows: np.ndarray, numbers: np.ndarray) -> None:
    """Begin at rest."""
    numbers[FIRE] = 1.0
    numbers[TIME_STEP], numbers[MIXING] = _FIRST_TIME_STEP, _FIRST_MIXING
    for k in range(rows.shape[1]):
        rows[DIRECTION, k] = 0.0


@compiled(inner=True)
def fire_step(rows: np.ndarray, numbers: np.ndarray) -> None:
    """Make one step from the accepted point; the direction is the velocity."""
    n = rows.shape[1]
    mixing, keep = 0.0, 0.0
    if -dot(rows, DIRECTION, GRADIENT) > 0.0:
        ratio = math.sqrt(dot(rows, DIRECTION, DIRECTION) / dot(rows, GRADIENT, GRADIENT))
        keep, mixing = 1.0 - numbers[MIXING], numbers[MIXING] * ratio
        numbers[DOWNHILL] += 1.0
        if numbers[DOWNHILL] > 5.0:
            numbers[TIME_STEP] = min(1.1 * numbers[TIME_STEP], _LONGEST_TIME_STEP)
            numbers[MIXING] *= 0.99
    else:
        numbers[DOWNHILL] = 0.0
        numbers[TIME_STEP] *= 0.5
        numbers[MIXING] = _FIRST_MIXING
    time_step = numbers[TIME_STEP]
    for k in range(n):
        gradient = rows[GRADIENT, k]
        rows[DIRECTION, k] = keep * rows[DIRECTION, k] - mixing * gradient - time_step * gradient
        rows[TRIAL, k] = time_step * rows[DIRECTION, k]
    longest = longest_row(rows, TRIAL)
    factor = numbers[CAP] / longest if longest > numbers[CAP] else 1.0
    for k in range(n):
        rows[TRIAL, k] = rows[POINT, k] + factor * rows[TRIAL, k]
