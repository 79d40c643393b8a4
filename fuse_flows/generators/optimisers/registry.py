"""Optimisers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_flows.errors import ConfigError
from fuse_flows.generators.optimisers.lineages import Lineages
from fuse_flows.generators.optimisers.parzen import ParzenTree
from fuse_flows.generators.optimisers.random_search import RandomSearch
from fuse_flows.generators.optimisers.swarm import ParticleSwarm

if TYPE_CHECKING:
    from fuse_flows.generators.optimisers.base import Box, Optimiser

OPTIMISERS: dict[str, type[Optimiser]] = {
    each.name: each for each in (RandomSearch, ParticleSwarm, ParzenTree, Lineages)
}


def make_optimiser(name: str, box: Box, seed: int | tuple[int, ...]) -> Optimiser:
    """Return an optimiser.

    Parameters
    ----------
    name
        Its name, as in the configuration.
    box
        Where it is to search.
    seed
        Seed of all its draws.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    if name not in OPTIMISERS:
        raise ConfigError("optimiser", f"there is no optimiser {name!r}; use one of {', '.join(OPTIMISERS)}")
    return OPTIMISERS[name](box, seed)
