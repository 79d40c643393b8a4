import pytest
from fireworks import Firework, PyTask, Workflow
from pymongo.errors import DuplicateKeyError

from fuse_flows.errors import DatabaseError
from fuse_flows.schemas.candidate import CandidateDoc
from fuse_flows.store.setup import candidates_pipeline, ensure_indexes

pytestmark = pytest.mark.mongo


def job(search_id, step, n=2, **metadata):
    members = [
        {"candidate_id": f"{search_id}/{step}/{k}", "search_id": search_id, "step": step, "index": k, "outcome": "X"}
        for k in range(n)
    ]
    output = {"kind": "steps", "search_id": search_id, "step": step, "candidates": members}
    metadata |= {"search_id": search_id}
    return {"uuid": f"{search_id}-{step}", "index": 1, "output": output, "metadata": metadata}


@pytest.fixture(name="filled")
def _filled(connection):
    connection.outputs.insert_many([job(f"MgO-{s:02d}", step) for s in range(20) for step in range(15)])
    connection.outputs.insert_many(
        [{"uuid": f"other-{n}", "index": 1, "output": n, "metadata": {}} for n in range(100)]
    )
    return connection


def plan(collection, *stages):
    found = collection.database.command(
        "explain", {"aggregate": collection.name, "pipeline": list(stages), "cursor": {}}, verbosity="executionStats"
    )
    return found.get("stages", [found])


def names(tree):
    """Return every access of a query plan."""
    if isinstance(tree, dict):
        yield from [tree["stage"]] if isinstance(tree.get("stage"), str) else []
        for value in tree.values():
            yield from names(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from names(value)


def state_of(connection):
    indexes = {
        name: connection.database[name].index_information()
        for name in ("fireworks", "workflows", "launches", "outputs", "outputs_blobs.files")
    }
    return indexes, list(connection.database.fw_id_assigner.find()), list(connection.database.list_collections())


def test_made_twice_without_harm(filled):
    filled.launchpad.add_wf(Workflow([Firework(PyTask(func="str"))]))
    before = state_of(filled)
    ensure_indexes(filled)
    assert state_of(filled) == before
    assert filled.candidates.count_documents({}) == 600
    assert filled.launchpad.fireworks.count_documents({}) == 1


def test_new_launchpad_can_be_used_at_once(connection):
    assert connection.database.fw_id_assigner.find_one({}) == {"_id": -1, "next_fw_id": 1, "next_launch_id": 1}
    ids = connection.launchpad.add_wf(Workflow([Firework(PyTask(func="str"))]))
    assert list(ids.values()) == [1]
    assert connection.launchpad.fireworks.index_information()["fw_id_1"]["unique"]


def test_lost_counter_goes_on_behind_what_is_there(connection):
    connection.launchpad.add_wf(Workflow([Firework(PyTask(func="str")) for _ in range(4)]))
    connection.database.fw_id_assigner.delete_many({})
    ensure_indexes(connection)
    ids = connection.launchpad.add_wf(Workflow([Firework(PyTask(func="str"))]))
    assert list(ids.values()) == [5]
    assert connection.launchpad.fireworks.count_documents({}) == 5


def test_counter_of_another_origin_is_left_alone(connection):
    connection.database.fw_id_assigner.delete_many({})
    connection.database.fw_id_assigner.insert_one({"next_fw_id": 100, "next_launch_id": 100})
    ensure_indexes(connection)
    assert connection.launchpad.get_new_fw_id() == 100
    assert connection.database.fw_id_assigner.count_documents({}) == 1


def test_unique_keys_hold(connection):
    connection.outputs.insert_one(job("MgO-1", 1))
    with pytest.raises(DuplicateKeyError):
        connection.outputs.insert_one(job("MgO-1", 1))
    connection.database.workflows.insert_many([{"metadata": {}, "n": 1}, {"metadata": {}, "n": 2}])  # no key: no clash
    connection.database.workflows.insert_one({"metadata": {"once": "a"}})
    with pytest.raises(DuplicateKeyError):
        connection.database.workflows.insert_one({"metadata": {"once": "a"}})


@pytest.mark.parametrize(
    ("collection", "query", "sort"),
    [
        ("workflows", {"metadata.search_id": "MgO-03"}, {"nodes": 1}),
        ("workflows", {"metadata.once": "a"}, {"nodes": 1}),
        ("fireworks", {"spec.search_id": "MgO-03", "state": "READY"}, {"name": 1}),
        ("outputs", {"uuid": "a", "index": 1}, {"uuid": 1}),
        ("outputs", {"metadata.search_id": "MgO-03", "output.kind": "steps"}, {"uuid": 1}),
        ("outputs", {"metadata.search_id": "MgO-03", "output.walker": 2, "output.step": {"$gt": 3}}, {"uuid": 1}),
        ("outputs_blobs.files", {"metadata.blob_uuid": "a"}, {"filename": 1}),
    ],
)
def test_queries_use_the_indexes(filled, collection, query, sort):
    accesses = set(names(plan(filled.database[collection], {"$match": query}, {"$sort": sort})))
    assert "IXSCAN" in accesses
    assert "COLLSCAN" not in accesses


def test_newest_step_is_read_from_the_index(filled):
    query = {"metadata.search_id": "MgO-03", "output.state": {"$exists": False}}
    found = filled.outputs.find(query).sort("output.step", -1).limit(1).explain()["executionStats"]["executionStages"]
    assert "SORT" not in set(names(found))
    assert found["works"] <= 3


@pytest.mark.parametrize(
    "condition", ["MgO-03", {"$in": ["MgO-03"]}, {"$regex": "^MgO-03"}, {"$gte": "MgO-03", "$lt": "MgO-04"}]
)
def test_view_finds_a_search_by_index(filled, condition):
    query = {"search_id": condition, "outcome": "X"}
    found = list(filled.candidates.find(query))
    assert len(found) == 30
    assert {document["search_id"] for document in found} == {"MgO-03"}
    stages = plan(filled.candidates, {"$match": query}, {"$sort": {"step": 1}})
    accesses = set(names(stages))
    assert "DISTINCT_SCAN" in accesses
    assert "COLLSCAN" not in accesses
    (first,) = [stage for stage in stages if "$cursor" in stage]
    assert first["$cursor"]["executionStats"]["totalDocsExamined"] == 0
    start, join = [stage for stage in stages if "$lookup" in stage]
    assert start["nReturned"] == 1
    assert join["nReturned"] == 15  # the documents of this search and no other
    assert [next(iter(stage)) for stage in stages].index("$match") < stages.index(start)


def test_view_shows_every_field_of_a_candidate(connection):
    member = {name: f"value of {name}" for name in CandidateDoc.model_fields} | {"search_id": "MgO-1"}
    document = job("MgO-1", 1)
    document["output"]["candidates"] = [member]
    connection.outputs.insert_one(document)
    assert connection.candidates.find_one({"search_id": "MgO-1"}) == member


def test_view_follows_the_fields_of_a_new_version(filled):
    pipeline = candidates_pipeline("outputs", ["step"])
    filled.database.command("collMod", "fuse_candidates", viewOn="outputs", pipeline=pipeline)
    assert set(filled.candidates.find_one({})) == {"search_id", "step"}
    ensure_indexes(filled)
    assert set(filled.candidates.find_one({})) == {"search_id", "step", "candidate_id", "index", "outcome"}


def test_collection_under_the_name_of_the_view(connection):
    connection.database.drop_collection("fuse_candidates")
    connection.database.fuse_candidates.insert_one({"mine": 1})
    with pytest.raises(DatabaseError, match="rename it"):
        ensure_indexes(connection)
    assert connection.database.fuse_candidates.count_documents({}) == 1


def test_duplicates_that_forbid_the_index(connection):
    connection.outputs.drop_indexes()
    connection.outputs.insert_many([job("MgO-1", 1), job("MgO-1", 1)])
    with pytest.raises(DatabaseError, match="cannot be made"):
        ensure_indexes(connection)
