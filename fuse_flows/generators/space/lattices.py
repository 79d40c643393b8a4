"""Lattices from numbers in [0, 1): a volume near the estimate, ratios of the edges and angles that are physical."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_PARAMETERS = 6
"""Volume, two ratios of edges, three angles (deviations from 90 degrees)."""

_RATIO_WIDTH = 0.45
"""Standard deviation of the logarithm of an edge over their geometric mean."""
_AXIAL_WIDTH = 0.8
"""Standard deviation of ln(c/a) of tetragonal and hexagonal cells; Ruddlesden-Popper phases reach ln 7."""
_ANGLE_WIDTH = 15.0
_LARGEST_TILT = 50.0
"""Angles are drawn from a normal distribution about 90 degrees and lie between 40 and 140."""
_FURTHEST = 2.6
"""Normal deviates are cut off here."""
_FLATTEST = 0.35
"""Least volume over the product of the edges; flatter cells are described better by others of the same lattice."""
_RHOMBOHEDRAL = np.sqrt(6.0)
"""c/a of a cubic lattice in hexagonal axes."""


def conventional_lattices(
    parameters: NDArray[np.float64],
    systems: NDArray[np.str_],
    rhombohedral: NDArray[np.bool_],
    volumes: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Make conventional cells of many crystals at once.

    Parameters
    ----------
    parameters
        Numbers in [0, 1), shape (n, 6): volume, two ratios, three angles. A system uses those it leaves free.
    systems
        Crystal system of each, as in ``SpaceGroup.system``, shape (n,).
    rhombohedral
        Whether the lattice is R-centred, shape (n,).
    volumes
        Smallest and largest volume of each conventional cell, A^3, shapes (n,); its logarithm is spread evenly.

    Returns
    -------
    numpy.ndarray
        Lattice vectors as rows, A, shape (n, 3, 3): a along x, b in the xy plane.
    """
    low, high = volumes
    volume = low * (high / low) ** parameters[:, 0]
    deviates = np.clip(ndtri(np.clip(parameters[:, 1:], 1e-9, 1 - 1e-9)), -_FURTHEST, _FURTHEST)
    logs = _edge_logs(deviates, systems, rhombohedral)
    cosines, sine = _angles(deviates, systems)
    flat = _flatness(cosines)
    edges = np.exp(logs) * np.cbrt(volume / flat)[:, None]
    lattices = np.zeros((len(parameters), 3, 3))
    a, b, c = edges.T
    lattices[:, 0, 0] = a
    lattices[:, 1, 0], lattices[:, 1, 1] = b * cosines[:, 2], b * sine
    lattices[:, 2, 0] = c * cosines[:, 1]
    lattices[:, 2, 1] = c * (cosines[:, 0] - cosines[:, 1] * cosines[:, 2]) / sine
    lattices[:, 2, 2] = c * flat / sine
    return lattices


def _edge_logs(
    deviates: NDArray[np.float64], systems: NDArray[np.str_], rhombohedral: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return logarithms of the edges that add up to 0, shape (n, 3)."""
    logs = np.zeros((len(deviates), 3))
    free = np.isin(systems, ("triclinic", "monoclinic", "orthorhombic"))
    first, second = _RATIO_WIDTH * deviates[free, 0], _RATIO_WIDTH * deviates[free, 1]
    half = np.sqrt(3.0) / 2.0  # so that no axis is preferred
    logs[free] = np.stack([first, -first / 2 + half * second, -first / 2 - half * second], axis=1)
    axial = np.isin(systems, ("tetragonal", "hexagonal"))
    ratio = _AXIAL_WIDTH * deviates[axial, 0] + np.where(rhombohedral[axial], np.log(_RHOMBOHEDRAL), 0.0)
    logs[axial] = ratio[:, None] * np.array([-1.0, -1.0, 2.0]) / 3.0
    return logs


def _angles(
    deviates: NDArray[np.float64], systems: NDArray[np.str_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cosines of alpha, beta and gamma, shape (n, 3), and the sine of gamma, shape (n,)."""
    tilts = np.clip(_ANGLE_WIDTH * deviates[:, 2:], -_LARGEST_TILT, _LARGEST_TILT)
    tilts[np.isin(systems, ("orthorhombic", "tetragonal", "hexagonal", "cubic"))] = 0.0
    monoclinic = systems == "monoclinic"
    tilts[monoclinic] *= np.array([0.0, 1.0, 0.0])
    tilts[systems == "hexagonal", 2] = 30.0
    cosines = np.where(tilts == 0.0, 0.0, np.cos(np.radians(90.0 + tilts)))
    for _ in range(8):
        flat = _flatness(cosines) < _FLATTEST
        if not flat.any():
            break
        tilts[flat] *= 0.8
        cosines[flat] = np.cos(np.radians(90.0 + tilts[flat]))
    return cosines, np.sqrt(1.0 - cosines[:, 2] ** 2)


def _flatness(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return volumes over the product of the edges; 0 where no cell has these angles."""
    square = 1.0 - (cosines**2).sum(axis=1) + 2.0 * cosines.prod(axis=1)
    return np.sqrt(np.maximum(square, 0.0))
