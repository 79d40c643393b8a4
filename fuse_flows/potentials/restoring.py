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

s and e_s the sizes of displacement and strain. It is solved in ``correction.py``. The ridge ties each
pair to the first potential c0: pairs with few crystals stay there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.statistics import kinds_of, surroundings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.crystals import CrystalSet

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
