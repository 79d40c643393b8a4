"""The correction of the first potentials: forces that lead back to the known crystals.

-kT ln g treats every pair as if it were alone, so crystals are not at rest under it: the wells of the many shells add
up, most often to a cell that is too small. The correction asks for what the statistics of *all* distances of a crystal
say together. Each crystal of the data is displaced and strained at random, and the potentials are to lead back:

    force on atom i = -k d_i,      dE/d(strain) = V (lambda tr(e) 1 + 2 mu e)

with displacement d_i, strain e, volume V and the same constants k, lambda, mu for all. (This is the regression of
"denoising score matching", P. Vincent, Neural Comput. 23, 1661 (2011), for an energy that is a sum of pairs; its normal
equations are those of Yvon, Born and Green, which join pair and triplet statistics.) As forces are linear in the
coefficients of the splines, this is a linear least-squares problem,

    sum_s w_s [ sum_i |F_i + k d_i|^2 / (k^2 s^2 N) + |dE/de - target|^2 / (V B e_s)^2 ]
        + sum_pairs [ ridge |c - c0|^2 + stiffness(r) |c'' - c0''|^2 ],

s and e_s the sizes of displacement and strain. It is solved by conjugate gradients, matrix-free. The ridge ties each
pair to the first potential c0: pairs with few crystals stay there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.splines import COEFFICIENTS, R_FIRST, R_LAST, SPACING, basis
from fuse_flows.potentials.statistics import channel, kinds_of, pair_vectors, surroundings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.crystals import CrystalSet
    from fuse_flows.potentials.sharing import SharedParts

_SAME_ATOM = 1e-3  # A
_SMALLEST = 0.03  # A; displacements below this count as this in the weights
_LARGEST = 0.3  # A; shear does not grow with displacements beyond this


@dataclass(frozen=True)
class RestoringSettings:
    """The choices of the correction.

    Attributes
    ----------
    displacements
        Smallest and largest standard deviation of the displacements in angstrom (drawn evenly in the logarithm).
    strain_per_displacement
        Standard deviation of the strain, per angstrom of displacement.
    far_share
        Share of the crystals that are displaced far.
    far_displacements
        As ``displacements``, for these.
    far_swelling
        Smallest and largest isotropic strain of these; random structures are often too dilute.
    mixed_share, mixed_swelling
        Share of the crystals whose atoms change places at random, and their isotropic strain. They only learn to shrink
        or swell to the volume of the crystal: disordered structures shall have its density, too.
    force_reach, strain_reach
        Displacement (angstrom) and strain where restoring forces saturate.
    spring
        k in eV/A^2.
    bulk, shear
        lambda + 2/3 mu, and mu, in eV/A^3.
    ridge, stiffness
        Weights of the ties to the first potential: of the difference, and of its curvature.
    stiff_from
        The second grows as 1 + (r / stiff_from)^6: what is far is smooth, A.
    strain_weight
        Weight of the strain equations.
    iterations
        Steps of conjugate gradients.
    """

    displacements: tuple[float, float] = (0.05, 0.30)
    strain_per_displacement: float = 0.25
    far_share: float = 0.4
    far_displacements: tuple[float, float] = (0.30, 1.00)
    far_swelling: tuple[float, float] = (-0.05, 0.30)
    mixed_share: float = 0.0
    mixed_swelling: tuple[float, float] = (-0.05, 0.30)
    force_reach: float = 0.3
    strain_reach: float = 0.06
    spring: float = 4.0
    bulk: float = 0.6
    shear: float = 0.3
    ridge: float = 1.0
    stiffness: float = 3.0
    stiff_from: float = 12.0
    strain_weight: float = 3.0
    iterations: int = 35


@dataclass(frozen=True)
class RestoringProblem:
    """Displaced crystals and where they shall go, in flat arrays.

    Attributes
    ----------
    offsets, kinds, surroundings
        As in ``CrystalSet`` and ``kinds_of``, ``surroundings_of``.
    positions
        Displaced positions in angstrom, shape (atoms, 3).
    cells
        Strained cells, shape (n, 3, 3).
    forces, virials
        Targets in eV/A, shape (atoms, 3), and eV, shape (n, 3, 3).
    force_scales, virial_scales
        Factors of the equations of each crystal, shape (n,).
    elements
        Number of elements.
    """

    offsets: NDArray[np.int64]
    kinds: NDArray[np.int64]
    surroundings: NDArray[np.int64]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64]
    force_scales: NDArray[np.float64]
    virial_scales: NDArray[np.float64]
    elements: int


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


class _Normal:
    """The normal equations as a function: A^T (A c - f b), summed over the crystals by several threads."""

    def __init__(self, problem: RestoringProblem, threads: int) -> None:
        self.problem = problem
        pairs = np.cumsum(np.diff(problem.offsets) + 5.0)
        self.cuts = np.searchsorted(pairs, np.linspace(0, pairs[-1], threads + 1)[1:-1])
        self.bounds = [0, *map(int, self.cuts), len(problem.cells)]

    def __call__(
        self, coefficients: NDArray[np.float64], target_factor: float, *, diagonal: NDArray[np.float64] | None = None
    ) -> tuple[float, NDArray[np.float64]]:
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


def displaced(
    crystals: CrystalSet,
    symbols: Sequence[str],
    settings: RestoringSettings,
    rng: np.random.Generator,
) -> RestoringProblem:
    """Displace and strain every crystal at random and note where it shall go.

    Parameters
    ----------
    crystals
        The crystals; the same one may come several times.
    symbols
        The elements of the library.
    settings
        Sizes of displacement and strain, constants of the restoring forces.
    rng
        Source of the random numbers.

    Returns
    -------
    RestoringProblem
        Everything the regression needs.
    """
    n, sizes = len(crystals), crystals.sizes
    owner = np.repeat(np.arange(n), sizes)
    lot = rng.random(n)
    mixed = lot < settings.mixed_share
    far = (lot < settings.mixed_share + settings.far_share) & ~mixed
    ranges = np.array([settings.displacements, settings.far_displacements])[np.where(far | mixed, 1, 0)]
    ranges[mixed, 1] = ranges[mixed].mean(axis=1)
    low, high = np.log(ranges).T
    sigma = np.exp(rng.uniform(low, high))
    strain = (
        rng.normal(size=(n, 3, 3)) * (np.minimum(sigma, _LARGEST) * settings.strain_per_displacement)[:, None, None]
    )
    strain = (strain + strain.transpose(0, 2, 1)) / 2
    swelling = np.where(far, rng.uniform(*settings.far_swelling, n), 0.0)
    swelling[mixed] = rng.uniform(*settings.mixed_swelling, int(mixed.sum()))
    strain += swelling[:, None, None] * np.eye(3)
    move = rng.normal(size=(len(owner), 3)) * sigma[owner, None]
    move -= np.add.reduceat(move, crystals.offsets[:-1], axis=0)[owner] / sizes[owner, None]
    problem = problem_of(crystals, symbols, move, strain, settings)
    order = np.lexsort((rng.random(len(owner)), owner))
    kinds = np.where(mixed[owner], problem.kinds[order], problem.kinds)
    return replace(problem, kinds=kinds, force_scales=np.where(mixed, 0.0, problem.force_scales))


def problem_of(
    crystals: CrystalSet,
    symbols: Sequence[str],
    move: NDArray[np.float64],
    strain: NDArray[np.float64],
    settings: RestoringSettings,
) -> RestoringProblem:
    """Write down where displaced crystals shall go.

    Parameters
    ----------
    crystals
        The crystals at rest.
    symbols
        The elements of the library.
    move
        Displacements in angstrom, in the strained cell, shape (atoms, 3).
    strain
        Symmetric strains, shape (n, 3, 3).
    settings
        Constants and weights. Forces and stresses saturate: k d / (1 + s / ``force_reach``) with the root mean square
        s of a crystal's displacements, and likewise for the strain, as no bond pulls harder the longer it gets.

    Returns
    -------
    RestoringProblem
        Everything the regression needs.
    """
    n, sizes = len(crystals), crystals.sizes
    owner = np.repeat(np.arange(n), sizes)
    size = np.sqrt(np.add.reduceat((move**2).sum(axis=1), crystals.offsets[:-1]) / (3 * sizes))
    strain_size = np.sqrt((strain**2).sum(axis=(1, 2)) / 6)
    cells = crystals.cells @ (np.eye(3) + strain)
    volumes = np.abs(np.linalg.det(crystals.cells))
    spring = settings.spring / (1 + size / settings.force_reach)
    modulus = 1 / (1 + strain_size / settings.strain_reach)
    lame = settings.bulk - 2 / 3 * settings.shear
    trace = np.trace(strain, axis1=1, axis2=2)[:, None, None]
    stress = (lame * trace * np.eye(3) + 2 * settings.shear * strain) * modulus[:, None, None]
    weights = np.sqrt(crystals.composition_weights())
    force_unit = spring * np.maximum(size, _SMALLEST)
    virial_unit = (
        volumes * settings.bulk * modulus * np.maximum(strain_size, _SMALLEST * settings.strain_per_displacement)
    )
    return RestoringProblem(
        offsets=crystals.offsets,
        kinds=kinds_of(crystals, symbols),
        surroundings=surroundings_of(crystals),
        positions=np.einsum("ni,nij->nj", crystals.frac, cells[owner]) + move,
        cells=cells,
        forces=-spring[owner, None] * move,
        virials=stress * volumes[:, None, None],
        force_scales=weights / (force_unit**2 * sizes),
        virial_scales=settings.strain_weight * weights / virial_unit**2,
        elements=len(symbols),
    )


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
    normal = _Normal(problem, threads)
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
