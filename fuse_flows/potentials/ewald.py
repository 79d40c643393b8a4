"""What pairs within a cut-off leave out: the reciprocal part of an Ewald sum, and the tail of dispersion.

Charges (P. P. Ewald, Ann. Phys. 369, 253 (1921)): with splitting alpha pairs feel K q_i q_j erfc(alpha r) / r,
which belongs into the tables; the rest is summed here over reciprocal lattice vectors, less the self energy K alpha
q^2 / sqrt(pi) of each charge, which belongs into the self energies. A cell that is not neutral sits in a uniform
background.

Dispersion: beyond the cut-off every atom sees the mean density of the others, so the tail of -C / r^6 is a constant
over the volume.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.units import Bohr, Hartree

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.kernels import determinant, inverse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

COULOMB = Hartree * Bohr  # e^2 / (4 pi eps_0), eV A

RANGE = 4.8
"""Both parts are cut where they have fallen by exp(-RANGE^2) = 1e-10."""


def splitting(cutoff: float) -> float:
    """Return alpha (1/A) for pairs that are cut off at a distance (A)."""
    return RANGE / cutoff


class LongRange(NamedTuple):
    """Interactions that go on beyond the cut-off of the tables.

    Parameters
    ----------
    charges
        Charge of each element, e.
    dispersion
        C of each pair of elements in alphabetical order, eV A^6; a pair that is missing has none.
    width
        The tables switch dispersion off over this distance before the cut-off, A, with the taper of
        :func:`fuse_flows.potentials.tables.taper`.
    """

    charges: Mapping[str, float]
    dispersion: Mapping[tuple[str, str], float]
    width: float

    def charges_of(self, symbols: Sequence[str]) -> NDArray[np.float64]:
        """Return the charges of atoms, e, shape (n,)."""
        return np.array([float(self.charges[symbol]) for symbol in symbols])

    def tail_of(self, symbols: Sequence[str], cutoff: float) -> float:
        """Return the energy of the tail of dispersion times the volume, eV A^3: at most zero.

        Parameters
        ----------
        symbols
            Elements of the atoms of a cell.
        cutoff
            Cut-off of the tables, A.
        """
        from fuse_flows.potentials.tables import taper

        r = np.linspace(cutoff - self.width, cutoff, 201)
        beyond = 1.0 / (3.0 * cutoff**3) + np.trapezoid((1.0 - taper(r, np.ones_like(r), self.width)) / r**4, r)
        counts = {symbol: symbols.count(symbol) for symbol in set(symbols)}
        total = 0.0
        for (one, two), c6 in self.dispersion.items():
            pairs = counts.get(one, 0) * counts.get(two, 0) * (1 if one == two else 2)
            total -= 2.0 * math.pi * pairs * c6 * float(beyond)
        return total


@compiled()
def reciprocal_sum(cell: Array, positions: Array, charges: Array, alpha: float, forces: Array, virial: Array) -> float:
    """Add the reciprocal part to forces and virial.

    Parameters
    ----------
    cell
        (3, 3) lattice vectors as rows, A.
    positions
        (n, 3) positions, A.
    charges
        (n,) charges, e.
    alpha
        Splitting, 1/A.
    forces, virial
        (n, 3) forces, eV/A, and (3, 3) derivative of the energy with respect to a strain, eV; added to.

    Returns
    -------
    float
        Energy, eV.
    """
    n = charges.size
    inv = inverse(cell)
    volume = abs(determinant(cell))
    k_max = 2.0 * alpha * RANGE
    most = np.empty(3, np.int64)
    for axis in range(3):
        length = math.sqrt(cell[axis, 0] ** 2 + cell[axis, 1] ** 2 + cell[axis, 2] ** 2)
        most[axis] = int(k_max * length / (2.0 * math.pi))
    waves = np.empty((3, max(most[0], most[1], most[2]) + 1, n, 2))
    for i in range(n):
        for axis in range(3):
            phase = positions[i, 0] * inv[0, axis] + positions[i, 1] * inv[1, axis] + positions[i, 2] * inv[2, axis]
            phase = 2.0 * math.pi * (phase - math.floor(phase))
            for m in range(most[axis] + 1):
                waves[axis, m, i, 0], waves[axis, m, i, 1] = math.cos(m * phase), math.sin(m * phase)
    wave = np.empty((n, 2))
    energy = 0.0
    for a in range(most[0] + 1):
        for b in range(-most[1] if a > 0 else 0, most[1] + 1):
            for c in range(-most[2] if a > 0 or b > 0 else 1, most[2] + 1):
                kx = 2.0 * math.pi * (a * inv[0, 0] + b * inv[0, 1] + c * inv[0, 2])
                ky = 2.0 * math.pi * (a * inv[1, 0] + b * inv[1, 1] + c * inv[1, 2])
                kz = 2.0 * math.pi * (a * inv[2, 0] + b * inv[2, 1] + c * inv[2, 2])
                k2 = kx * kx + ky * ky + kz * kz
                if k2 > k_max * k_max:
                    continue
                sign_b, sign_c = math.copysign(1.0, b), math.copysign(1.0, c)
                real, imaginary = 0.0, 0.0
                for i in range(n):
                    xr, xi = waves[0, a, i, 0], waves[0, a, i, 1]
                    yr, yi = waves[1, abs(b), i, 0], sign_b * waves[1, abs(b), i, 1]
                    zr, zi = waves[2, abs(c), i, 0], sign_c * waves[2, abs(c), i, 1]
                    pr, pi = xr * yr - xi * yi, xr * yi + xi * yr
                    wave[i, 0], wave[i, 1] = pr * zr - pi * zi, pr * zi + pi * zr
                    real += charges[i] * wave[i, 0]
                    imaginary += charges[i] * wave[i, 1]
                weight = 4.0 * math.pi * COULOMB / volume * math.exp(-k2 / (4.0 * alpha * alpha)) / k2
                part = weight * (real * real + imaginary * imaginary)
                energy += part
                for i in range(n):
                    push = 2.0 * weight * charges[i] * (wave[i, 1] * real - wave[i, 0] * imaginary)
                    forces[i, 0] += push * kx
                    forces[i, 1] += push * ky
                    forces[i, 2] += push * kz
                turn = 2.0 * part * (1.0 / k2 + 0.25 / (alpha * alpha))
                virial[0, 0] += turn * kx * kx - part
                virial[1, 1] += turn * ky * ky - part
                virial[2, 2] += turn * kz * kz - part
                virial[0, 1] += turn * kx * ky
                virial[1, 0] += turn * kx * ky
                virial[0, 2] += turn * kx * kz
                virial[2, 0] += turn * kx * kz
                virial[1, 2] += turn * ky * kz
                virial[2, 1] += turn * ky * kz
    total = 0.0
    for i in range(n):
        total += charges[i]
    background = -math.pi * COULOMB * total * total / (2.0 * volume * alpha * alpha)
    for axis in range(3):
        virial[axis, axis] -= background
    return energy + background
