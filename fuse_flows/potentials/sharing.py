"""What one pair of elements tells about others: corrections that related pairs share.

The correction of a pair (A, B) is a sum of parts, delta = sum_p sqrt(a_p) S_p u_p, each u_p with the same ridge. S_0 is
the identity: what only the pair itself knows. The others average over related elements,

    (S_p u)_AB(r) = sum_CD k_p(A, C) k_p(B, D) u_CD(r R / (R_A + R_B)),

with the kinship k_p of ``relatives.relatives_of`` from near relatives to all elements alike, and distances scaled by
the sum of the radii. That is a Gaussian process prior over pairs of elements, with the covariance
sum_p a_p (k_p k_p^T) x (k_p k_p^T): pairs without any data of their own get what their relatives say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.potentials.splines import COEFFICIENTS, R_FIRST, SPACING
from fuse_flows.potentials.statistics import SURROUNDINGS, channel_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.relatives import Relatives

_REFERENCE = 2.8
"""Sum of radii (A) on whose scale shared corrections are written down."""


@dataclass(frozen=True)
class SharedParts:
    """The operators S_p.

    Attributes
    ----------
    kins
        Kinship of each shared part with sqrt(a_p) in it, each of shape (elements, elements).
    own
        sqrt(a_0).
    low, share
        Where a coefficient of a pair is found among those of the scaled distance: number of the lower of two, and how
        much of the upper one, shape (pairs, 73).
    """

    kins: tuple[NDArray[np.float64], ...]
    own: float
    low: NDArray[np.int64]
    share: NDArray[np.float64]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int((np.sqrt(8 * len(self.low) + 1) - 1) / 2 + 0.5)

    def __len__(self) -> int:
        return 1 + len(self.kins)

    def apply(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return sum_p sqrt(a_p) S_p u_p, shape (channels, 73), for parts of shape (n_parts, channels, 73)."""
        total = self.own * parts[0]
        for kin, part in zip(self.kins, parts[1:], strict=True):
            total = total + self._stretched(_pick(_both_sides(kin, _unpack(part, self.elements))))
        return np.asarray(total)

    def transposed(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the derivatives with respect to the parts, shape (n_parts, channels, 73)."""
        scaled = _put(self._stretched_back(gradient), self.elements) if self.kins else None
        rows = [self.own * gradient]
        rows += [_fold(_both_sides(kin.T, scaled)) for kin in self.kins if scaled is not None]
        return np.stack(rows)

    def diagonal(self, diagonal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return about the diagonal of S^T diag(d) S, shape (n_parts, channels, 73)."""
        squared = SharedParts(tuple(kin**2 for kin in self.kins), self.own**2, self.low, self.share)
        return squared.transposed(diagonal)

    def _stretched(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        grid = rows.reshape(SURROUNDINGS, -1, COEFFICIENTS)
        low = np.broadcast_to(self.low, grid.shape)
        lower, upper = np.take_along_axis(grid, low, 2), np.take_along_axis(grid, low + 1, 2)
        return np.asarray((lower + self.share * (upper - lower)).reshape(rows.shape))

    def _stretched_back(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        places = (np.arange(len(self.low))[:, None] * COEFFICIENTS + self.low).ravel()
        result = []
        for row in rows.reshape(SURROUNDINGS, -1):
            share = self.share.ravel()
            total = np.bincount(places, row * (1 - share), len(self.low) * COEFFICIENTS)
            result.append(total + np.bincount(places + 1, row * share, len(self.low) * COEFFICIENTS))
        return np.stack(result).reshape(rows.shape)


def shared_parts(relatives: Relatives, circles: Sequence[int], amplitudes: Sequence[float]) -> SharedParts:
    """Make the operators.

    Parameters
    ----------
    relatives
        Who is related to whom.
    circles
        Which of the circles of relatives the shared parts use.
    amplitudes
        a_p: that of the pair's own part, then those of the shared ones. They say how large each is likely to be.

    Returns
    -------
    SharedParts
        The operators.
    """
    pairs = channel_pairs(len(relatives.radii))
    ratio = _REFERENCE / relatives.radii[pairs].sum(axis=1)
    knots = R_FIRST + SPACING * (np.arange(COEFFICIENTS) - 1)
    x = np.clip((knots * ratio[:, None] - R_FIRST) / SPACING + 1, 0, COEFFICIENTS - 1.001)
    low = np.floor(x).astype(np.int64)
    kins = []
    for circle, amplitude in zip(circles, amplitudes[1:], strict=True):
        kin = relatives.circles[circle]
        kin = kin / np.sqrt((kin**2).sum(axis=1, keepdims=True))
        # Principal axes: the same covariance, but no two unknowns say the same, so conjugate gradients converge.
        variances, axes = np.linalg.eigh(kin @ kin.T)
        kins.append(amplitude**0.25 * axes * np.sqrt(np.maximum(variances, 0.0)))
    return SharedParts(tuple(kins), float(np.sqrt(amplitudes[0])), low, x - low)


def _unpack(rows: NDArray[np.float64], elements: int) -> NDArray[np.float64]:
    """Channels to symmetric matrices, shape (surroundings, elements, elements, 73)."""
    upper = np.triu_indices(elements)
    full = np.zeros((SURROUNDINGS, elements, elements, rows.shape[-1]))
    full[:, upper[0], upper[1]] = full[:, upper[1], upper[0]] = rows.reshape(SURROUNDINGS, -1, rows.shape[-1])
    return full


def _put(rows: NDArray[np.float64], elements: int) -> NDArray[np.float64]:
    """Channels to upper triangles."""
    upper = np.triu_indices(elements)
    full = np.zeros((SURROUNDINGS, elements, elements, rows.shape[-1]))
    full[:, upper[0], upper[1]] = rows.reshape(SURROUNDINGS, -1, rows.shape[-1])
    return full


def _pick(full: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangles to channels: the transpose of :func:`_put`."""
    upper = np.triu_indices(full.shape[1])
    return full[:, upper[0], upper[1]].reshape(-1, full.shape[-1])


def _fold(full: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transpose of :func:`_unpack`."""
    one, two = np.triu_indices(full.shape[1])
    rows = full[:, one, two] + np.where((one == two)[:, None], 0.0, full[:, two, one])
    return np.asarray(rows.reshape(-1, full.shape[-1]))


def _both_sides(kin: NDArray[np.float64], full: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return k M k^T for every surroundings and coefficient."""
    half = np.tensordot(full, kin, (2, 1))  # s a c d
    return np.asarray(np.tensordot(kin, half, (1, 1)).transpose(1, 0, 3, 2))
