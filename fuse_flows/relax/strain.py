"""Positions and cell as one vector for compiled loops: what :mod:`fuse_flows.relax.cell` is for ASE, under numba.

The vector holds the positions in the undeformed cell (3 n numbers) and, where the cell is relaxed, ``scale`` times the
logarithm A (3, 3) of the symmetric stretch that takes the undeformed cell to the present one: cell = cell_0 exp(A).
"""

from __future__ import annotations

import numpy as np

from fuse_flows.relax.lbfgs import compiled


@compiled
def stretch_of(x: np.ndarray, n: int, scale: float) -> np.ndarray:
    """Return the stretch exp(A).

    Parameters
    ----------
    x
        The vector, as in :func:`deform`.
    n
        Number of atoms.
    scale
        Length (A) that stands for a strain of one.

    Returns
    -------
    np.ndarray
        (3, 3), symmetric; the unit matrix where the cell is kept.
    """
    if x.size == 3 * n:
        return np.eye(3)
    values, vectors = _spectrum(x, n, scale)
    return np.ascontiguousarray((vectors * np.exp(values)) @ vectors.T)


@compiled
def deform(x: np.ndarray, cell_0: np.ndarray, scale: float, cell: np.ndarray, positions: np.ndarray) -> None:
    """Write the cell and the positions that belong to a vector.

    Parameters
    ----------
    x
        (3 n + 9,) the vector, or (3 n,) where the cell is kept.
    cell_0
        (3, 3) undeformed cell, rows, A.
    scale
        Length (A) that stands for a strain of one.
    cell, positions
        (3, 3) and (n, 3), written to, A.
    """
    n = positions.shape[0]
    stretch = stretch_of(x, n, scale)
    cell[:] = cell_0 @ stretch
    for i in range(n):
        for j in range(3):
            positions[i, j] = x[3 * i] * stretch[0, j] + x[3 * i + 1] * stretch[1, j] + x[3 * i + 2] * stretch[2, j]


@compiled
def pull_back(x: np.ndarray, scale: float, forces: np.ndarray, virial: np.ndarray, gradient: np.ndarray) -> None:
    """Write the gradient of the energy with respect to the vector.

    Parameters
    ----------
    x
        The vector, as in :func:`deform`.
    scale
        Length (A) that stands for a strain of one.
    forces
        (n, 3) forces, eV/A.
    virial
        (3, 3) derivative of the energy with respect to strain, the volume times the stress, eV; its symmetric part
        counts.
    gradient
        As long as the vector, written to, eV/A.
    """
    n = forces.shape[0]
    stretch = stretch_of(x, n, scale)
    if x.size > 3 * n:
        values, vectors = _spectrum(x, n, scale)
        inner = vectors.T @ (0.5 * (virial + virial.T)) @ vectors
        for i in range(3):
            for j in range(3):
                # to the stretch, exp(-A) applied from both sides in turn, then through the exponential (Daleckii-Krein)
                half = 0.5 * (values[i] - values[j])
                ratio = 1.0 + half * half / 6.0 if abs(half) < 1e-6 else np.sinh(half) / half
                inner[i, j] *= np.cosh(half) * ratio / scale
        back = vectors @ inner @ vectors.T
        for i in range(3):
            for j in range(3):
                gradient[3 * n + 3 * i + j] = back[i, j]
    for i in range(n):
        for j in range(3):
            gradient[3 * i + j] = -(
                forces[i, 0] * stretch[0, j] + forces[i, 1] * stretch[1, j] + forces[i, 2] * stretch[2, j]
            )


@compiled
def _spectrum(x: np.ndarray, n: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of the symmetric part of A."""
    strain = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            strain[i, j] = 0.5 * (x[3 * n + 3 * i + j] + x[3 * n + 3 * j + i]) / scale
    values, vectors = np.linalg.eigh(strain)
    return values, np.ascontiguousarray(vectors)
