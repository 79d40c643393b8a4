"""Particle swarm optimisation: each candidate is drawn to its own best position and to that of its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.generators.optimisers.base import Asked, Box, Optimiser

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FASTEST = 0.25
"""Largest step along one axis of the box."""
_PATIENCE = 30
"""A particle that has not improved for so many steps begins anew somewhere else."""


class ParticleSwarm(Optimiser):
    """Particle swarm with the weights of GN-OA (Cheng et al., 10.1038/s41467-022-29241-4): w 0.8, c1 = c2 = 0.5.

    Particles move one by one, as soon as they are told, so a batch may hold any of them. Each follows its own best
    position and that of the whole swarm. A particle that is refused, or has not improved for long, begins anew
    somewhere else: a swarm that has collapsed makes copies only.

    Parameters
    ----------
    box
        Where to search.
    seed
        Seed of all draws.
    particles
        Size of the swarm.
    inertia, own, common
        w, c1 and c2.
    """

    name = "pso"

    def __init__(
        self,
        box: Box,
        seed: int | tuple[int, ...],
        *,
        particles: int = 200,
        inertia: float = 0.8,
        own: float = 0.5,
        common: float = 0.5,
    ) -> None:
        super().__init__(box, seed)
        rng = self._rng()
        self._weights = (inertia, own, common)
        self._positions = rng.random((particles, box.dimensions))
        self._velocities = rng.uniform(-0.1, 0.1, (particles, box.dimensions))
        self._best = self._positions.copy()
        self._losses = np.full(particles, np.inf)
        self._since = np.zeros(particles, dtype=np.int64)
        self._waiting = np.zeros(particles, dtype=bool)
        self._next = 0

    def ask(self, n: int) -> Asked:
        """Return the next candidates; see :class:`~fuse_flows.generators.optimisers.base.Optimiser`."""
        ring = (self._next + np.arange(len(self._losses))) % len(self._losses)
        tickets = ring[~self._waiting[ring]][:n]
        if tickets.size:
            self._next = int(tickets[-1] + 1) % len(self._losses)
        self._waiting[tickets] = True
        return Asked(tickets, self._positions[tickets].copy())

    def tell(self, asked: Asked, losses: NDArray[np.float64]) -> None:
        """Move the particles on; see :class:`~fuse_flows.generators.optimisers.base.Optimiser`."""
        which = asked.tickets
        self._waiting[which] = False
        self._positions[which] = asked.vectors  # whoever judged them may have moved them
        better = losses < self._losses[which]
        self._losses[which[better]] = losses[better]
        self._best[which[better]] = asked.vectors[better]
        self._since[which] = np.where(better, 0, self._since[which] + 1)
        self._move(which)

    def _move(self, which: NDArray[np.int64]) -> None:
        rng = self._rng()
        shape = (which.size, self.box.dimensions)
        own, common = rng.random(shape), rng.random(shape)
        fresh, restarts = rng.random(shape), rng.uniform(-0.1, 0.1, shape)
        inertia, to_own, to_common = self._weights
        leader = self._best[int(np.argmin(self._losses))]
        x, v = self._positions[which], self._velocities[which]
        v = inertia * v + to_own * own * (self._best[which] - x) + to_common * common * (leader - x)
        v = np.clip(v, -_FASTEST, _FASTEST)
        x = x + v
        outside = (x < 0.0) | (x >= 1.0)
        x = np.where(x < 0.0, -x, np.where(x >= 1.0, 2.0 - x, x))
        x, v = np.clip(x, 0.0, 1.0 - 1e-12), np.where(outside, -v, v)
        lost = (self._since[which] >= _PATIENCE) | ~np.isfinite(self._losses[which])
        self._positions[which] = np.where(lost[:, None], fresh, x)
        self._velocities[which] = np.where(lost[:, None], restarts, v)
        self._losses[which[lost]] = np.inf
        self._since[which[lost]] = 0

    def _own_state(self) -> dict[str, Any]:
        return {
            "positions": self._positions.tolist(),
            "velocities": self._velocities.tolist(),
            "best": self._best.tolist(),
            "losses": [loss if np.isfinite(loss) else None for loss in self._losses.tolist()],
            "since": self._since.tolist(),
            "waiting": self._waiting.tolist(),
            "next": self._next,
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        self._positions = np.array(state["positions"], dtype=np.float64)
        self._velocities = np.array(state["velocities"], dtype=np.float64)
        self._best = np.array(state["best"], dtype=np.float64)
        self._losses = np.array([np.inf if loss is None else loss for loss in state["losses"]])
        self._since = np.array(state["since"], dtype=np.int64)
        self._waiting = np.array(state["waiting"], dtype=bool)
        self._next = int(state["next"])
