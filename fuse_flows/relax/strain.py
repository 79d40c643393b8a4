"""The geometry that a vector of :class:`fuse_flows.relax.cell.CellOptimizable` stands for, without the crystal.

The vector holds the positions in the undeformed cell (3 n numbers) and, where the cell is relaxed, ``scale`` times the
logarithm A (3, 3) of the symmetric stretch that takes the undeformed cell to the present one: cell = cell_0 exp(A).
"""

from __future__ import annotations

import numpy as np


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
    strain = x[3 * n :].reshape(3, 3) / scale
    values, vectors = np.linalg.eigh(0.5 * (strain + strain.T))
    return (vectors * np.exp(values)) @ vectors.T


def deform(x: np.ndarray, cell_0: np.ndarray, scale: float, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the geometry that belongs to a vector.

    Parameters
    ----------
    x
        (3 n + 9,) the vector, or (3 n,) where the cell is kept.
    cell_0
        (3, 3) undeformed cell, rows, A.
    scale
        Length (A) that stands for a strain of one.
    n
        Number of atoms.

    Returns
    -------
    cell, positions, stretch
        (3, 3) and (n, 3), A; (3, 3).
    """
    stretch = stretch_of(x, n, scale)
    return cell_0 @ stretch, x[: 3 * n].reshape(-1, 3) @ stretch, stretch
