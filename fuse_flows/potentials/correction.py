"""How the correction of the first potentials is found: conjugate gradients on the normal equations, matrix-free.

What the potentials shall do, and the loss, stand in ``restoring.py``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.splines import COEFFICIENTS, R_FIRST, R_LAST, SPACING, basis
from fuse_flows.potentials.statistics import channel, pair_vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fuse_flows.potentials.restoring import RestoringProblem, RestoringSettings
    from fuse_flows.potentials.sharing import SharedParts

_SAME_ATOM = 1e-3  # A


@compiled()
def _forces(  # noqa: PLR0917 - numba has no keywords
    vectors: NDArray[np.float64],
    ends: NDArray[np.int64],
    rows: NDArray[np.int64],
    coefficients: NDArray[np.float64],
    slopes: NDArray[np.float64],
    starts: NDArray[np.int64],
    forces: NDArray[np.float64],
    virial: NDArray[np.float64],
) -> None:
    """Add forces and virial of the listed pairs (``rows``: their channels); note slopes and places of the splines."""
    value4, slope4 = np.zeros(4), np.zeros(4)
    for p in range(len(ends)):
        v = vectors[p]
        r = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
        m = basis(r, value4, slope4)
        starts[p] = m
        pull = 0.0
        for k in range(4):
            slopes[p, k] = slope4[k]
            pull += slope4[k] * coefficients[rows[p], m + k]
        for a in range(3):
            forces[ends[p, 0], a] += pull * v[a] / r
            forces[ends[p, 1], a] -= pull * v[a] / r
            for b in range(3):
                virial[a, b] += pull * v[a] * v[b] / r


@compiled()
def _sweep(  # noqa: PLR0917 - numba has no keywords
    begin: int,
    end: int,
    offsets: NDArray[np.int64],
    kinds: NDArray[np.int64],
    surroundings: NDArray[np.int64],
    positions: NDArray[np.float64],
    cells: NDArray[np.float64],
    force_targets: NDArray[np.float64],
    virial_targets: NDArray[np.float64],
    force_scales: NDArray[np.float64],
    virial_scales: NDArray[np.float64],
    elements: int,
    coefficients: NDArray[np.float64],
    target_factor: float,
    gradient: NDArray[np.float64],
    diagonal: NDArray[np.float64],
) -> float:
    """Add the gradient of the loss for some crystals; return the loss.

    ``diagonal`` (the diagonal of the normal matrix) is filled if it has the shape of the coefficients.
    """
    loss = 0.0
    for s in range(begin, end):
        first, last = offsets[s], offsets[s + 1]
        ends, vectors = pair_vectors(cells[s], positions[first:last], R_LAST, _SAME_ATOM)
        count = len(ends)
        rows = np.zeros(count, dtype=np.int64)
        for p in range(count):
            rows[p] = channel(kinds[first + ends[p, 0]], kinds[first + ends[p, 1]], surroundings[s], elements)
        slopes, starts = np.zeros((count, 4)), np.zeros(count, dtype=np.int64)
        forces, virial = np.zeros((last - first, 3)), np.zeros((3, 3))
        _forces(vectors, ends, rows, coefficients, slopes, starts, forces, virial)
        forces -= target_factor * force_targets[first:last]
        virial -= target_factor * virial_targets[s]
        wf, wv = force_scales[s], virial_scales[s]
        loss += 0.5 * (wf * (forces * forces).sum() + wv * (virial * virial).sum())
        for p in range(count):
            i, j = ends[p]
            v = vectors[p]
            r2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
            q = 0.0
            for a in range(3):
                q += wf * (forces[i, a] - forces[j, a]) * v[a]
                for b in range(3):
                    q += wv * virial[a, b] * v[a] * v[b]
            q /= np.sqrt(r2)
            weight = (0.0 if i == j else 2 * wf) + wv * r2
            for k in range(4):
                gradient[rows[p], starts[p] + k] += q * slopes[p, k]
                if len(diagonal) == len(gradient):
                    diagonal[rows[p], starts[p] + k] += weight * slopes[p, k] ** 2
    return loss


class NormalEquations:
    """The normal equations as a function: A^T (A c - f b), summed over the crystals by several threads.

    Parameters
    ----------
    problem
        Displaced crystals.
    threads
        Threads.
    """

    def __init__(self, problem: RestoringProblem, threads: int) -> None:
        self.problem = problem
        pairs = np.cumsum(np.diff(problem.offsets) + 5.0)
        self.cuts = np.searchsorted(pairs, np.linspace(0, pairs[-1], threads + 1)[1:-1])
        self.bounds = [0, *map(int, self.cuts), len(problem.cells)]

    def __call__(
        self, coefficients: NDArray[np.float64], target_factor: float, *, diagonal: NDArray[np.float64] | None = None
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the loss and its gradient.

        Parameters
        ----------
        coefficients
            c, eV, shape (channels, 73).
        target_factor
            Factor f of the targets b.
        diagonal
            The diagonal of the normal matrix is added to it, if it is given; of the same shape.
        """
        p = self.problem
        scratch = np.zeros((1, 1)) if diagonal is None else None

        def part(begin: int, end: int) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
            gradient = np.zeros_like(coefficients)
            diag = np.zeros_like(coefficients) if scratch is None else scratch
            loss = _sweep(
                begin, end, p.offsets, p.kinds, p.surroundings, p.positions, p.cells, p.forces, p.virials,
                p.force_scales, p.virial_scales, p.elements, coefficients, target_factor, gradient, diag,
            )  # fmt: skip
            return loss, gradient, diag

        with ThreadPoolExecutor(len(self.bounds) - 1) as executor:
            parts = list(executor.map(part, self.bounds[:-1], self.bounds[1:]))
        if diagonal is not None:
            diagonal += sum(diag for _, _, diag in parts)
        return sum(loss for loss, _, _ in parts), np.asarray(sum(gradient for _, gradient, _ in parts))


def correct(
    first: NDArray[np.float64],
    problem: RestoringProblem,
    settings: RestoringSettings,
    *,
    parts: SharedParts | None = None,
    threads: int = 2,
    progress: Callable[[int, float], None] | None = None,
) -> NDArray[np.float64]:
    """Correct the shape of the first potentials.

    Parameters
    ----------
    first
        Coefficients of the first potentials in eV, shape (channels, 73).
    problem
        Displaced crystals.
    settings
        Weights and number of iterations.
    parts
        What pairs share of their corrections; None: every pair for itself.
    threads
        Threads.
    progress
        Called with the number of the iteration and the share of the loss that is left (zero forces: 1).

    Returns
    -------
    numpy.ndarray
        Coefficients in eV, shape (channels, 73).
    """
    normal = NormalEquations(problem, threads)
    roughness = np.diff(np.eye(COEFFICIENTS), n=2, axis=0)
    knots = R_FIRST + SPACING * np.arange(COEFFICIENTS - 2)
    rigidity = settings.stiffness * (1 + (knots / settings.stiff_from) ** 6)
    tie = settings.ridge * np.eye(COEFFICIENTS) + roughness.T @ (rigidity[:, None] * roughness)
    diagonal = np.zeros_like(first)
    loss0, _ = normal(np.zeros_like(first), 1.0, diagonal=diagonal)
    start_loss, gradient = normal(first, 1.0)
    residual = -_transposed(parts, gradient)
    diagonal = (diagonal[None] if parts is None else parts.diagonal(diagonal)) + np.diag(tie)
    delta = np.zeros_like(residual)
    z = residual / diagonal
    direction, rz = z.copy(), float(np.sum(residual * z))
    gain = 0.0
    if progress is not None:
        progress(0, start_loss / loss0)
    for iteration in range(1, settings.iterations + 1):
        _, image = normal(_applied(parts, direction), 0.0)
        image = _transposed(parts, image) + direction @ tie
        step = rz / float(np.sum(direction * image))
        gain += 0.5 * step * rz
        delta += step * direction
        residual -= step * image
        z = residual / diagonal
        rz, previous = float(np.sum(residual * z)), rz
        direction = z + rz / previous * direction
        if progress is not None:
            progress(iteration, (start_loss - gain) / loss0)
    return first + _applied(parts, delta)


def _applied(parts: SharedParts | None, delta: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(delta[0] if parts is None else parts.apply(delta))


def _transposed(parts: SharedParts | None, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(gradient[None] if parts is None else parts.transposed(gradient))
