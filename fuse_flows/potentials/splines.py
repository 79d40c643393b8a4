"""Uniform cubic B-splines with a taper: the form in which the potentials are fitted and stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

R_FIRST = 0.5
SPACING = 0.15
INTERVALS = 70
COEFFICIENTS = INTERVALS + 3
R_LAST = R_FIRST + SPACING * INTERVALS  # 11 A
TAPER_WIDTH = 2.0
_MARGIN = 0.01


@compiled()
def taper(r: float) -> tuple[float, float]:
    """Return the taper and its derivative: 1 up to 9 A, 0 from 11 A, a quintic step (continuous to the 2nd order)."""
    t = (r - (R_LAST - TAPER_WIDTH)) / TAPER_WIDTH
    if t <= 0.0:
        return 1.0, 0.0
    if t >= 1.0:
        return 0.0, 0.0
    value = 1.0 - t * t * t * (10.0 - 15.0 * t + 6.0 * t * t)
    return value, -30.0 * t * t * (1.0 - t) * (1.0 - t) / TAPER_WIDTH


@compiled()
def basis(r: float, values: NDArray[np.float64], slopes: NDArray[np.float64]) -> int:
    """Evaluate the four tapered splines that are not zero at r.

    Parameters
    ----------
    r
        Distance in angstrom; the first interval is continued below 0.5 A.
    values, slopes
        Arrays of four numbers to be filled.

    Returns
    -------
    int
        Number of the first of the four coefficients.
    """
    x = (r - R_FIRST) / SPACING
    m = min(max(int(np.floor(x)), 0), INTERVALS - 1)
    t = x - m
    f, df = taper(r)
    u = 1.0 - t
    values[0] = u * u * u / 6.0
    values[1] = (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0
    values[2] = (-3.0 * t * t * t + 3.0 * t * t + 3.0 * t + 1.0) / 6.0
    values[3] = t * t * t / 6.0
    slopes[0] = -0.5 * u * u
    slopes[1] = 1.5 * t * t - 2.0 * t
    slopes[2] = -1.5 * t * t + t + 0.5
    slopes[3] = 0.5 * t * t
    for k in range(4):
        slopes[k] = slopes[k] / SPACING * f + values[k] * df
        values[k] *= f
    return m


@compiled()
def _matrix(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values of all tapered splines at many distances, shape (points, 73)."""
    matrix = np.zeros((len(r), COEFFICIENTS))
    values, slopes = np.zeros(4), np.zeros(4)
    for i in range(len(r)):
        m = basis(r[i], values, slopes)
        matrix[i, m : m + 4] = values
    return matrix


def _untapered(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """As :func:`_matrix`, without the taper."""
    inner = np.minimum(r, R_LAST - _MARGIN)
    return np.asarray(_matrix(inner) / np.array([taper(float(x))[0] for x in inner])[:, None])


def values_at(coefficients: NDArray[np.floating], r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate splines.

    Parameters
    ----------
    coefficients
        Shape (..., 73), in the unit of the result.
    r
        Distances in angstrom, shape (points,).

    Returns
    -------
    numpy.ndarray
        Shape (..., points); the taper is in it.
    """
    return np.asarray(coefficients, dtype=np.float64) @ _matrix(np.asarray(r, dtype=np.float64)).T


def untapered_at(coefficients: NDArray[np.floating], r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate splines without the taper; arguments and result as :func:`values_at`."""
    return np.asarray(coefficients, dtype=np.float64) @ _untapered(np.asarray(r, dtype=np.float64)).T


def fit(r: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the splines that come nearest to untapered values (least squares, slightly smoothed).

    Parameters
    ----------
    r
        Distances in angstrom, shape (points,), covering 0.5 to 11 A more densely than the knots (0.15 A).
    values
        Shape (..., points).

    Returns
    -------
    numpy.ndarray
        Coefficients, shape (..., 73).
    """
    inside = r < R_LAST - _MARGIN
    matrix = _untapered(np.asarray(r[inside], dtype=np.float64))
    roughness = np.diff(np.eye(COEFFICIENTS), n=2, axis=0)
    normal = matrix.T @ matrix + 1e-4 * roughness.T @ roughness
    flat = values[..., inside].reshape(-1, int(inside.sum()))
    return np.asarray(np.linalg.solve(normal, matrix.T @ flat.T).T.reshape((*values.shape[:-1], COEFFICIENTS)))
