"""Our own optimiser: many fresh candidates, and lineages of the best ones, each with a step of its own.

A lineage is one choice of the entries that decide what the others mean (space group and Wyckoff combination). Within it
a (1+1) evolution strategy with a success rule refines cell and coordinates; among the lineages those that are low and
still improve get most trials. No lineage takes the place of another, so the best candidates of a run are different.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.generators.optimisers.base import Asked, Box, Optimiser

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 100
"""Lineages that are kept."""
_FIRST_STEP, _LAST_STEP, _LONGEST_STEP = 0.05, 0.004, 0.2
_LONGER, _SHORTER = 1.5, 0.87
"""What success and failure do to the step; they balance at one success in four."""
_FRESH = -1


class Lineages(Optimiser):
    """Fresh candidates, and refinement of the best lineages.

    Parameters
    ----------
    box
        Where to search; its ``structured`` entries are never changed within a lineage.
    seed
        Seed of all draws.
    fresh
        Share of the candidates that are drawn evenly from the box.
    """

    name = "lineages"

    def __init__(self, box: Box, seed: int | tuple[int, ...], *, fresh: float = 0.5) -> None:
        super().__init__(box, seed)
        self._fresh = fresh
        self._vectors = np.empty((0, box.dimensions))
        self._losses = np.empty(0)
        self._steps = np.empty(0)
        self._ids = np.empty(0, dtype=np.int64)
        self._born = 0

    def ask(self, n: int) -> Asked:
        """Return the next candidates; see :class:`~fuse_flows.generators.optimisers.base.Optimiser`."""
        rng = self._rng()
        vectors = rng.random((n, self.box.dimensions))
        tickets = np.full(n, _FRESH, dtype=np.int64)
        alive = np.flatnonzero(self._steps > _LAST_STEP)
        refined = np.flatnonzero(rng.random(n) >= self._fresh)
        if len(self._losses) < _MOST // 2 or not alive.size or not refined.size:
            return Asked(tickets, vectors)
        weights = np.exp(-4.0 * alive / _MOST)  # the lineages are in the order of their losses
        parents = rng.choice(alive, size=refined.size, p=weights / weights.sum())
        shape = (refined.size, self.box.dimensions)
        moves = rng.normal(size=shape) * self._steps[parents, None] * (rng.random(shape) < 0.5)
        moves[:, : self.box.structured] = 0.0
        children = self._vectors[parents] + moves
        vectors[refined] = np.where(moves == 0.0, self._vectors[parents], children - np.floor(children))
        tickets[refined] = self._ids[parents]
        return Asked(tickets, np.clip(vectors, 0.0, 1.0 - 1e-12))

    def tell(self, asked: Asked, losses: NDArray[np.float64]) -> None:
        """Refine lineages, begin new ones; see :class:`~fuse_flows.generators.optimisers.base.Optimiser`."""
        where = {int(name): k for k, name in enumerate(self._ids)}
        for ticket, vector, loss in zip(asked.tickets.tolist(), asked.vectors, losses.tolist(), strict=True):
            k = where.get(ticket)
            if k is None:
                continue
            if loss < self._losses[k]:
                self._vectors[k], self._losses[k] = vector, loss
                self._steps[k] = min(self._steps[k] * _LONGER, _LONGEST_STEP)
            else:
                self._steps[k] *= _SHORTER
        new = (asked.tickets == _FRESH) & np.isfinite(losses)
        born = int(new.sum())
        losses_of_all = np.concatenate([self._losses, losses[new]])
        order = np.argsort(losses_of_all, kind="stable")[:_MOST]
        self._losses = losses_of_all[order]
        self._vectors = np.concatenate([self._vectors, asked.vectors[new]])[order]
        self._steps = np.concatenate([self._steps, np.full(born, _FIRST_STEP)])[order]
        self._ids = np.concatenate([self._ids, self._born + np.arange(born)])[order]
        self._born += born

    def _own_state(self) -> dict[str, Any]:
        return {
            "vectors": self._vectors.tolist(),
            "losses": self._losses.tolist(),
            "steps": self._steps.tolist(),
            "ids": self._ids.tolist(),
            "born": self._born,
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        self._vectors = np.array(state["vectors"], dtype=np.float64).reshape(-1, self.box.dimensions)
        self._losses = np.array(state["losses"], dtype=np.float64)
        self._steps = np.array(state["steps"], dtype=np.float64)
        self._ids = np.array(state["ids"], dtype=np.int64)
        self._born = int(state["born"])
