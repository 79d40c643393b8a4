"""A guess of the Hessian of any crystal, for the L-BFGS to start from: springs between neighbours, softer when longer.

Stiff short bonds, soft long ones and the strain of the cell that moves them all have curvatures that differ by orders
of magnitude; a method that starts from the unit matrix spends most of its steps to find that out. After the idea of
Packwood et al., J. Chem. Phys. 144, 164109 (2016), with directions, strain and the sizes of the atoms.
"""

from __future__ import annotations

import math

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.relax.strain import deform

_STIFFNESS = 10.0  # of a bond as long as the radii of its atoms together, eV/A^2
_DECAY = 3.0  # the stiffness falls by a factor e when a bond grows by a third of its natural length
_SIDEWAYS = 0.1  # stiffness across a bond over that along it
_GROUND = 1.0  # stiffness of everything, eV/A^2
_CUTOFF = 4.5  # A
_HARDEST = 100.0  # no bond is stiffer, eV/A^2


def guess_inverse(x: np.ndarray, cell_0: np.ndarray, scale: float, radii: np.ndarray, inverse: np.ndarray) -> None:
    """Write the inverse of the guessed Hessian at a point.

    Parameters
    ----------
    x
        (3 n + 9,) positions and strain as in :mod:`fuse_flows.relax.strain`, or (3 n,) where the cell is kept.
    cell_0
        (3, 3) undeformed cell, rows, A.
    scale
        Length (A) that stands for a strain of one.
    radii
        (n,) covalent radii, A.
    inverse
        Square, as large as x, written to, A^2/eV.
    """
    n = radii.size
    cell, positions, stretch = deform(x, cell_0, scale, n)
    reciprocal = np.linalg.inv(cell)
    fractions = positions @ reciprocal
    reach = np.ceil(_CUTOFF * np.sqrt((reciprocal**2).sum(axis=0))).astype(np.int64)
    hessian = _GROUND * np.eye(x.size)
    add_springs(hessian, cell, fractions, reach, stretch, scale, np.ascontiguousarray(radii, dtype=float))
    inverse[:] = np.linalg.inv(hessian)


@compiled()
def add_springs(  # noqa: PLR0917 - compiled code takes its arguments by position
    hessian: np.ndarray,
    cell: np.ndarray,
    fractions: np.ndarray,
    reach: np.ndarray,
    stretch: np.ndarray,
    scale: float,
    radii: np.ndarray,
) -> None:
    """Add the springs of all bonds to a Hessian.

    Parameters
    ----------
    hessian
        (3 n + 9, 3 n + 9), or (3 n, 3 n) where the cell is kept; added to, eV/A^2.
    cell, fractions
        (3, 3) present cell, rows, A, and (n, 3) positions in it.
    reach
        (3,) cells to look at along each axis.
    stretch
        (3, 3) from the undeformed cell to the present one.
    scale
        Length (A) that stands for a strain of one.
    radii
        (n,) covalent radii, A.
    """
    n = radii.size
    offset, bond, spring, pushed = np.empty(3), np.empty(3), np.empty((3, 3)), np.empty((9, 3))
    for i in range(n):
        for j in range(i, n):
            for k in range(3):
                offset[k] = fractions[j, k] - fractions[i, k]
                offset[k] -= math.floor(offset[k] + 0.5)
            for a in range(-reach[0], reach[0] + 1):
                for b in range(-reach[1], reach[1] + 1):
                    for c in range(-reach[2], reach[2] + 1):
                        squared = _bond(cell, offset[0] + a, offset[1] + b, offset[2] + c, bond)
                        if not 1e-12 < squared < _CUTOFF * _CUTOFF:
                            continue
                        share = 0.5 if i == j else 1.0  # a bond to an image is met again from the other side
                        _spring_of(bond, squared, radii[i] + radii[j], share, spring)
                        if i != j:
                            _add_to_atoms(hessian, stretch, spring, pushed, i, j)
                        if hessian.shape[0] > 3 * n:
                            _add_to_strain(hessian, stretch, scale, bond, spring, pushed, i, j, n)


@compiled(inner=True)
def _bond(cell: np.ndarray, a: float, b: float, c: float, bond: np.ndarray) -> float:
    """Write the vector of a bond (3,) from fractional numbers and return the square of its length."""
    squared = 0.0
    for k in range(3):
        bond[k] = a * cell[0, k] + b * cell[1, k] + c * cell[2, k]
        squared += bond[k] * bond[k]
    return squared


@compiled(inner=True)
def _spring_of(bond: np.ndarray, squared: float, natural: float, share: float, spring: np.ndarray) -> None:
    """Write the second derivatives (3, 3) of a share of the energy of a bond."""
    stiffness = share * min(_STIFFNESS * math.exp(-_DECAY * (math.sqrt(squared) / natural - 1.0)), _HARDEST)
    for a in range(3):
        for b in range(3):
            spring[a, b] = stiffness * (1.0 - _SIDEWAYS) * bond[a] * bond[b] / squared
        spring[a, a] += stiffness * _SIDEWAYS


@compiled(inner=True)
def _add_to_atoms(  # noqa: PLR0917 - as above
    hessian: np.ndarray, stretch: np.ndarray, spring: np.ndarray, scratch: np.ndarray, i: int, j: int
) -> None:
    """Add what a bond says of its atoms, whose positions are those in the undeformed cell."""
    for a in range(3):
        for b in range(3):
            scratch[a, b] = 0.0
            for c in range(3):
                scratch[a, b] += stretch[a, c] * spring[c, b]
    for a in range(3):
        for b in range(3):
            block = 0.0
            for c in range(3):
                block += scratch[a, c] * stretch[c, b]
            hessian[3 * i + a, 3 * i + b] += block
            hessian[3 * j + a, 3 * j + b] += block
            hessian[3 * i + a, 3 * j + b] -= block
            hessian[3 * j + a, 3 * i + b] -= block


@compiled(inner=True)
def _add_to_strain(  # noqa: PLR0917 - as above
    hessian: np.ndarray,
    stretch: np.ndarray,
    scale: float,
    bond: np.ndarray,
    spring: np.ndarray,
    pushed: np.ndarray,
    i: int,
    j: int,
    n: int,
) -> None:
    """Add what a bond says of the strain, and of the strain together with its atoms."""
    half = 0.5 / scale
    for a in range(3):  # a symmetric strain (a, b) moves the bond by half (bond_a along b + bond_b along a)
        for b in range(3):
            for c in range(3):
                pushed[3 * a + b, c] = half * (bond[a] * spring[b, c] + bond[b] * spring[a, c])
    for row in range(9):
        for a in range(3):
            for b in range(3):
                hessian[3 * n + row, 3 * n + 3 * a + b] += half * (bond[a] * pushed[row, b] + bond[b] * pushed[row, a])
        if i == j:
            continue
        for b in range(3):
            mixed = pushed[row, 0] * stretch[0, b] + pushed[row, 1] * stretch[1, b] + pushed[row, 2] * stretch[2, b]
            hessian[3 * n + row, 3 * j + b] += mixed
            hessian[3 * j + b, 3 * n + row] += mixed
            hessian[3 * n + row, 3 * i + b] -= mixed
            hessian[3 * i + b, 3 * n + row] -= mixed
