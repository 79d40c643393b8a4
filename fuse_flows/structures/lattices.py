"""Shapes of cells made of sub-modules: how many along each axis, and at which angles (FUSE2 paper, Section 2.2).

A sub-module is I_p x I_p x I_p/2, so a "cubic" cell is n x n x 2n of them.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.structures.blocks import Grid

Angles = tuple[float, float, float]

_MONOCLINIC_BETA = (60.0, 75.0, 105.0, 120.0)
_TRICLINIC_ANGLES = (60.0, 75.0, 90.0, 105.0, 120.0, 150.0)
_LEAST_ANGLE_FACTOR = 0.3
"""Flatter cells than this (volume over the product of the edges) are as good as degenerate."""


class LatticeSystem(StrEnum):
    """The lattice systems that cells are assembled in."""

    CUBIC = "cubic"
    TETRAGONAL = "tetragonal"
    HEXAGONAL = "hexagonal"
    ORTHORHOMBIC = "orthorhombic"
    MONOCLINIC = "monoclinic"
    TRICLINIC = "triclinic"


@cache
def grids(
    system: LatticeSystem, n_blocks: int, max_axis: int = 40, max_aspect: float | None = None
) -> tuple[Grid, ...]:
    """List the shapes of a lattice system that have exactly ``n_blocks`` sub-modules.

    Parameters
    ----------
    system
        Cubic: n x n x 2n. Tetragonal: n x n x z, z even. Hexagonal: n x n x z, z > 1. Orthorhombic: any x any x even.
        Monoclinic and triclinic: any.
    n_blocks
        Number of sub-modules.
    max_axis
        Largest number along one axis; for the cubic system, along a and b.
    max_aspect
        Longest over shortest edge of the cell; None: no limit.

    Returns
    -------
    tuple of (nx, ny, nz)
        In ascending order; may be empty.
    """
    divisors = [n for n in range(1, min(n_blocks, 2 * max_axis) + 1) if n_blocks % n == 0]
    found = []
    for nx in divisors:
        for ny in divisors:
            nz, rest = divmod(n_blocks, nx * ny)
            if not rest and nz and _is_shape(system, nx, ny, nz, max_axis):
                found.append((nx, ny, nz))
    return tuple(grid for grid in found if max_aspect is None or aspect(grid) <= max_aspect)


def aspect(grid: Grid) -> float:
    """Return the longest over the shortest edge of a cell of sub-modules, which are half as high as wide."""
    edges = (2 * grid[0], 2 * grid[1], grid[2])
    return max(edges) / min(edges)


def _is_shape(system: LatticeSystem, nx: int, ny: int, nz: int, max_axis: int) -> bool:
    """Tell whether a shape is in the table of a lattice system."""
    if max(nx, ny) > max_axis or (system is not LatticeSystem.CUBIC and nz > max_axis):
        return False
    match system:
        case LatticeSystem.CUBIC:
            return nx == ny and nz == 2 * nx
        case LatticeSystem.TETRAGONAL:
            return nx == ny and nz % 2 == 0
        case LatticeSystem.HEXAGONAL:
            return nx == ny and nz > 1
        case LatticeSystem.ORTHORHOMBIC:
            return nz % 2 == 0
    return True


@cache
def block_counts(
    system: LatticeSystem, low: int, high: int, max_axis: int = 40, max_aspect: float | None = None
) -> tuple[int, ...]:
    """List the numbers of sub-modules from ``low`` to ``high`` for which a lattice system has a shape."""
    return tuple(n for n in range(max(1, low), high + 1) if grids(system, n, max_axis, max_aspect))


def shapes_with(
    n_blocks: int, max_axis: int = 40, max_aspect: float | None = None
) -> tuple[tuple[LatticeSystem, Grid], ...]:
    """List the shapes with exactly ``n_blocks`` sub-modules, for a new arrangement of the same blocks.

    Cubic shapes are left out: each is also tetragonal. Monoclinic and triclinic shapes are the same table with other
    angles.

    Parameters
    ----------
    n_blocks
        Number of sub-modules.
    max_axis
        Largest number of sub-modules along one axis.
    max_aspect
        Longest over shortest edge of the cell; None: no limit.

    Returns
    -------
    tuple of (LatticeSystem, (nx, ny, nz))
        All shapes; angles are then drawn with :func:`draw_angles`.
    """
    systems = (s for s in LatticeSystem if s is not LatticeSystem.CUBIC)
    return tuple((system, grid) for system in systems for grid in grids(system, n_blocks, max_axis, max_aspect))


def angle_factor(angles: Angles) -> float:
    """Return the volume of a cell over the product of its edges; 0 if no such cell exists.

    Parameters
    ----------
    angles
        alpha, beta, gamma in degrees.
    """
    ca, cb, cg = np.cos(np.radians(angles))
    squared = 1 + 2 * ca * cb * cg - ca**2 - cb**2 - cg**2
    return float(np.sqrt(squared)) if squared > 1e-12 else 0.0


@cache
def angle_choices(system: LatticeSystem) -> tuple[Angles, ...]:
    """List the angles (alpha, beta, gamma in degrees) that cells of a lattice system are assembled with.

    Monoclinic cells have a true, free beta of 60, 75, 105 or 120. In triclinic cells alpha and beta are from 60, 75,
    90, 105, 120 and 150, not both 90, and gamma is 90 or 120, for which layers can be stacked; angles that no cell can
    have, or only an almost flat one, are left out.
    """
    match system:
        case LatticeSystem.HEXAGONAL:
            return ((90.0, 90.0, 120.0),)
        case LatticeSystem.MONOCLINIC:
            return tuple((90.0, beta, 90.0) for beta in _MONOCLINIC_BETA)
        case LatticeSystem.TRICLINIC:
            return tuple(
                (alpha, beta, gamma)
                for alpha, beta, gamma in product(_TRICLINIC_ANGLES, _TRICLINIC_ANGLES, (90.0, 120.0))
                if (alpha, beta) != (90.0, 90.0) and angle_factor((alpha, beta, gamma)) >= _LEAST_ANGLE_FACTOR
            )
    return ((90.0, 90.0, 90.0),)


def draw_angles(system: LatticeSystem, rng: np.random.Generator) -> Angles:
    """Draw the angles of a cell, uniformly from :func:`angle_choices`."""
    choices = angle_choices(system)
    return choices[int(rng.integers(len(choices)))]


def cell_vectors(lengths: tuple[float, float, float], angles: Angles) -> NDArray[np.float64]:
    """Return lattice vectors from lengths and angles.

    Parameters
    ----------
    lengths
        a, b, c in angstrom.
    angles
        alpha, beta, gamma in degrees.

    Returns
    -------
    numpy.ndarray
        Rows are the vectors, shape (3, 3); a lies along x, b in the xy plane.

    Raises
    ------
    ValueError
        If no cell has these angles.
    """
    factor = angle_factor(angles)
    if not factor:
        raise ValueError(f"no cell has the angles {angles}")
    ca, cb, cg = np.cos(np.radians(angles))
    sg = np.sin(np.radians(angles[2]))
    directions = np.array([[1, 0, 0], [cg, sg, 0], [cb, (ca - cb * cg) / sg, factor / sg]])
    directions[np.abs(directions) < 1e-15] = 0.0
    return np.asarray(directions * np.array(lengths)[:, None])
