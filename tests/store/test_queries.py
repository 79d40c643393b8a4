from datetime import datetime, timedelta

import pytest
from jobflow import Flow, job
from jobflow.managers.fireworks import flow_to_workflow

from fuse_flows.errors import DatabaseError
from fuse_flows.store.queries import (
    best_candidates,
    candidates,
    find_search,
    latest_state,
    search_ids,
)
from fuse_flows.store.tallies import outcome_counts

pytestmark = pytest.mark.mongo
OLD, NEW, OTHER = "MgO-0000000001", "MgO-00000000ff", "Mg2O-0000000001"


def member(search_id, step, energy, index=0, walker=0, **more):
    outcome = "CONVERGED" if energy is not None else "TOO_CLOSE"
    values = {"search_id": search_id, "step": step, "index": index, "walker": walker, "outcome": outcome}
    return values | {"candidate_id": f"{walker}/{step}/{index}", "energy_per_atom": energy} | more


def store(connection, search_id, step, members, *, day=1, walker=0, **output):
    document = {"search_id": search_id, "step": step, "walker": walker, "candidates": members} | output
    connection.jobstore.update(
        {
            "uuid": f"{search_id}-{walker}-{step}",
            "index": 1,
            "output": document,
            "metadata": {"search_id": search_id, "formula": search_id.split("-")[0]},
            "completed_at": f"2026-01-{day:02d}T00:00:00",
        }
    )


@pytest.fixture(name="searched")
def _searched(connection):
    """Three searches: an old one with two walkers, a new one of the same formula, and one of a formula like it."""
    first = [member(OLD, 0, -1.0, 0), member(OLD, 0, None, 1), member(OLD, 0, -2.0, 2)]
    store(connection, OLD, None, first, kind="population")
    store(connection, OLD, 0, [], kind="start", state={"step": 0})
    for step, energy in enumerate([-2.0, None, -3.0], start=1):
        store(connection, OLD, step, [member(OLD, step, energy)], kind="steps", state={"step": step}, day=1 + step)
    store(connection, OLD, 2, [member(OLD, 2, -2.5, walker=1)], walker=1, kind="steps", state={"step": 2, "walker": 1})
    store(connection, NEW, None, [member(NEW, 0, -9.0)], kind="population", day=20)
    store(connection, OTHER, None, [member(OTHER, 0, -99.0)], kind="population", day=30)
    connection.jobstore.update({"uuid": "of-another-project", "index": 1, "output": 1, "metadata": {}})
    return connection


def test_candidates_in_the_order_of_the_search(searched):
    assert [found["candidate_id"] for found in candidates(searched, OLD)] == [
        *("0/0/0", "0/0/1", "0/0/2", "0/1/0", "0/2/0", "0/3/0"),
        "1/2/0",
    ]
    assert [found["step"] for found in candidates(searched, OLD, outcome="TOO_CLOSE")] == [0, 2]
    assert [found["step"] for found in candidates(searched, OLD, energy_per_atom={"$lt": -2.2}, walker=0)] == [3]
    assert candidates(searched, "MgO") == []


def test_conditions_of_every_form(searched):
    low, late = {"energy_per_atom": {"$lt": -1.5}}, {"step": {"$gte": 2}}
    assert [found["candidate_id"] for found in candidates(searched, OLD, **{"$and": [low, late]})] == ["0/3/0", "1/2/0"]
    either = candidates(searched, OLD, **{"$or": [{"outcome": "TOO_CLOSE"}, {"$nor": [{"walker": 0}]}]})
    assert [found["candidate_id"] for found in either] == ["0/0/1", "0/2/0", "1/2/0"]
    computed = {"$expr": {"$eq": ["$step", "$index"]}}  # what it asks about is not looked for: all fields are read
    assert [found["candidate_id"] for found in candidates(searched, OLD, **computed)] == ["0/0/0"]


def test_documents_come_in_batches_and_in_order(searched, monkeypatch):
    everything, best = candidates(searched, OLD), best_candidates(searched, "MgO", None)
    assert len(best) == 6
    monkeypatch.setattr("fuse_flows.store.queries._FIRST_BATCH", 1)
    monkeypatch.setattr("fuse_flows.store.queries._LARGEST_BATCH", 2)
    assert candidates(searched, OLD) == everything
    assert best_candidates(searched, "MgO", None) == best


def test_best_first_and_ties_by_age(searched):
    best = best_candidates(searched, OLD)
    assert [(found["energy_per_atom"], found["step"]) for found in best] == [
        *[(-3.0, 3), (-2.5, 2), (-2.0, 0), (-2.0, 1), (-1.0, 0)]
    ]
    assert best_candidates(searched, OLD, top=2) == best[:2]


def test_best_of_a_formula_takes_all_its_searches_and_no_other(searched):
    assert [found["search_id"] for found in best_candidates(searched, "MgO", top=2)] == [NEW, OLD]
    assert [found["search_id"] for found in best_candidates(searched, "Mg2O")] == [OTHER]
    assert best_candidates(searched, "Mg") == []


def test_view_gives_the_same_best(searched):
    query = {"search_id": OLD, "outcome": "CONVERGED"}
    order = [("energy_per_atom", 1), ("step", 1), ("index", 1)]
    (seen,) = searched.candidates.find(query).sort(order).limit(1)
    assert seen == best_candidates(searched, OLD, top=1)[0]


def test_counts(searched):
    assert outcome_counts(searched, OLD) == {"CONVERGED": 5, "TOO_CLOSE": 2}
    assert outcome_counts(searched, "none") == {}


def test_latest_state(searched):
    assert latest_state(searched, OLD) == {"step": 3}
    assert latest_state(searched, OLD, walker=1) == {"step": 2, "walker": 1}
    assert latest_state(searched, NEW) is None


def test_searches_newest_first(searched):
    found = [(found.search_id, found.formula, found.n_candidates) for found in search_ids(searched)]
    assert found == [(OTHER, "Mg2O", 1), (NEW, "MgO", 1), (OLD, "MgO", 7)]


def test_search_that_has_only_been_added(searched):
    flow = Flow([job(abs)(-1)])
    searched.launchpad.add_wf(flow_to_workflow(flow, metadata={"search_id": "NaCl-1"}))
    assert find_search(searched, "NaCl") == "NaCl-1"
    assert search_ids(searched)[0].search_id == "NaCl-1"
    assert search_ids(searched)[0].n_candidates == 0


def test_a_search_added_later_the_same_day_is_the_newest_of_its_formula(searched):
    assert find_search(searched, "MgO") == NEW
    moment = (datetime.now() - timedelta(milliseconds=1)).isoformat()  # noqa: DTZ005 - as jobflow writes it
    searched.outputs.update_many({}, {"$set": {"completed_at": moment}})
    searched.launchpad.add_wf(flow_to_workflow(Flow([job(abs)(-1)]), metadata={"search_id": "MgO-1"}))
    assert find_search(searched, "MgO") == "MgO-1"


def test_search_by_id_formula_or_beginning(searched):
    assert find_search(searched, OLD) == OLD
    assert find_search(searched, "MgO") == NEW
    assert find_search(searched, "O2Mg2") == NEW
    assert find_search(searched, "MgO-00000000f") == NEW
    assert find_search(searched, "Mg2") == OTHER


@pytest.mark.parametrize(
    ("text", "reason"),
    [("MgO-0", "write more of it"), ("Mg", "write more of it"), ("CaO", "neither a search nor"), ("", "neither")],
)
def test_search_that_cannot_be_told(searched, text, reason):
    with pytest.raises(DatabaseError, match=reason):
        find_search(searched, text)


def test_empty_database(connection):
    assert search_ids(connection) == []
    with pytest.raises(DatabaseError, match="it knows none yet"):
        find_search(connection, "MgO")
