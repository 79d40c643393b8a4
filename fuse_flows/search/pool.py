"""The pool in the search: the first population takes it in order, moves 13 and 14 draw (paper, Section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from fuse_flows.config import MoveName
from fuse_flows.generators.pool import PoolMember

if TYPE_CHECKING:
    import numpy as np
    from pymatgen.core import Structure

    from fuse_flows.config import SearchConfig
    from fuse_flows.search.state import SearchState

PoolReader = Callable[[], Sequence[PoolMember]]
"""Returns the members in order; called only where one may be drawn, so that most steps need not read them."""


def no_pool() -> Sequence[PoolMember]:
    """Return the members of a search without a pool: none."""
    return ()


@dataclass(frozen=True)
class DrawnMember:
    """A member on its way to a proposal.

    Parameters
    ----------
    index
        Its number in the pool.
    member
        The member.
    """

    index: int
    member: PoolMember

    def to_structure(self) -> Structure:
        """Return its structure."""
        return self.member.to_structure()


def initial_member(pool: PoolReader, index: int, walker: int, config: SearchConfig) -> DrawnMember | None:
    """Return the member that takes a place in the first population.

    Parameters
    ----------
    pool
        The pool.
    index
        The place.
    walker
        The walker.
    config
        The search.

    Returns
    -------
    DrawnMember or None
        The walker's member of that number; None where its part of the pool has come to its end and the assembler
        takes over.
    """
    members, place = pool(), initial_place(config, index, walker)
    return DrawnMember(place, members[place]) if place < len(members) else None


def initial_place(config: SearchConfig, index: int, walker: int) -> int:
    """Return which member of the pool is the one of a walker with the given number.

    The walkers of a search share the pool as players share a pack of cards: walker w of n owns members w, w + n, ...

    Parameters
    ----------
    config
        The search.
    index
        Number among the walker's members.
    walker
        The walker.

    Returns
    -------
    int
        Its number in the pool, which may have fewer members.
    """
    return index * config.walkers.number + walker


@dataclass(frozen=True)
class PoolDraw:
    """Draws from those members of a walker's part of the pool that it has not used.

    Parameters
    ----------
    pool
        The pool.
    used
        Numbers of the members that were used.
    how
        ``uniform``: any of them with equal chance; ``ranked``: the first of them.
    walker, walkers
        Number of the walker, and how many there are.
    """

    pool: PoolReader
    used: frozenset[int]
    how: Literal["uniform", "ranked"]
    walker: int = 0
    walkers: int = 1

    @classmethod
    def at(cls, state: SearchState, config: SearchConfig, pool: PoolReader) -> PoolDraw:
        """Return what a walker may draw from where it stands."""
        used = frozenset(state.used_pool_members)
        return cls(pool, used, config.pool.draw, state.walker, config.walkers.number)

    def without(self, member: int) -> PoolDraw:
        """Return what is left when a member is used."""
        return replace(self, used=self.used | {member})

    def for_move(self, name: MoveName, n_atoms: int, rng: np.random.Generator) -> DrawnMember | None:
        """Toss for a move whether it draws from the pool, and draw.

        Parameters
        ----------
        name
            The move; all but 13 and 14 leave the pool alone.
        n_atoms
            Atoms of the current structure, which move 13 does not exceed.
        rng
            Source of randomness; untouched if nothing can be drawn.

        Returns
        -------
        DrawnMember or None
            None if the move is to be made as usual.
        """
        if name is MoveName.NEW_STRUCTURE_CURRENT_SIZE:
            return self.draw(rng, n_atoms)
        return self.draw(rng) if name is MoveName.NEW_STRUCTURE_MAXIMUM_SIZE else None

    def draw(self, rng: np.random.Generator, largest: int | None = None) -> DrawnMember | None:
        """Toss between pool and assembler, with equal chance, and draw.

        Parameters
        ----------
        rng
            Source of randomness; untouched if nothing can be drawn.
        largest
            Largest number of atoms; None for any.

        Returns
        -------
        DrawnMember or None
            None if nothing is left, or the toss is for the assembler.
        """
        members = self.pool()
        mine = range(self.walker, len(members), self.walkers)
        left = [i for i in mine if i not in self.used and (largest is None or len(members[i]) <= largest)]
        if not left or rng.random() < 0.5:
            return None
        index = left[0] if self.how == "ranked" else left[rng.integers(len(left))]
        return DrawnMember(index, members[index])
