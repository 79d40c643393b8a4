"""What a step knows of visited minima is what lies in the database, whichever process reads it and when."""

import contextlib
from dataclasses import replace
from uuid import uuid4

import pytest
from jobflow import CURRENT_JOB

from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.jobs import visited as reading
from fuse_flows.jobs.visited import cluster_fields, minima_of, read_visited
from fuse_flows.search.state import SearchState
from fuse_flows.search.visited import VisitedMinima
from fuse_flows.store.connection import connect_server
from fuse_flows.store.queries import best_candidates, candidates, latest_state
from fuse_flows.store.setup import ensure_indexes

pytestmark = pytest.mark.mongo
INITIAL, STRUCTURES = 8, 30


def config(**changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 3,
        "generator": {"initial_structures": INITIAL, "initial_max_atoms": 4},
        "stop": {"max_structures": STRUCTURES},
        "execution": {"structures_per_job": 3, "steps_per_job": 2, "jobs_per_segment": 4},
        "duplicates": {"reject": True, "redraws": 5},
        "tiers": [{"calculator": "emt", "max_steps": 40, "fmax": 0.2, "smax": 2}],
    }
    return load_config(**values | changes)


@pytest.fixture(name="finished", scope="module")
def _finished(mongo_server, tmp_path_factory):
    """A search that has come to its end; nobody writes into its database any more."""
    connection = connect_server(replace(mongo_server, db_name=f"test_{uuid4().hex[:12]}"))
    ensure_indexes(connection)
    search = config()
    submit(connection, search)
    with contextlib.chdir(tmp_path_factory.mktemp("search")):
        work(connection, search.search_id)
    yield connection, search
    connection.database.client.drop_database(connection.database.name)
    connection.close()


@pytest.fixture(autouse=True)
def _nothing_read_yet():
    reading._known.cache_clear()


@pytest.fixture(name="read_at")
def _read_at(finished, monkeypatch):
    """A function that reads what is known after a step, as the job of the next one does."""
    connection, search = finished
    monkeypatch.setattr(CURRENT_JOB, "store", connection.jobstore)
    state = SearchState.model_validate(latest_state(connection, search.search_id))
    return lambda step: read_visited(search, state.model_copy(update={"step": step}))


def ids(visited):
    """The representatives, in an order of their own."""
    before = [] if visited._before is None else ids(visited._before)
    own = [known.candidate_id for bins in visited._by_volume.values() for minima in bins.values() for known in minima]
    return sorted([*before, *own])


def expected(connection, search, step):
    documents = candidates(connection, search.search_id, step={"$lte": step}, is_duplicate=False)
    return sorted(document["candidate_id"] for document in documents)


def test_stored_clusters_are_those_of_all_candidates_in_order(finished):
    connection, search = finished
    documents = candidates(connection, search.search_id)
    fresh = VisitedMinima(search.duplicates)
    for document in documents:
        found = cluster_fields(document, fresh)
        assert (document["cluster_id"], document["is_duplicate"]) == (
            found.get("cluster_id"),
            found.get("is_duplicate"),
        )
        assert (document["fingerprint"] is None) == (document["energy_per_atom"] is None)
        if document["step"]:
            assert (document["verdict"] == "visited minimum") == bool(document["is_duplicate"])
    population = [document for document in documents if document["step"] == 0]
    for members in (population, documents[INITIAL:]):  # so that both ways of storing clusters are seen at work
        assert {document["is_duplicate"] for document in members} >= {True, False}


def test_view_shows_the_same_clusters(finished):
    connection, search = finished
    seen = {found["candidate_id"]: found for found in connection.candidates.find({"search_id": search.search_id})}
    documents = candidates(connection, search.search_id)
    assert [seen[document["candidate_id"]] for document in documents] == documents
    assert connection.candidates.count_documents({"is_duplicate": True}) == sum(
        document["is_duplicate"] or False for document in documents
    )


def test_best_are_one_per_cluster_with_their_copies(finished):
    connection, search = finished
    every = best_candidates(connection, search.search_id, STRUCTURES)
    unique = best_candidates(connection, search.search_id, STRUCTURES, unique=True)
    assert unique[0] == every[0] | {"copies": unique[0]["copies"]}
    assert len({document["cluster_id"] for document in unique}) == len(unique) < len(every)
    assert sum(document["copies"] for document in unique) == len(every)
    for document in unique:
        members = [other for other in every if other["cluster_id"] == document["cluster_id"]]
        assert (members[0]["candidate_id"], len(members)) == (document["candidate_id"], document["copies"])


def test_reading_on_equals_reading_afresh_at_every_step(finished, read_at):
    connection, search = finished
    last = latest_state(connection, search.search_id)["step"]
    steps = range(0, last + 1, search.execution.steps_per_job)
    grown = [ids(read_at(step)) for step in steps]
    assert grown == [expected(connection, search, step) for step in steps]
    assert len(grown[-1]) > len(grown[0]) > 0
    for step, known in reversed(list(zip(steps, grown, strict=True))):  # back in time: what came later is forgotten
        assert ids(read_at(step)) == known


def test_reading_on_reads_only_what_is_new(finished, read_at, monkeypatch):
    connection, search = finished
    read_at(10)
    read = []

    def query(criteria, properties, **options):
        read.extend(found := list(connection.jobstore.query(criteria, properties, **options)))
        return found

    class Spy:
        pass

    spy = Spy()
    spy.query = query
    monkeypatch.setattr(CURRENT_JOB, "store", spy)
    assert ids(read_at(12)) == expected(connection, search, 12)
    assert sorted(document["output"]["step"] for document in read) == [10, 12]


def test_another_database_is_read_afresh(finished, read_at, connection_factory, monkeypatch):
    connection, search = finished
    other = connection_factory()
    submit(other, config(stop={"max_structures": INITIAL + 4}))
    work(other, search.search_id)
    other.outputs.update_many({"output.kind": "start"}, {"$set": {"output.clusters": {}}})
    reading._known.cache_clear()
    monkeypatch.setattr(CURRENT_JOB, "store", connection.jobstore)
    known = ids(read_at(4))
    monkeypatch.setattr(CURRENT_JOB, "store", other.jobstore)
    assert len(ids(read_at(4))) < len(known)


def test_what_a_job_adds_is_its_own(finished, read_at):
    _, search = finished
    visited = read_at(4)
    before = ids(visited)
    late = candidates(finished[0], search.search_id, step={"$gt": 4}, is_duplicate=False)
    for minimum in minima_of(late):
        visited.cluster_of(minimum)
    assert len(visited) > len(before)
    assert ids(read_at(4)) == before


def test_steps_are_read_by_index(finished):
    connection, search = finished
    query = {"metadata.search_id": search.search_id, "output.step": {"$gte": 2, "$lte": 4}, "output.walker": 0}
    found = connection.outputs.find(query).sort("output.step", 1).explain()["executionStats"]
    assert found["totalDocsExamined"] <= 3
    assert "SORT" not in str(found["executionStages"])


def test_without_duplicates_the_search_compares_nothing(connection):
    search = config(duplicates={"enabled": False}, stop={"max_structures": INITIAL + 6})
    assert search.search_id != config().search_id
    submit(connection, search)
    work(connection, search.search_id)
    documents = candidates(connection, search.search_id)
    assert {document["cluster_id"] for document in documents} == {None}
    assert "visited minimum" not in {document["verdict"] for document in documents}
    unique = best_candidates(connection, search.search_id, STRUCTURES, unique=True)
    found = best_candidates(connection, search.search_id, STRUCTURES)
    assert sum(document["copies"] for document in unique) == len(found), "results are compared when they are shown"
    assert len(unique) < len(found)
