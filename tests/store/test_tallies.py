"""Counts and rates are read from an index, and are the same as those of the candidates themselves."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from fuse_flows.schemas.tally import Tally, moment, tally_of
from fuse_flows.store.queries import candidates, known_searches, search_ids
from fuse_flows.store.tallies import (
    Done,
    bins,
    by_tier,
    by_worker,
    outcome_counts,
    per_hour,
    sums_of_searches,
    tallies,
)

pytestmark = pytest.mark.mongo

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def document(search_id, number, ended, outcomes, *, worker="host:1", kind="steps"):
    found = [
        {"outcome": outcome, "tiers": [{"calculator": "spp", "seconds": 0.5}, {"calculator": "emt", "seconds": 2.0}]}
        for outcome in outcomes
    ]
    tally = None if ended is None else tally_of(found, worker).model_dump(mode="json")
    output = {"kind": kind, "step": number, "candidates": found}
    output |= {} if ended is None else {"ended": moment(ended), "tally": tally}
    job = {"uuid": f"{search_id}-{number}", "index": 1, "completed_at": str(ended)}
    return job | {"output": output, "metadata": {"search_id": search_id}}


@pytest.fixture(name="filled")
def _filled(connection):
    """Ten jobs of two candidates in the first hour, one of one two hours later; jobs of other kinds; another search."""
    first = [
        document("MgO-1", n, NOON + timedelta(minutes=5 * n), ["CONVERGED", "TOO_CLOSE"], worker=f"host:{n % 2}")
        for n in range(10)
    ]
    later = document("MgO-1", 10, NOON + timedelta(hours=2.5), ["CONVERGED"], worker="host:0")
    empty = document("MgO-1", 11, NOON + timedelta(hours=3), [])
    begun = {"uuid": "s", "index": 1, "completed_at": ""}
    start = begun | {"output": {"kind": "start", "step": 0}, "metadata": {"search_id": "MgO-1"}}
    other = document("NaCl-1", 0, NOON, ["CONVERGED"] * 3, kind="population")
    connection.outputs.insert_many([*first, later, empty, start, other])
    return connection


def test_counts(filled):
    assert outcome_counts(filled, "MgO-1") == {"CONVERGED": 11, "TOO_CLOSE": 10}
    assert outcome_counts(filled, "NaCl-1") == {"CONVERGED": 3}
    assert outcome_counts(filled, "no-1") == {}
    assert {found.search_id: found.n_candidates for found in search_ids(filled)} == {"MgO-1": 21, "NaCl-1": 3}
    assert known_searches(filled) == ["MgO-1", "NaCl-1"]


def test_documents_of_earlier_versions_are_counted_one_by_one(filled):
    filled.outputs.insert_one(document("MgO-1", 12, None, ["CONVERGED", "EXPLODED"]))
    assert outcome_counts(filled, "MgO-1") == {"CONVERGED": 12, "TOO_CLOSE": 10, "EXPLODED": 1}
    assert {found.search_id: found.n_candidates for found in search_ids(filled)} == {"MgO-1": 23, "NaCl-1": 3}
    assert sum(one.tally.n for one in tallies(filled, "MgO-1")) == 21


def test_no_document_is_read_for_it(filled):
    database, names = filled.database, ["MgO-1", "NaCl-1"]
    database.command("profile", 2)
    try:
        sums_of_searches(filled, names)
        per_hour(filled, names, now=NOON + timedelta(hours=3))
        assert tallies(filled, "MgO-1")
    finally:
        database.command("profile", 0)
    asked = list(database["system.profile"].find({"ns": filled.outputs.full_name}))
    assert [one["docsExamined"] for one in asked] == [0] * 4
    assert max(one["keysExamined"] for one in asked) > 10


def _rate(connection, search_id, now):
    both = per_hour(connection, ["MgO-1", "NaCl-1"], now=now)
    assert per_hour(connection, [search_id], now=now) == {search_id: both[search_id]}
    return both[search_id]


def test_rates(filled):
    end = NOON + timedelta(hours=1)
    assert _rate(filled, "MgO-1", end + timedelta(hours=10)) == 0
    # it began at noon: the first job marks the beginning, the other nine make 18 candidates in one hour
    assert _rate(filled, "MgO-1", end) == pytest.approx(18)
    assert _rate(filled, "MgO-1", NOON + timedelta(hours=3)) == 1
    assert _rate(filled, "NaCl-1", end) == 0


def test_bins_tiers_and_workers(filled):
    done = tallies(filled, "MgO-1")
    found = bins(done, 1.0)
    assert [(one.begin.hour, one.n, one.per_hour) for one in found] == [(12, 20, 20.0), (13, 0, 0.0), (14, 1, 1.0)]
    assert sum((Counter(one.outcomes) for one in found), Counter()) == outcome_counts(filled, "MgO-1")
    assert bins([], 1.0) == []
    assert by_tier(done) == [("spp", 21, 10.5), ("emt", 21, 42.0)]
    assert [(worker, number) for worker, number, _, _ in by_worker(done)] == [("host:0", 11), ("host:1", 10)]
    late = tallies(filled, "MgO-1", NOON + timedelta(hours=1))
    assert [one.tally.n for one in late] == [1]
    assert by_tier([Done(NOON, Tally(n=1))]) == []


def test_sums_of_a_real_search_are_those_of_its_candidates(search):
    connection, documents = search.connection, candidates(search.connection, search.search_id)
    assert outcome_counts(connection, search.search_id) == Counter(
        doc["outcome"] for doc in candidates(connection, search.search_id)
    )
    done = tallies(connection, search.search_id)
    assert sum(one.tally.n for one in done) == len(documents)
    assert [number for _, number, _ in by_tier(done)] == [
        sum(len(one["tiers"]) > place for one in documents) for place in range(2)
    ]
    seconds = sum(tier["seconds"] for one in documents for tier in one["tiers"])
    assert sum(spent for _, _, spent in by_tier(done)) == pytest.approx(seconds, abs=0.1)
    assert by_worker(done)[0][0].startswith("fuse-flows@")
