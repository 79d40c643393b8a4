"""How many candidates a search has, and when, with what and by whom they were made; answered from one index.

No candidate is read for it, so the time does not depend on their structures: 100 000 jobs take a fraction of a second.
Documents of earlier versions hold no sum; those alone are read and counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fuse_flows.schemas.tally import Tally, moment
from fuse_flows.store.setup import TALLIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fuse_flows.store.connection import Connection

_SEARCH_ID = "metadata.search_id"
_KINDS = {"$in": ["population", "steps"]}


@dataclass(frozen=True)
class Done:
    """What one job has done.

    Parameters
    ----------
    ended
        When it ended.
    tally
        The sum of its candidates.
    """

    ended: datetime
    tally: Tally


@dataclass(frozen=True)
class Bin:
    """An interval of time.

    Parameters
    ----------
    begin
        When it begins.
    hours
        How long it is; the last one, and the only one, may be shorter.
    n
        Candidates that were stored in it.
    outcomes
        They by outcome.
    """

    begin: datetime
    hours: float
    n: int
    outcomes: dict[str, int]

    @property
    def per_hour(self) -> float:
        """Candidates per hour."""
        return self.n / self.hours if self.hours > 0 else 0.0


def tallies(connection: Connection, search_id: str, since: datetime | None = None) -> list[Done]:
    """Return what the jobs of a search have done, in the order of time.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    since
        Only jobs that ended then or later; None for all.

    Returns
    -------
    list of Done
        Without jobs that stored no candidate, and without those of earlier versions.
    """
    return sorted((one for _, one in _done(connection, [search_id], since)), key=lambda one: one.ended)


def _done(connection: Connection, search_ids: Sequence[str], since: datetime | None) -> Iterator[tuple[str, Done]]:
    """Yield the search and what was done for each of its jobs, in no particular order."""
    ended = {"$gte": moment(since) if since else ""}
    query = {_SEARCH_ID: {"$in": [*search_ids]}, "output.kind": _KINDS, "output.ended": ended}
    shown = {"_id": 0, _SEARCH_ID: 1, "output.ended": 1, "output.tally": 1}
    for document in connection.outputs.find(query, shown).hint(TALLIES):
        output = document["output"]
        if output["tally"] and output["tally"]["n"]:
            done = Done(datetime.fromisoformat(output["ended"]), Tally.model_construct(**output["tally"]))
            yield document["metadata"]["search_id"], done


@dataclass(frozen=True)
class Sum:
    """What a search has come to.

    Parameters
    ----------
    outcomes
        Its candidates by how their relaxation ended, the most frequent first.
    last
        When its newest candidates were stored, as an ISO time; empty if there are none.
    """

    outcomes: dict[str, int]
    last: str


def outcome_counts(connection: Connection, search_id: str) -> dict[str, int]:
    """Count the candidates of a search by how their relaxation ended; see :func:`sums_of_searches`."""
    return sums_of_searches(connection, [search_id])[search_id].outcomes


def sums_of_searches(connection: Connection, search_ids: Sequence[str]) -> dict[str, Sum]:
    """Count the candidates of searches.

    Parameters
    ----------
    connection
        The database.
    search_ids
        The searches.

    Returns
    -------
    dict
        Search id to sum; every search is in it.
    """
    of_searches = {_SEARCH_ID: {"$in": [*search_ids]}, "output.kind": _KINDS}
    by_outcomes = {"_id": {"search": "$search", "outcomes": "$tally.outcomes"}}  # most jobs have one of a few
    summed: list[dict[str, Any]] = [
        {"$match": of_searches},
        # by themselves, so that the index covers it
        {"$project": {"_id": 0, "search": f"${_SEARCH_ID}", "ended": "$output.ended", "tally": "$output.tally"}},
        {"$group": by_outcomes | {"jobs": {"$sum": 1}, "last": {"$max": "$ended"}}},
    ]
    counts = {name: Counter[str]() for name in search_ids}
    last = dict.fromkeys(search_ids, "")
    unknown = set()
    for found in connection.outputs.aggregate(summed, hint=TALLIES):
        name, outcomes = found["_id"]["search"], found["_id"].get("outcomes")
        counts[name].update({outcome: number * found["jobs"] for outcome, number in (outcomes or {}).items()})
        last[name] = max(last[name], found["last"] or "")
        if outcomes is None:  # jobs without a candidate, or of earlier versions
            unknown.add(name)
    if unknown:
        by_outcome = {"search": f"${_SEARCH_ID}", "outcome": "$output.candidates.outcome"}
        counted: list[dict[str, Any]] = [
            {"$match": {**of_searches, _SEARCH_ID: {"$in": [*unknown]}, "output.ended": None}},
            {"$unwind": "$output.candidates"},
            {"$group": {"_id": by_outcome, "n": {"$sum": 1}}},
        ]
        for found in connection.outputs.aggregate(counted, hint=TALLIES):
            counts[found["_id"]["search"]][found["_id"]["outcome"]] += found["n"]
    return {name: Sum(_by_frequency(counts[name]), last[name]) for name in search_ids}


def _by_frequency(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def per_hour(
    connection: Connection, search_ids: Sequence[str], *, hours: float = 1.0, now: datetime | None = None
) -> dict[str, float]:
    """Return the present rate of searches.

    Parameters
    ----------
    connection
        The database, which is asked twice however many searches there are.
    search_ids
        The searches.
    hours
        How far to look back.
    now
        The end of that time; None for now.

    Returns
    -------
    dict
        Search id to candidates per hour, from its first one in that time on; 0.0 if there is none.
    """
    now = now or datetime.now(UTC)
    begin = now - timedelta(hours=hours)
    done: dict[str, list[Done]] = {name: [] for name in search_ids}
    for name, one in _done(connection, search_ids, begin):
        if one.ended <= now:
            done[name].append(one)
    active = [name for name, found in done.items() if found]
    earlier = {_SEARCH_ID: {"$in": active}, "output.kind": _KINDS, "output.ended": {"$gte": "", "$lt": moment(begin)}}
    before = set(connection.outputs.distinct(_SEARCH_ID, earlier)) if active else set()
    return {name: _rate(found, hours, now, began_before=name in before) for name, found in done.items()}


def _rate(done: list[Done], hours: float, now: datetime, *, began_before: bool) -> float:
    """Return candidates per hour from what the jobs of one search have done in that time."""
    if began_before:
        return sum(one.tally.n for one in done) / hours
    # it began meanwhile: the work on the first document is not known, so it is left out with its candidates
    if len(done) < 2:
        return 0.0
    first = min(done, key=lambda one: one.ended)
    seconds = max((now - first.ended).total_seconds(), 1.0)
    return 3600.0 * (sum(one.tally.n for one in done) - first.tally.n) / seconds


def bins(done: Sequence[Done], hours: float) -> list[Bin]:
    """Sort what was done into intervals of time.

    Parameters
    ----------
    done
        From :func:`tallies`.
    hours
        Length of an interval; they begin at full multiples of it.

    Returns
    -------
    list of Bin
        From the first to the last one with a candidate, empty ones between them included.
    """
    width = 3600.0 * hours
    numbers: dict[int, Counter[str]] = {}
    for one in done:
        numbers.setdefault(int(one.ended.timestamp() // width), Counter()).update(one.tally.outcomes)
    places = range(min(numbers), max(numbers) + 1) if numbers else range(0)
    return [
        Bin(datetime.fromtimestamp(place * width, UTC), hours, numbers[place].total(), dict(numbers[place]))
        if place in numbers
        else Bin(datetime.fromtimestamp(place * width, UTC), hours, 0, {})
        for place in places
    ]


def by_tier(done: Sequence[Done]) -> list[tuple[str, int, float]]:
    """Sum up the tiers.

    Parameters
    ----------
    done
        From :func:`tallies`.

    Returns
    -------
    list of tuple
        Calculator, relaxations and their seconds, in the order of the tiers.
    """
    sums: dict[tuple[int, str], list[float]] = {}
    for one in done:
        for place, (name, number, seconds) in enumerate(one.tally.tiers):
            entry = sums.setdefault((place, name), [0, 0.0])
            entry[0] += number
            entry[1] += seconds
    return [(name, int(number), seconds) for (_, name), (number, seconds) in sorted(sums.items())]


def by_worker(done: Sequence[Done]) -> list[tuple[str, int, datetime, datetime]]:
    """Sum up the workers.

    Parameters
    ----------
    done
        From :func:`tallies`.

    Returns
    -------
    list of tuple
        Worker, candidates, and when it stored the first and the last one; the busiest worker first.
    """
    found: dict[str, tuple[int, datetime, datetime]] = {}
    for one in done:
        number, first, last = found.get(one.tally.worker, (0, one.ended, one.ended))
        found[one.tally.worker] = number + one.tally.n, min(first, one.ended), max(last, one.ended)
    entries = [(worker, *values) for worker, values in found.items()]
    return sorted(entries, key=lambda entry: (-entry[1], entry[0]))
