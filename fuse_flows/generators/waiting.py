"""Candidates that passed the filters and wait for their energies, with the crystals they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fuse_flows.generators.optimisers.base import Asked
from fuse_flows.generators.space.decode import Crystals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.generators.space.decode import SearchSpace


class Waiting(NamedTuple):
    """A queue of candidates.

    Attributes
    ----------
    asked
        The candidates.
    crystals
        What they are, in the same order.
    """

    asked: Asked
    crystals: Crystals

    @classmethod
    def of(cls, space: SearchSpace, tickets: Any = (), vectors: Any = ()) -> Waiting:
        """Make a queue from tickets and vectors, both empty by default."""
        asked = Asked(
            np.array(tickets, dtype=np.int64), np.array(vectors, dtype=np.float64).reshape(-1, space.dimensions)
        )
        return cls(asked, space.decode(asked.vectors))

    def __len__(self) -> int:
        return len(self.crystals)

    def pick(self, which: NDArray[np.bool_] | slice) -> Waiting:
        """Return some of the queue."""
        asked = Asked(self.asked.tickets[which], self.asked.vectors[which])
        return Waiting(asked, self.crystals.pick(which))

    def joined(self, others: Waiting) -> Waiting:
        """Return this queue with others behind it."""
        mine, theirs = self.crystals, others.crystals
        parts = ("lattices", "frac_coords", "groups")
        arrays = {part: np.concatenate([getattr(mine, part), getattr(theirs, part)]) for part in parts}
        tickets = np.concatenate([self.asked.tickets, others.asked.tickets])
        vectors = np.concatenate([self.asked.vectors, others.asked.vectors])
        return Waiting(Asked(tickets, vectors), Crystals(numbers=mine.numbers, **arrays))

    def state(self) -> dict[str, Any]:
        """Return what :meth:`of` needs beside the space, as JSON knows it."""
        return {"tickets": self.asked.tickets.tolist(), "vectors": self.asked.vectors.tolist()}
