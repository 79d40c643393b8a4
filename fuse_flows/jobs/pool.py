"""The pool travels in the database: the jobs that rank and store it, and how other jobs read it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from fuse_flows.config import SearchConfig
from fuse_flows.generators.pool import PoolMember, load_members
from fuse_flows.jobs.base import own_output, place_uuid, read_output, search_job
from fuse_flows.relax.tiers import build_relaxer, single_point
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.pool import PoolDoc, RankingDoc
from fuse_flows.search.pool import PoolReader, no_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobflow import OutputReference

PLACE = "pool"


@search_job
def rank_members(config: dict[str, Any], members: str) -> dict[str, Any]:
    """Compute the energies by which a part of the pool is ranked.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    members
        The structures, as :func:`.dump_members` writes them.

    Returns
    -------
    dict
        A :class:`.RankingDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search = SearchConfig.model_validate(config)
    ranked, dropped = with_energies(load_members(members), search)
    return to_mongo(RankingDoc(search_id=search.search_id, members=ranked, dropped=dict(dropped)))


@search_job
def store_pool(
    config: dict[str, Any], members: str | None, skipped: dict[str, int], rankings: list[OutputReference]
) -> dict[str, Any]:
    """Store the structures that came with the search for all later jobs, the lowest in energy first if ranked.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    members
        The structures, as :func:`.dump_members` writes them; None if other jobs rank them.
    skipped
        What was left out when they were read, by reason.
    rankings
        References to the jobs that ranked them, in order.

    Returns
    -------
    dict
        A :class:`.PoolDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search = SearchConfig.model_validate(config)
    if members is not None:
        return to_mongo(PoolDoc(search_id=search.search_id, members=load_members(members), skipped=skipped))
    dropped = Counter[str]()
    ranked: list[PoolMember] = []
    for reference in rankings:
        ranking = RankingDoc.model_validate(read_output(reference.uuid))
        ranked += ranking.members
        dropped.update(ranking.dropped)
    ranked.sort(key=lambda member: member.energy_per_atom or 0.0)  # equal energies keep their order
    return to_mongo(PoolDoc(search_id=search.search_id, members=ranked, skipped=skipped, dropped=dict(dropped)))


def with_energies(members: Sequence[PoolMember], config: SearchConfig) -> tuple[list[PoolMember], Counter[str]]:
    """Compute the energies of members as ``pool.rank`` asks.

    Parameters
    ----------
    members
        The members.
    config
        The search, whose ranking tier counts.

    Returns
    -------
    members
        Those with an energy, in the same order; relaxed if they were.
    dropped
        How many have none, by outcome.
    """
    tier = config.pool.rank_tier or config.tiers[0]
    dropped = Counter[str]()
    ranked = []
    for member in members:
        before = member.to_structure()
        result = build_relaxer(tier).relax(before) if config.pool.rank == "relax" else single_point(before, tier)
        if result.energy_per_atom is None:
            dropped[result.outcome] += 1
            continue
        after = PoolMember.from_structure(member.name, result.structure) if config.pool.rank == "relax" else member
        ranked.append(after.model_copy(update={"energy_per_atom": result.energy_per_atom}))
    return ranked, dropped


def stored_pool(config: SearchConfig) -> PoolReader:
    """Return access to the pool of a search, for use in one of its jobs.

    Parameters
    ----------
    config
        The search.

    Returns
    -------
    PoolReader
        Reads the pool from the JobStore when it is first called, and keeps it.
    """
    if config.pool.digest is None:
        return no_pool

    @cache
    def read() -> Sequence[PoolMember]:
        output = read_output(place_uuid(config, walker=0, place=PLACE))
        return [PoolMember.model_construct(**values) for values in output["members"]]  # was checked when stored

    return read
