"""The sites of a sub-module and the eight motifs of their occupation (FUSE2 paper, Section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SITES_PER_BLOCK = 4
SITES = np.array([[0.0, 0.0, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.5], [0.0, 0.5, 0.5]])
"""Positions in units of the block vectors, the origin first: a net in one plane at half the height."""
SITES.setflags(write=False)


class Motif(NamedTuple):
    """A way to occupy the four sites of a sub-module."""

    name: str
    origin: bool
    """Whether the first site is occupied."""
    others: int
    """How many of the other three sites are occupied."""

    @property
    def n_atoms(self) -> int:
        """Occupied sites."""
        return self.origin + self.others

    def positions(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the occupied sites, shape (n_atoms, 3), in units of the block vectors; which others, is drawn."""
        others = 1 + rng.choice(SITES_PER_BLOCK - 1, size=self.others, replace=False)
        return SITES[np.sort(np.concatenate([np.arange(self.origin), others])).astype(np.int64)]


MOTIFS = (
    Motif("empty", origin=False, others=0),
    Motif("one off origin", origin=False, others=1),
    Motif("two off origin", origin=False, others=2),
    Motif("three off origin", origin=False, others=3),
    Motif("origin", origin=True, others=0),
    Motif("origin and one", origin=True, others=1),
    Motif("origin and two", origin=True, others=2),
    Motif("full", origin=True, others=3),
)
"""All occupations up to the choice among the three sites off the origin."""
