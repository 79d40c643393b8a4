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
    from collections.abc import Sequence

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
    query = {_SEARCH_ID: search_id, "output.kind": _KINDS, "output.ended": {"$gte": moment(since) if since else ""}}
    shown = {"_id": 0, "output.ended": 1, "output.tally": 1}
    found = [document["output"] for document in connection.outputs.find(query, shown).hint(TALLIES)]
    done = [
        Done(datetime.fromisoformat(output["ended"]), Tally.model_construct(**output["tally"]))
        for output in found
        if output["tally"] and output["tally"]["n"]
    ]
    return sorted(done, key=lambda one: one.ended)


def outcome_counts(connection: Connection, search_id: str) -> dict[str, int]:
    """Count the candidates of a search by how their relaxation ended.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.

    Returns
    -------
    dict
        Outcome to number, the most frequent first.
    """
    of_search = {_SEARCH_ID: search_id, "output.kind": _KINDS}
    summed: list[dict[str, Any]] = [
        {"$match": of_search},
        {"$project": {"_id": 0, "tally": "$output.tally"}},  # by itself, so that the index covers it
        {"$group": {"_id": "$tally.outcomes", "jobs": {"$sum": 1}}},  # most jobs have one of a few
    ]
    counted: list[dict[str, Any]] = [
        {"$match": {**of_search, "output.ended": None}},
        {"$unwind": "$output.candidates"},
        {"$group": {"_id": "$output.candidates.outcome", "n": {"$sum": 1}}},
    ]
    counts = Counter[str]()
    sums = list(connection.outputs.aggregate(summed, hint=TALLIES))
    for found in sums:
        counts.update({outcome: number * found["jobs"] for outcome, number in (found["_id"] or {}).items()})
    if any(found["_id"] is None for found in sums):  # jobs without a candidate, or of earlier versions
        counts.update({found["_id"]: found["n"] for found in connection.outputs.aggregate(counted, hint=TALLIES)})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def candidate_counts(connection: Connection) -> dict[str, int]:
    """Count the candidates of all searches.

    Parameters
    ----------
    connection
        The database.

    Returns
    -------
    dict
        Search id to number; searches without candidates are missing, or zero.
    """
    every = {_SEARCH_ID: {"$gte": ""}, "output.kind": _KINDS}
    summed: list[dict[str, Any]] = [
        {"$match": {**every, "output.ended": {"$gte": ""}}},
        {"$project": {"_id": 0, "search_id": f"${_SEARCH_ID}", "tally": "$output.tally"}},
        {"$group": {"_id": "$search_id", "n": {"$sum": "$tally.n"}}},
    ]
    counted: list[dict[str, Any]] = [
        {"$match": {**every, "output.ended": None}},
        {"$group": {"_id": f"${_SEARCH_ID}", "n": {"$sum": {"$size": {"$ifNull": ["$output.candidates", []]}}}}},
    ]
    counts = Counter[str]()
    for stages in (summed, counted):
        counts.update({found["_id"]: found["n"] for found in connection.outputs.aggregate(stages, hint=TALLIES)})
    return dict(counts)


def per_hour(connection: Connection, search_id: str, *, hours: float = 1.0, now: datetime | None = None) -> float:
    """Return the present rate of a search.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    hours
        How far to look back.
    now
        The end of that time; None for now.

    Returns
    -------
    float
        Candidates per hour, from the first one in that time on; 0.0 if there is none.
    """
    now = now or datetime.now(UTC)
    done = [one for one in tallies(connection, search_id, now - timedelta(hours=hours)) if one.ended <= now]
    before = connection.outputs.find_one(
        {
            _SEARCH_ID: search_id,
            "output.kind": _KINDS,
            "output.ended": {"$gte": "", "$lt": moment(now - timedelta(hours=hours))},
        },
        {"_id": 0, "output.ended": 1},
        hint=TALLIES,
    )
    if not done or (before is None and len(done) == 1):
        return 0.0
    if before is not None:
        return sum(one.tally.n for one in done) / hours
    # it began meanwhile: the work on the first document is not known, so it is left out with its candidates
    seconds = max((now - done[0].ended).total_seconds(), 1.0)
    return 3600.0 * sum(one.tally.n for one in done[1:]) / seconds


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
