"""What the L-BFGS of :mod:`fuse_flows.relax.lbfgs` remembers, in three arrays that compiled code reads and writes.

Nothing here is compiled: few and plain arrays are what keeps the compilation of the rest short.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MEMORY = 30
"""Steps that L-BFGS remembers."""

# Rows of Memory.rows: four vectors, then m steps, then m changes of the gradient, a ring of the last ones.
TRIAL = 0  # point at which numbers are wanted next
POINT = 1  # last accepted point
GRADIENT = 2  # gradient there
DIRECTION = 3  # full step from POINT; the velocity once FIRE has taken over
STEPS = 4

# Indices of Memory.numbers. Energies in the driver's unit (eV), lengths in that of its vector (A).
ENERGY = 0  # at the accepted point
SLOPE = 1  # gradient times direction there
FRACTION = 2  # of the direction that leads to the trial point
RADIUS = 3  # longest row of three of the next step; shrinks after failures and grows again
CAP = 4  # upper limit of the radius
NOISE = 5  # energies that differ by less are equal
STIFFNESS = 6  # curvature assumed at the start
TIME_STEP = 7  # of FIRE
MIXING = 8  # of FIRE
# whole numbers
STORED = 9  # steps remembered
NEXT = 10  # slot of the next one
FAILURES = 11  # trial points in a row that were no good
STARTED = 12  # 0 before the first numbers
FIRE = 13  # 1 once FIRE has taken over
DOWNHILL = 14  # steps of FIRE in a row that went downhill
PRODUCTS = 15  # m scalar products of steps and changes, then m weights of the recursion


class Memory(NamedTuple):
    """What the optimiser remembers; arrays only, changed in place, fit for compiled code.

    Parameters
    ----------
    rows
        (4 + 2 m, n) vectors; see ``TRIAL``... ``STEPS``.
    inverse
        (n, n) guess of the inverse Hessian up to a factor, symmetric and positive; (0, n) stands for the unit matrix. A
        driver may write to it between calls.
    numbers
        (15 + 2 m,); see ``ENERGY``... ``PRODUCTS``.
    """

    rows: np.ndarray
    inverse: np.ndarray
    numbers: np.ndarray

    @property
    def trial(self) -> np.ndarray:
        """Point (n,) at which numbers are wanted next, a view."""
        return self.rows[TRIAL]

    @property
    def point(self) -> np.ndarray:
        """Last accepted point (n,), a view."""
        return self.rows[POINT]

    @property
    def gradient(self) -> np.ndarray:
        """Gradient (n,) at the accepted point, a view."""
        return self.rows[GRADIENT]


def new_memory(n: int, m: int, cap: float, noise: float, stiffness: float) -> Memory:
    """Allocate the memory of one minimisation.

    Parameters
    ----------
    n
        Length of the vector, a multiple of three.
    m
        Steps to remember, such as :data:`MEMORY`.
    cap
        Longest row of three of any step, A.
    noise
        Energies that differ by less are taken for equal, eV; the engine's rounding error.
    stiffness
        Curvature assumed for the first step, eV/A^2.

    Returns
    -------
    Memory
        To be passed to :func:`start`.
    """
    numbers = np.zeros(PRODUCTS + 2 * m)
    numbers[CAP] = numbers[RADIUS] = cap
    numbers[NOISE] = noise
    numbers[STIFFNESS] = stiffness
    return Memory(np.zeros((STEPS + 2 * m, n)), np.zeros((0, n)), numbers)


def with_guess(memory: Memory) -> Memory:
    """Return the memory with room for a guess of the inverse Hessian, the unit matrix to begin with.

    Parameters
    ----------
    memory
        A memory without one; the other arrays are shared.

    Returns
    -------
    Memory
        Whose ``inverse`` (n, n) may be written to between calls.
    """
    return memory._replace(inverse=np.eye(memory.rows.shape[1]))


def start(memory: Memory, x: np.ndarray) -> None:
    """Begin at a point; its numbers are wanted first and are accepted whatever they are.

    Parameters
    ----------
    memory
        A new memory, or an old one whose settings are kept while the rest is forgotten.
    x
        (n,) first point.
    """
    memory.rows[TRIAL] = memory.rows[POINT] = x
    memory.numbers[STORED:PRODUCTS] = 0.0
    memory.numbers[RADIUS] = memory.numbers[CAP]


def energy_of(memory: Memory) -> float:
    """Return the energy of the accepted point."""
    return float(memory.numbers[ENERGY])
