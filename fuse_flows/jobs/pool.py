"""The pool travels in the database: the jobs that rank and store it, and how other jobs read it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from fuse_flows.config import SearchConfig
from fuse_flows.generators.files import SkipReason
from fuse_flows.generators.planning import in_order, that_fit
from fuse_flows.generators.pool import PoolMember, load_members, median_volume
from fuse_flows.generators.twins import TwinFinder
from fuse_flows.jobs.base import own_output, place_uuid, read_output, search_job
from fuse_flows.jobs.generation import why_nothing
from fuse_flows.jobs.parts import done
from fuse_flows.jobs.ranking import rank_in_parts
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.pool import GeneratedDoc, PoolDoc, RankingDoc
from fuse_flows.search.pool import PoolReader, no_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobflow import OutputReference, Response

PLACE = "pool"
COPY = SkipReason.DUPLICATE.value
"""Why a generated structure, or a file, is dropped: it is a copy of a lower one."""
BEYOND = "beyond the largest pool"
"""Why a structure is dropped: one document of the database can hold no more."""


@search_job
def rank_members(config: dict[str, Any], members: str) -> dict[str, Any] | Response:
    """Compute the energies by which a part of the pool is ranked; see :func:`.rank_in_parts`.

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
    return rank_in_parts(config, lambda: load_members(members), lambda: rank_members(config, members))


@search_job
def rank_generated(
    config: dict[str, Any], generated: OutputReference | str, first: int, last: int
) -> dict[str, Any] | Response:
    """Compute the energies by which a part of what one job generated is ranked; see :func:`.rank_in_parts`.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    generated
        The job that generated the structures: a reference, which is waited for, or its uuid when it is done.
    first, last
        The part, the last one excluded; there may be fewer structures.

    Returns
    -------
    dict
        A :class:`.RankingDoc`.
    """
    source = done(generated)

    def members() -> list[PoolMember]:
        return GeneratedDoc.model_validate(read_output(str(source))).members[first:last]

    return rank_in_parts(config, members, lambda: rank_generated(config, source, first, last))


@search_job
def store_pool(
    config: dict[str, Any],
    members: str | None,
    skipped: dict[str, int],
    rankings: list[OutputReference],
    generated: list[OutputReference] | None = None,
) -> dict[str, Any]:
    """Store the pool for all later jobs: files and generated structures, the lowest in energy first if ranked.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    members
        The structures that came with the search, as :func:`.dump_members` writes them; None if other jobs rank them.
    skipped
        What was left out when they were read, by reason.
    rankings
        References to the jobs that ranked them, and what was generated, in order.
    generated
        References to the jobs that generated structures; None if there are none.

    Returns
    -------
    dict
        A :class:`.PoolDoc`.
    """
    stored = own_output()
    if stored is not None:
        return stored
    search = SearchConfig.model_validate(config)
    made = [GeneratedDoc.model_validate(read_output(reference.uuid)) for reference in generated or ()]
    found = load_members(members) if members is not None else []
    dropped = Counter[str]()
    if search.pool.rank == "none":
        found += in_order(member for document in made for member in document.members)
    for reference in rankings:
        ranking = RankingDoc.model_validate(read_output(reference.uuid))
        found += ranking.members
        dropped.update(ranking.dropped)
    if rankings:
        found = in_order(found)
    document = PoolDoc(search_id=search.search_id, members=found, skipped=skipped, dropped=dict(dropped))
    return to_mongo(with_generated(document, made) if made else document)


def with_generated(pool: PoolDoc, made: Sequence[GeneratedDoc]) -> PoolDoc:
    """Take copies out of a pool with generated structures, and note how these came about.

    Parameters
    ----------
    pool
        The pool, in its order.
    made
        What was generated.

    Returns
    -------
    PoolDoc
        Of copies only the first is left, and no more structures than one document can hold.
    """
    distinct = _without_copies(pool.members)
    members, summaries = that_fit(distinct), [document.summary for document in made]
    left_out = {COPY: len(pool.members) - len(distinct), BEYOND: len(distinct) - len(members)}
    update = {
        "members": members,
        "dropped": pool.dropped | {reason: number for reason, number in left_out.items() if number},
        "generated": summaries,
        "volume": median_volume(members),
        "fallback": None if members else why_nothing(summaries),
    }
    return pool.model_copy(update=update)


def search_of(config: dict[str, Any]) -> SearchConfig:
    """Return the configuration of a search as its later jobs see it.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.

    Returns
    -------
    SearchConfig
        With the volume of the pool, which nobody knew on submission if structures are generated.
    """
    search = SearchConfig.model_validate(config)
    if search.pool.generate is None or search.pool.volume is not None or not search.volume.learn:
        return search
    criteria = {"uuid": place_uuid(search, walker=0, place=PLACE)}
    found = CURRENT_JOB.store.query_one(criteria, ["output.volume"], sort={"index": -1})
    volume = None if found is None else found["output"]["volume"]
    return search.model_copy(update={"pool": search.pool.model_copy(update={"volume": volume})})


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
    if not config.pool.is_there:
        return no_pool

    @cache
    def read() -> Sequence[PoolMember]:
        output = read_output(place_uuid(config, walker=0, place=PLACE))
        return [PoolMember.model_construct(**values) for values in output["members"]]  # was checked when stored

    return read


def _without_copies(members: Sequence[PoolMember]) -> list[PoolMember]:
    """Return the members without copies of earlier ones."""
    twins = TwinFinder()
    return [member for member in members if not twins.has_twin(member.to_structure())]
