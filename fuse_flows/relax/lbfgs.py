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

L-BFGS: Liu and Nocedal, Math. Program. 45, 503 (1989). FIRE: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

ACCEPTED = 0
"""The trial point is the new point."""
SHORTENED = 1
"""The trial point was discarded; a shorter step was made up."""
STUCK = 2
"""Even the shortest steps were refused."""

MEMORY = 30
"""Steps that L-BFGS remembers."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function with numba, with a cache on disk where one can be written.

    Parameters
    ----------
    function
        A function in numba's subset of Python.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        The same function, compiled when it is first called.

    Notes
    -----
    numba notices a change of the file a function stands in, not of those it calls into: who edits a compiled function
    that other modules call removes their caches (``*.nbi``, ``*.nbc`` in ``__pycache__``).
    """
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the installation nor the home directory can be written to
        return numba.njit(error_model="numpy")(function)


class Memory(NamedTuple):
    """What the optimiser remembers; arrays only, changed in place, fit for compiled code.

    Parameters
    ----------
    trial
        (n,) point at which numbers are wanted next.
    point, gradient
        (n,) last accepted point and the gradient there.
    direction
        (n,) full step from ``point``; the velocity once FIRE has taken over.
    steps, changes
        (m, n) steps and changes of the gradient, a ring of the last ones.
    products
        (m,) their scalar products.
    inverse
        (n, n) guess of the inverse Hessian up to a factor, symmetric and positive; (0, n) stands for the unit matrix. A
        driver may write to it between calls.
    numbers
        See the ``_ENERGY``... indices.
    counts
        See the ``_STORED``... indices.
    """

    trial: np.ndarray
    point: np.ndarray
    gradient: np.ndarray
    direction: np.ndarray
    steps: np.ndarray
    changes: np.ndarray
    products: np.ndarray
    inverse: np.ndarray
    numbers: np.ndarray
    counts: np.ndarray


# Indices of Memory.numbers. Energies in the driver's unit (eV), lengths in that of its vector (A).
_ENERGY = 0  # at the accepted point
_SLOPE = 1  # gradient times direction there
_FRACTION = 2  # of the direction that leads to the trial point
_RADIUS = 3  # longest row of the next step; shrinks after failures and grows again
_CAP = 4  # upper limit of the radius
_NOISE = 5  # energies that differ by less are equal
_STIFFNESS = 6  # curvature assumed at the start
_TIME_STEP = 7  # of FIRE
_MIXING = 8  # of FIRE
_N_NUMBERS = 9

# Indices of Memory.counts.
_STORED = 0  # steps remembered
_NEXT = 1  # slot of the next one
_FAILURES = 2  # trial points in a row that were no good
_STARTED = 3  # 0 before the first numbers
_FIRE = 4  # 1 once FIRE has taken over
_DOWNHILL = 5  # steps of FIRE in a row that went downhill
_N_COUNTS = 6

_SMALLEST = 2e-3
"""Radius (A) below which refused steps are given up."""
_MAX_FAILURES = 8
"""Failures in a row after which the energies are not believed any more."""
_ARMIJO = 1e-4
_FIRST_TIME_STEP, _LONGEST_TIME_STEP, _FIRST_MIXING = 0.05, 0.5, 0.1


@compiled
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
    numbers = np.zeros(_N_NUMBERS)
    numbers[_CAP] = cap
    numbers[_RADIUS] = cap
    numbers[_NOISE] = noise
    numbers[_STIFFNESS] = stiffness
    return Memory(
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros((m, n)),
        np.zeros((m, n)),
        np.zeros(m),
        np.zeros((0, n)),
        numbers,
        np.zeros(_N_COUNTS, dtype=np.int64),
    )


@compiled
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
    return Memory(
        memory.trial,
        memory.point,
        memory.gradient,
        memory.direction,
        memory.steps,
        memory.changes,
        memory.products,
        np.eye(memory.trial.size),
        memory.numbers,
        memory.counts,
    )


@compiled
def start(memory: Memory, x: np.ndarray) -> None:
    """Begin at a point; its numbers are wanted first and are accepted whatever they are.

    Parameters
    ----------
    memory
        A new memory, or an old one whose settings are kept while the rest is forgotten.
    x
        (n,) first point.
    """
    memory.trial[:] = x
    memory.point[:] = x
    memory.counts[:] = 0
    memory.numbers[_RADIUS] = memory.numbers[_CAP]


@compiled
def energy_of(memory: Memory) -> float:
    """Return the energy of the accepted point."""
    return memory.numbers[_ENERGY]


@compiled
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
    counts, numbers = memory.counts, memory.numbers
    if counts[_FIRE] == 1:
        _accept(memory, energy, gradient)
        _fire_step(memory)
        return ACCEPTED
    if counts[_STARTED] == 0:
        counts[_STARTED] = 1
        _accept(memory, energy, gradient)
        _newton_step(memory)
        return ACCEPTED
    rise = energy - numbers[_ENERGY]
    promised = numbers[_FRACTION] * numbers[_SLOPE]
    curved = _remember(memory, gradient)
    if rise <= _ARMIJO * promised + numbers[_NOISE]:
        counts[_FAILURES] = 0
        if rise <= 0.25 * promised:
            numbers[_RADIUS] = min(2.0 * numbers[_RADIUS], numbers[_CAP])
        _accept(memory, energy, gradient)
        _newton_step(memory)
        return ACCEPTED
    counts[_FAILURES] += 1
    if counts[_FAILURES] >= _MAX_FAILURES:
        _forget(memory)
        counts[_FIRE] = 1
        numbers[_TIME_STEP], numbers[_MIXING] = _FIRST_TIME_STEP, _FIRST_MIXING
        memory.direction[:] = 0.0
        _fire_step(memory)
    elif curved:  # the failure itself tells where the function is stiff: a new direction rather than a shorter one
        numbers[_RADIUS] = 0.5 * _longest_row(memory.direction) * numbers[_FRACTION]
        _newton_step(memory)
    else:
        _shorten(memory, _interpolate(memory, rise))
    return SHORTENED


@compiled
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
    counts = memory.counts
    if counts[_STARTED] == 0:
        return STUCK
    length = 0.0
    for i in range(0, memory.trial.size, 3):
        length = max(length, _norm_of_row(memory.trial[i : i + 3] - memory.point[i : i + 3]))
    if length < _SMALLEST:
        return STUCK
    if counts[_FIRE] == 1:
        memory.trial[:] = memory.point + 0.4 * (memory.trial - memory.point)
        memory.direction[:] = 0.0
    else:
        memory.numbers[_RADIUS] = 0.5 * length
        _shorten(memory, 0.4)
    return SHORTENED


@compiled
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@compiled
def _norm_of_row(row: np.ndarray) -> float:
    return np.sqrt(row[0] * row[0] + row[1] * row[1] + row[2] * row[2])


@compiled
def _longest_row(x: np.ndarray) -> float:
    longest = 0.0
    for i in range(0, x.size, 3):
        longest = max(longest, _norm_of_row(x[i : i + 3]))
    return longest


@compiled
def _accept(memory: Memory, energy: float, gradient: np.ndarray) -> None:
    memory.numbers[_ENERGY] = energy
    memory.point[:] = memory.trial
    memory.gradient[:] = gradient


@compiled
def _forget(memory: Memory) -> None:
    memory.counts[_STORED] = 0
    memory.counts[_NEXT] = 0


@compiled
def _remember(memory: Memory, gradient: np.ndarray) -> bool:
    """Keep the step to the trial point if the function curves upwards along it."""
    counts = memory.counts
    slot = counts[_NEXT]
    step, change = memory.trial - memory.point, gradient - memory.gradient
    product = _dot(step, change)
    if not product > 1e-8 * np.sqrt(_dot(step, step) * _dot(change, change)):
        return False
    memory.steps[slot], memory.changes[slot], memory.products[slot] = step, change, product
    counts[_NEXT] = (slot + 1) % memory.products.size
    counts[_STORED] = min(counts[_STORED] + 1, memory.products.size)
    return True


@compiled
def _newton_step(memory: Memory) -> None:
    """Point the direction downhill by the two-loop recursion, at most one radius long, and try all of it."""
    _recursion(memory)
    slope = _dot(memory.direction, memory.gradient)
    if not slope < 0.0:
        _forget(memory)
        _recursion(memory)
        slope = _dot(memory.direction, memory.gradient)
    longest = _longest_row(memory.direction)
    if longest > memory.numbers[_RADIUS]:
        factor = memory.numbers[_RADIUS] / longest
        memory.direction[:] = factor * memory.direction
        slope *= factor
    memory.numbers[_SLOPE] = slope
    memory.numbers[_FRACTION] = 1.0
    memory.trial[:] = memory.point + memory.direction


@compiled
def _recursion(memory: Memory) -> None:
    stored, size = memory.counts[_STORED], memory.products.size
    weights = np.zeros(size)
    q = memory.direction
    q[:] = -memory.gradient
    slot = memory.counts[_NEXT]
    for _ in range(stored):
        slot = (slot - 1) % size
        weights[slot] = _dot(memory.steps[slot], q) / memory.products[slot]
        q -= weights[slot] * memory.changes[slot]
    _apply_inverse(memory, q)
    for _ in range(stored):
        q += (weights[slot] - _dot(memory.changes[slot], q) / memory.products[slot]) * memory.steps[slot]
        slot = (slot + 1) % size


@compiled
def _apply_inverse(memory: Memory, q: np.ndarray) -> None:
    """Multiply by the guess of the inverse Hessian, scaled to the newest step."""
    plain = memory.inverse.shape[0] == 0
    factor = 1.0 / memory.numbers[_STIFFNESS]
    if memory.counts[_STORED] > 0:
        newest = (memory.counts[_NEXT] - 1) % memory.products.size
        change = memory.changes[newest].copy()
        if not plain:
            change = _times(memory.inverse, change)
        factor = memory.products[newest] / _dot(memory.changes[newest], change)
    if not plain:
        q[:] = _times(memory.inverse, q)
    q *= factor


@compiled
def _times(matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = np.zeros(x.size)
    for i in range(x.size):
        out[i] = _dot(matrix[i], x)
    return out


@compiled
def _interpolate(memory: Memory, rise: float) -> float:
    """Where along the failed step the minimum should be, as a fraction of it between 0.1 and 0.5."""
    slope = memory.numbers[_SLOPE] * memory.numbers[_FRACTION]
    curvature = 2.0 * (rise - slope)
    return min(0.5, max(0.1, -slope / curvature)) if curvature > 0.0 else 0.5


@compiled
def _shorten(memory: Memory, factor: float) -> None:
    memory.numbers[_FRACTION] *= factor
    memory.trial[:] = memory.point + memory.numbers[_FRACTION] * memory.direction


@compiled
def _fire_step(memory: Memory) -> None:
    """Make one step of FIRE from the accepted point; the direction is the velocity."""
    counts, numbers, velocity = memory.counts, memory.numbers, memory.direction
    power = -_dot(velocity, memory.gradient)
    if power > 0.0:
        ratio = np.sqrt(_dot(velocity, velocity) / _dot(memory.gradient, memory.gradient))
        velocity[:] = (1.0 - numbers[_MIXING]) * velocity - numbers[_MIXING] * ratio * memory.gradient
        counts[_DOWNHILL] += 1
        if counts[_DOWNHILL] > 5:
            numbers[_TIME_STEP] = min(1.1 * numbers[_TIME_STEP], _LONGEST_TIME_STEP)
            numbers[_MIXING] *= 0.99
    else:
        velocity[:] = 0.0
        counts[_DOWNHILL] = 0
        numbers[_TIME_STEP] *= 0.5
        numbers[_MIXING] = _FIRST_MIXING
    velocity -= numbers[_TIME_STEP] * memory.gradient
    step = numbers[_TIME_STEP] * velocity
    longest = _longest_row(step)
    if longest > numbers[_CAP]:
        step *= numbers[_CAP] / longest
    memory.trial[:] = memory.point + step
