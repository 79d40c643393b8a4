"""Tree-structured Parzen estimators, for whole batches and at a cost that does not grow with the history.

The algorithm is that of Bergstra et al. (Adv. Neural Inf. Process. Syst. 24, 2546 (2011)), with the constants of
hyperopt's ``tpe``: the best sqrt(n)/4 candidates (25 at most) are good; each entry of a vector is drawn by itself from
the density of the good ones, 24 times, and the draw with the largest ratio to the density of the others is taken. Here
the others are kept as a histogram, and the densities are tabulated once per batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr, ndtri

from fuse_flows.generators.optimisers.base import Asked, Box, Optimiser

if TYPE_CHECKING:
    from numpy.typing import NDArray

_START = 200
"""Candidates drawn evenly at the beginning (``n_init`` of GN-OA)."""
_GAMMA, _MOST_GOOD = 0.25, 25
_DRAWS = 24
_EVEN = 0.1
"""Share of even draws, without which all draws may end where candidates are refused."""
_BINS = 100
_BATCH = 50
"""Most candidates drawn from the same densities."""


class ParzenTree(Optimiser):
    """Tree-structured Parzen estimators (TPE)."""

    name = "tpe"

    def __init__(self, box: Box, seed: int | tuple[int, ...]) -> None:
        super().__init__(box, seed)
        self._good = np.empty((0, box.dimensions))
        self._losses = np.empty(0)
        self._told = 0
        self._others = np.zeros((box.dimensions, _BINS))
        self._choices = np.zeros(box.choices)

    def ask(self, n: int) -> Asked:
        """Return the next candidates; see :class:`~fuse_flows.generators.optimisers.base.Optimiser`."""
        n = min(n, _BATCH)
        rng = self._rng()
        if self._told < _START or not len(self._losses):
            vectors = rng.random((n, self.box.dimensions))
        else:
            drawn = self._draw(n, rng)
            vectors = np.where(rng.random((n, 1)) < _EVEN, rng.random(drawn.shape), drawn)
        return Asked(np.zeros(n, dtype=np.int64), vectors)

    def tell(self, asked: Asked, losses: NDArray[np.float64]) -> None:
        """Sort candidates into good and others; see :class:`~fuse_flows.generators.optimisers.base.Optimiser`."""
        self._told += len(losses)
        usable = np.isfinite(losses)
        vectors = np.concatenate([self._good, asked.vectors[usable]])
        values = np.concatenate([self._losses, losses[usable]])
        order = np.argsort(values, kind="stable")
        self._good, self._losses = vectors[order[:_MOST_GOOD]], values[order[:_MOST_GOOD]]
        dropped = np.concatenate([vectors[order[_MOST_GOOD:]], asked.vectors[~usable]])
        self._others += _histogram(dropped)
        self._choices += self._counts(dropped)

    def _draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        n_good = min(math.ceil(_GAMMA * math.sqrt(self._told)), len(self._losses))
        good, rest = self._good[:n_good], self._good[n_good:]
        means, widths = _parzen(good)
        below = _tabulated(means, widths)
        above = gaussian_filter1d(self._others + _histogram(rest) + 1.0 / _BINS, 1.0, axis=1, mode="nearest")
        above /= above.mean(axis=1, keepdims=True)
        ratio = np.log(below) - np.log(above)
        dims = self.box.dimensions
        component = rng.integers(len(means), size=(n, dims, _DRAWS))
        entry = np.arange(dims)[None, :, None]
        mean, width = means[component, entry], widths[component, entry]
        low, high = ndtr(-mean / width), ndtr((1.0 - mean) / width)
        x = mean + width * ndtri(low + (high - low) * rng.random(component.shape))
        x = np.clip(x, 0.0, 1.0 - 1e-12)
        chosen = ratio[entry, (x * _BINS).astype(np.int64)].argmax(axis=2)
        vectors = np.take_along_axis(x, chosen[:, :, None], axis=2)[:, :, 0]
        if self.box.choices > 1:
            vectors[:, 0] = self._draw_choice(n, good, rest, rng)
        return vectors

    def _draw_choice(
        self, n: int, good: NDArray[np.float64], rest: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw the first entry, whose parts have no order."""
        k = self.box.choices
        below = (self._counts(good) + 1.0 / k) / (len(good) + 1.0)
        others = self._choices + self._counts(rest)
        above = (others + 1.0 / k) / (others.sum() + 1.0)
        drawn = rng.choice(k, size=(n, _DRAWS), p=below / below.sum())
        best = (below / above)[drawn].argmax(axis=1)
        return np.minimum((drawn[np.arange(n), best] + rng.random(n)) / k, 1.0 - 1e-12)

    def _counts(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        k = self.box.choices
        return np.bincount((vectors[:, 0] * k).astype(np.int64), minlength=k)[:k].astype(np.float64)

    def _own_state(self) -> dict[str, Any]:
        return {
            "good": self._good.tolist(),
            "losses": self._losses.tolist(),
            "told": self._told,
            "others": self._others.tolist(),
            "choices": self._choices.tolist(),
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        self._good = np.array(state["good"], dtype=np.float64).reshape(-1, self.box.dimensions)
        self._losses = np.array(state["losses"], dtype=np.float64)
        self._told = int(state["told"])
        self._others = np.array(state["others"], dtype=np.float64)
        self._choices = np.array(state["choices"], dtype=np.float64)


def _histogram(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count the entries in the bins, shape (dimensions, bins)."""
    dims = vectors.shape[1]
    bins = (vectors * _BINS).astype(np.int64) + _BINS * np.arange(dims)
    return np.bincount(bins.ravel(), minlength=dims * _BINS).reshape(dims, _BINS).astype(np.float64)


def _parzen(good: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means and widths of the Gaussians, shape (good + 1, dimensions); the prior is the last one.

    A Gaussian is as wide as the larger distance to its neighbours, the prior and the walls among them.
    """
    k, dims = good.shape
    points = np.sort(np.concatenate([good, np.full((1, dims), 0.5)]), axis=0)
    padded = np.concatenate([np.zeros((1, dims)), points, np.ones((1, dims))])
    steps = np.diff(padded, axis=0)
    widths = np.clip(np.maximum(steps[:-1], steps[1:]), 1.0 / min(100, k + 2), 1.0)
    prior = np.argmax(points == 0.5, axis=0)
    widths[prior, np.arange(dims)] = 1.0
    return points, widths


def _tabulated(means: NDArray[np.float64], widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the density of truncated Gaussians at the centres of the bins, shape (dimensions, bins)."""
    x = (np.arange(_BINS) + 0.5) / _BINS
    z = (x[None, None, :] - means[:, :, None]) / widths[:, :, None]
    mass = (ndtr((1.0 - means) / widths) - ndtr(-means / widths)) * widths * math.sqrt(2.0 * math.pi)
    return np.asarray((np.exp(-0.5 * z * z) / mass[:, :, None]).mean(axis=0))
