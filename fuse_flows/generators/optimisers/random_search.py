"""Candidates drawn evenly from the whole box; the yardstick of all other optimisers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.generators.optimisers.base import Asked, Optimiser

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RandomSearch(Optimiser):
    """Evenly distributed candidates."""

    name = "random"

    def ask(self, n: int) -> Asked:
        """Return the next candidates; see :class:`~fuse_flows.generators.optimisers.base.Optimiser`."""
        return Asked(np.zeros(n, dtype=np.int64), self._rng().random((n, self.box.dimensions)))

    def tell(self, asked: Asked, losses: NDArray[np.float64]) -> None:
        """Learn nothing."""
