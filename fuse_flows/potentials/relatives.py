"""Which elements are related, and what pairs with few crystals borrow from related pairs.

Distances are scaled by the sum of the two radii; the weight of the pair (C, D) for (A, B) is k(A, C) k(B, D), where k
falls off with the distance of the elements on Pettifor's chemical scale (D. G. Pettifor, J. Phys. C 19, 285 (1986)) and
with the difference of their radii. Where there is too little, the circle of relatives is widened, so that every pair
finds something to borrow from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.compiling import compiled
from fuse_flows.potentials.statistics import SURROUNDINGS, channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.derivation import InversionSettings

_NEGLIGIBLE = 1e-12
_NEAR = 0.02
_WIDENINGS = (1.0, 2.0, 4.0, 1000.0)
_ENOUGH = 3.0


@dataclass(frozen=True)
class Relatives:
    """Which elements are related, and how nearly.

    Attributes
    ----------
    radii
        Radii in angstrom, shape (elements,).
    circles
        k(A, C), each of shape (elements, elements), from the nearest relatives to everything.
    """

    radii: NDArray[np.float64]
    circles: tuple[NDArray[np.float64], ...]


def relatives_of(symbols: Sequence[str], settings: InversionSettings) -> Relatives:
    """Return how the elements are related.

    Parameters
    ----------
    symbols
        The elements.
    settings
        Widths.
    """
    from pymatgen.core import Element

    from fuse_flows.structures.radii import element_radius

    radii = np.array([element_radius(symbol) for symbol in symbols])
    scale = np.array([float(Element(symbol).mendeleev_no) for symbol in symbols])
    steps = (scale[:, None] - scale[None, :]) / settings.chemical_width
    strain = np.log(radii[:, None] / radii[None, :]) / settings.radius_width
    circles = []
    for widening in _WIDENINGS:
        kin = np.exp(-0.5 * (steps**2 + strain**2) / widening**2)
        circles.append(np.where(kin < _NEAR, 0.0, kin))
    return Relatives(radii, tuple(circles))


@compiled()
def _pool(  # noqa: PLR0917 - numba has no keywords
    rows: NDArray[np.float64],
    weights: NDArray[np.float64],
    kin: NDArray[np.float64],
    radii: NDArray[np.float64],
    other: float,
    shift: float,
    pooled: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Fill ``pooled`` and ``sums`` (see :func:`pool`) where ``sums`` is still small."""
    elements, points = len(radii), rows.shape[1]
    for surroundings in range(SURROUNDINGS):
        for a in range(elements):
            for b in range(a, elements):
                target = channel(a, b, surroundings, elements)
                if sums[target] > _ENOUGH:
                    continue
                sums[target] = 0.0
                pooled[target] = 0.0
                for c in np.flatnonzero(kin[a]):
                    for d in np.flatnonzero(kin[b]):
                        stretch = (radii[c] + radii[d]) / (radii[a] + radii[b])
                        for origin in range(SURROUNDINGS):
                            source = channel(c, d, origin, elements)
                            share = kin[a, c] * kin[b, d] * weights[source] * (1.0 if origin == surroundings else other)
                            if share < _NEGLIGIBLE:
                                continue
                            sums[target] += share
                            for m in range(points):
                                x = min(max((m + shift) * stretch - shift, 0.0), points - 1.001)
                                low = int(x)
                                value = rows[source, low] * (1.0 - x + low) + rows[source, low + 1] * (x - low)
                                pooled[target, m] += share * value


def pool(
    rows: NDArray[np.float64],
    weights: NDArray[np.float64],
    relatives: Relatives,
    *,
    other: float,
    shift: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average functions of the distance over related pairs, with distances scaled by the sums of the radii.

    The circle of relatives is widened for the pairs that find too little in it.

    Parameters
    ----------
    rows
        Functions on a uniform grid, shape (channels, points).
    weights
        Their weights, shape (channels,).
    relatives
        Who is related to whom.
    other
        Factor for pairs in the other surroundings.
    shift
        The distance of the first point from 0, in steps of the grid.

    Returns
    -------
    mean : numpy.ndarray
        Shape (channels, points).
    sums : numpy.ndarray
        Sum of the weights that went into it, shape (channels,).
    """
    pooled, sums = np.zeros_like(rows), np.zeros(len(rows))
    for kin in relatives.circles:
        _pool(rows, weights, kin, relatives.radii, other, shift, pooled, sums)
    return pooled / sums[:, None], sums


def blend(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    relatives: Relatives,
    settings: InversionSettings,
    shift: float,
) -> NDArray[np.float64]:
    """Mix potentials with those of related pairs, as much as their own data are few.

    Parameters
    ----------
    values
        Potentials on a uniform grid in eV, shape (channels, points).
    weights
        Formulas behind each, shape (channels,).
    relatives
        Who is related to whom.
    settings
        ``borrowed``: the number of formulas at which both have the same weight.
    shift
        The distance of the first point from 0, in steps of the grid.

    Returns
    -------
    numpy.ndarray
        Shape (channels, points).
    """
    mean, _ = pool(values, weights, relatives, other=settings.other, shift=shift)
    own = (weights / (weights + settings.borrowed))[:, None]
    return np.asarray(own * values + (1 - own) * mean)
