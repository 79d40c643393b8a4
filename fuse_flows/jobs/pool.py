"""The pool travels in the database: the job that stores it, and how other jobs read it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from fuse_flows.config import SearchConfig
from fuse_flows.generators.pool import PoolMember, load_members
from fuse_flows.jobs.base import own_output, place_uuid, read_output, search_job
from fuse_flows.relax.threads import limit_threads
from fuse_flows.relax.tiers import single_point
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.pool import PoolDoc
from fuse_flows.search.pool import PoolReader, no_pool
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = "pool"


@search_job
def store_pool(config: dict[str, Any], members: str, skipped: dict[str, int]) -> dict[str, Any]:
    """Rank the structures that came with the search, and store them for all later jobs.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    members
        The structures, as :func:`.dump_members` writes them.
    skipped
        What was left out when they were read, by reason.

    Returns
    -------
    dict
        A :class:`.PoolDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search = SearchConfig.model_validate(config)
    accepted, dropped = load_members(members), Counter[str]()
    if search.pool.rank == "energy":
        limit_threads(settings().threads)
        accepted, dropped = ranked(accepted, search)
    return to_mongo(PoolDoc(search_id=search.search_id, members=accepted, skipped=skipped, dropped=dict(dropped)))


def ranked(members: Sequence[PoolMember], config: SearchConfig) -> tuple[list[PoolMember], Counter[str]]:
    """Order members by the energy that the first tier gives them as they are.

    Parameters
    ----------
    members
        The members.
    config
        The search, whose first tier counts.

    Returns
    -------
    members
        Those with an energy, the lowest energy per atom first; equal energies keep their order.
    dropped
        How many have none, by outcome.
    """
    dropped = Counter[str]()
    with_energy = []
    for member in members:
        result = single_point(member.to_structure(), config.tiers[0])
        if result.energy_per_atom is None:
            dropped[result.outcome] += 1
        else:
            with_energy.append((result.energy_per_atom, member))
    with_energy.sort(key=lambda pair: pair[0])
    return [member.model_copy(update={"energy_per_atom": energy}) for energy, member in with_energy], dropped


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
