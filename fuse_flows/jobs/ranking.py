"""The energies by which members of the pool are ranked, computed batch by batch as long as there is time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from fuse_flows.config import SearchConfig
from fuse_flows.generators.pool import PoolMember
from fuse_flows.jobs.allocation import begin_structures
from fuse_flows.jobs.base import own_output
from fuse_flows.jobs.parts import leave_rest, must_leave_rest, part_before
from fuse_flows.relax.clock import cpu_clock
from fuse_flows.relax.tiers import at_once, relax_many
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.pool import RankingDoc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobflow import Job, Response

    from fuse_flows.config import TierConfig

DIGITS = 6
"""Digits of the energies by which members are ranked: copies in other cells shall be equal."""


def rank_in_parts(
    config: dict[str, Any], members: Callable[[], Sequence[PoolMember]], again: Callable[[], Job]
) -> dict[str, Any] | Response:
    """Do the work of a job that ranks members of the pool.

    When the allocation of the process comes to its end, or the search is asked to stop, the job stores what it has and
    is replaced by itself; at least one batch is computed.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    members
        Returns the members; the same ones in every part.
    again
        Makes the same job.

    Returns
    -------
    dict or Response
        A :class:`.RankingDoc`.
    """
    stored = own_output()
    if stored is None:
        stored = to_mongo(_ranking(SearchConfig.model_validate(config), members()))
    return stored if stored.get("done") is None else leave_rest(stored, again())


def with_energies(members: Sequence[PoolMember], config: SearchConfig) -> tuple[list[PoolMember], Counter[str]]:
    """Compute the energies of members as ``pool.rank`` asks, in batches where the engine can do that.

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
    relax = config.pool.rank == "relax"
    results = relax_many([member.to_structure() for member in members], ranking_tier(config), single=not relax)
    dropped = Counter[str]()
    ranked = []
    for member, result in zip(members, results, strict=True):
        if result.enthalpy_per_atom is None:
            dropped[result.outcome] += 1
            continue
        update: dict[str, Any] = {"energy_per_atom": round(result.enthalpy_per_atom, DIGITS)}
        if relax:
            update["source"] = member.source
        after = PoolMember.from_structure(member.name, result.structure) if relax else member
        ranked.append(after.model_copy(update=update))
    return ranked, dropped


def ranking_tier(config: SearchConfig) -> TierConfig:
    """Return the tier that ranks the pool."""
    return config.pool.rank_tier or config.tiers[0]


def _ranking(config: SearchConfig, members: Sequence[PoolMember]) -> RankingDoc:
    """Rank members, beginning with what the job before this one did, as long as there is time."""
    before = part_before()
    begun = RankingDoc.model_validate(before) if before else RankingDoc(search_id=config.search_id, members=[])
    ranked, dropped, first = begun.members, Counter(begun.dropped), begun.done or 0
    together = at_once([ranking_tier(config)]) or max(1, len(members))
    begin_structures()
    clock = cpu_clock()
    while first < len(members):
        found, without = with_energies(members[first : first + together], config)
        ranked, first = ranked + found, min(first + together, len(members))
        dropped.update(without)
        if must_leave_rest():
            break
    done = None if first >= len(members) else first
    spent = round(begun.cpu_seconds + cpu_clock() - clock, 3)
    return RankingDoc(search_id=config.search_id, members=ranked, dropped=dict(dropped), done=done, cpu_seconds=spent)
