"""A guess of the Hessian of any crystal, for the L-BFGS to start from: springs between neighbours, softer when longer.

Stiff short bonds, soft long ones and the strain of the cell that moves them all have curvatures that differ by orders
of magnitude; a method that starts from the unit matrix spends most of its steps to find that out. After the idea of
Packwood et al., J. Chem. Phys. 144, 164109 (2016), with directions, strain and the sizes of the atoms.
"""

from __future__ import annotations

import numpy as np

from fuse_flows.relax.lbfgs import compiled
from fuse_flows.relax.strain import deform, stretch_of

_STIFFNESS = 10.0  # of a bond as long as the radii of its atoms together, eV/A^2
_DECAY = 3.0  # the stiffness falls by a factor e when a bond grows by a third of its natural length
_SIDEWAYS = 0.1  # stiffness across a bond over that along it
_GROUND = 1.0  # stiffness of everything, eV/A^2
_CUTOFF = 4.5  # A
_HARDEST = 100.0  # no bond is stiffer, eV/A^2


@compiled
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
    cell, positions = np.empty((3, 3)), np.empty((n, 3))
    deform(x, cell_0, scale, cell, positions)
    stretch = stretch_of(x, n, scale)
    hessian = _GROUND * np.eye(x.size)
    reciprocal = np.linalg.inv(cell)
    fractions = positions @ reciprocal
    reach = np.empty(3, dtype=np.int64)
    for axis in range(3):
        spacing = 1.0 / np.sqrt((reciprocal[:, axis] ** 2).sum())
        reach[axis] = int(np.ceil(_CUTOFF / spacing))
    for i in range(n):
        for j in range(i, n):
            offset = fractions[j] - fractions[i]
            offset -= np.floor(offset + 0.5)
            for a in range(-reach[0], reach[0] + 1):
                for b in range(-reach[1], reach[1] + 1):
                    for c in range(-reach[2], reach[2] + 1):
                        bond = _bond(cell, offset[0] + a, offset[1] + b, offset[2] + c)
                        length = np.sqrt(bond[0] ** 2 + bond[1] ** 2 + bond[2] ** 2)
                        if 1e-6 < length < _CUTOFF:
                            _add_spring(hessian, stretch, scale, bond, radii[i] + radii[j], i, j, n)
    inverse[:] = np.linalg.inv(hessian)


@compiled
def _bond(cell: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    bond = np.empty(3)
    for k in range(3):
        bond[k] = a * cell[0, k] + b * cell[1, k] + c * cell[2, k]
    return bond


@compiled
def _add_spring(  # noqa: PLR0917 - compiled code takes its arguments by position
    hessian: np.ndarray,
    stretch: np.ndarray,
    scale: float,
    bond: np.ndarray,
    natural: float,
    i: int,
    j: int,
    n: int,
) -> None:
    """Add one bond: its length and direction change with both atoms and with the strain."""
    squared = bond[0] ** 2 + bond[1] ** 2 + bond[2] ** 2
    stiffness = min(_STIFFNESS * np.exp(-_DECAY * (np.sqrt(squared) / natural - 1.0)), _HARDEST)
    if i == j:
        stiffness *= 0.5  # met again from the other side
    spring = np.empty((3, 3))
    for a in range(3):
        for b in range(3):
            spring[a, b] = stiffness * (1.0 - _SIDEWAYS) * bond[a] * bond[b] / squared
        spring[a, a] += stiffness * _SIDEWAYS
    if i != j:
        _add_to_atoms(hessian, stretch @ spring @ stretch, i, j)
    if hessian.shape[0] > 3 * n:
        _add_to_strain(hessian, stretch, scale, bond, spring, i, j, n)


@compiled
def _add_to_atoms(hessian: np.ndarray, block: np.ndarray, i: int, j: int) -> None:
    for a in range(3):
        for b in range(3):
            hessian[3 * i + a, 3 * i + b] += block[a, b]
            hessian[3 * j + a, 3 * j + b] += block[a, b]
            hessian[3 * i + a, 3 * j + b] -= block[a, b]
            hessian[3 * j + a, 3 * i + b] -= block[a, b]


@compiled
def _add_to_strain(  # noqa: PLR0917 - as above
    hessian: np.ndarray,
    stretch: np.ndarray,
    scale: float,
    bond: np.ndarray,
    spring: np.ndarray,
    i: int,
    j: int,
    n: int,
) -> None:
    """Add what a bond says of the strain, and of the strain together with its atoms."""
    by_strain = np.zeros((9, 3))  # how the bond follows the symmetric strain
    for a in range(3):
        for b in range(3):
            by_strain[3 * a + b, b] += 0.5 * bond[a] / scale
            by_strain[3 * b + a, b] += 0.5 * bond[a] / scale
    pushed = by_strain @ spring
    both = pushed @ by_strain.T
    mixed = pushed @ stretch
    for a in range(9):
        for b in range(9):
            hessian[3 * n + a, 3 * n + b] += both[a, b]
        if i != j:
            for b in range(3):
                hessian[3 * n + a, 3 * j + b] += mixed[a, b]
                hessian[3 * j + b, 3 * n + a] += mixed[a, b]
                hessian[3 * n + a, 3 * i + b] -= mixed[a, b]
                hessian[3 * i + b, 3 * n + a] -= mixed[a, b]
