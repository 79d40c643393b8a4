"""The chain of segments: what lies on the LaunchPad and in the JobStore, and running without either."""

import pytest
from jobflow import run_locally

from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.flows.search import SearchMaker
from fuse_flows.store.queries import best_candidates, candidates

pytestmark = pytest.mark.mongo


def config(**changes):
    values = {
        "formula": "Al",
        "max_atoms": 4,
        "generator": {"initial_structures": 4},
        "stop": {"max_structures": 12},
        "execution": {"jobs_per_segment": 3},
        "tiers": [{"calculator": "emt", "max_steps": 40, "fmax": 0.2, "smax": 2}],
    }
    return load_config(**values | changes)


@pytest.fixture(name="finished")
def _finished(connection):
    search = config()
    submit(connection, search)
    work(connection, search.search_id)
    return connection, search


def test_workflows_stay_short(finished):
    connection, search = finished
    workflows = list(connection.launchpad.workflows.find({}, {"nodes": 1, "metadata": 1, "state": 1}))
    assert {workflow["state"] for workflow in workflows} == {"COMPLETED"}
    assert sorted(len(workflow["nodes"]) for workflow in workflows) == [2, 3, 3, 5]
    assert {workflow["metadata"]["search_id"] for workflow in workflows} == {search.search_id}
    assert len({workflow["metadata"]["once"] for workflow in workflows}) == 4


def test_every_job_carries_the_metadata_and_a_title(finished):
    connection, search = finished
    for firework in connection.launchpad.fireworks.find({}):
        assert firework["spec"]["search_id"] == search.search_id
        assert firework["spec"]["formula"] == "Al"
        assert firework["name"].endswith("of Al")
    for document in connection.jobstore.query({}, ["metadata", "hosts"]):
        assert document["metadata"]["search_id"] == search.search_id
        assert len(document["hosts"]) <= 2


def test_view_holds_one_document_per_candidate(finished):
    connection, search = finished
    view = connection.launchpad.db["fuse_candidates"]
    assert view.count_documents({}) == view.count_documents({"search_id": search.search_id}) == 12
    best = view.find_one({"formula_pretty": "Al", "outcome": "CONVERGED"}, sort=[("energy_per_atom", 1)])
    assert best["candidate_id"] == best_candidates(connection, search.search_id, 1)[0]["candidate_id"]


def test_candidates_tell_where_they_come_from(finished):
    connection, search = finished
    documents = candidates(connection, search.search_id)
    keys = {document["candidate_id"] for document in documents}
    for document in documents:
        if document["step"] == 0:
            assert (document["source"], document["parent_id"], document["accepted"]) == ("random", None, None)
        else:
            assert document["source"] == "move"
            assert document["parent_id"] in keys
            assert document["accepted"] in (True, False)
        if document["outcome"] == "CONVERGED":
            assert document["energy"] == pytest.approx(document["energy_per_atom"] * document["n_atoms"])
            assert document["chemsys"] == "Al"
            assert document["space_group_number"] >= document["space_group_number_tight"] >= 1
            assert len(document["structure"]["sites"]) == document["n_atoms"] == document["nsites"]


def test_run_locally_takes_the_same_steps(finished, tmp_path):
    connection, search = finished
    from jobflow import JobStore
    from maggma.stores import MemoryStore

    store = JobStore(MemoryStore())
    run_locally(SearchMaker(search).make(), store=store, root_dir=tmp_path, ensure_success=True, log=False)
    found = [
        candidate["energy_per_atom"]
        for document in store.query({"output.candidates": {"$exists": True}}, sort={"output.step": 1})
        for candidate in document["output"]["candidates"]
    ]
    expected = [document["energy_per_atom"] for document in candidates(connection, search.search_id)]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_bad_structures_are_recorded_outcomes(connection):
    """Two atoms that cannot be kept 30 A apart, and a tier that refuses every structure: the search still ends."""
    search = config(tiers=[{"calculator": "emt", "min_distance": 30.0}])
    submit(connection, search)
    work(connection, search.search_id)
    documents = candidates(connection, search.search_id)
    assert len(documents) == 12
    assert {document["outcome"] for document in documents} == {"TOO_CLOSE"}
    assert {document["energy_per_atom"] for document in documents} == {None}
    assert all(document["reason"] for document in documents)
