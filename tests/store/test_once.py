from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from fireworks import FWorker, LaunchPad, Workflow
from fireworks.core.rocket_launcher import rapidfire
from jobflow import Flow, job
from jobflow.managers.fireworks import flow_to_workflow

from fuse_flows.errors import DatabaseError
from fuse_flows.store import once
from fuse_flows.store.jobstore import use_jobstore
from fuse_flows.store.once import add_once
from fuse_flows.store.repair import repair

pytestmark = pytest.mark.mongo
TIMES = ("_id", "created_on", "updated_on")


def diamond():
    """Return four fireworks: one, two that follow, and one that follows both."""
    first = job(abs)(-1)
    left, right = job(abs)(first.output), job(abs)(first.output)
    last = job(divmod)(left.output, right.output)
    flow = Flow([first, left, right, last])
    flow.update_metadata({"search_id": "MgO-1"})
    return flow_to_workflow(flow, metadata={"search_id": "MgO-1"})


def is_one_workflow(launchpad, ready=1):
    (workflow,) = launchpad.workflows.find({})
    states = {found["fw_id"]: found["state"] for found in launchpad.fireworks.find({})}
    assert sorted(states) == sorted(workflow["nodes"])
    assert sorted(states.values()) == ["READY"] * ready + ["WAITING"] * (4 - ready)
    assert {int(fw_id): state for fw_id, state in workflow["fw_states"].items()} == states
    return True


class ProcessDiedError(BaseException):
    """Stands for the end of the process."""


def die(*_args, **_kwargs):
    raise ProcessDiedError


def test_second_time_is_nothing(connection):
    assert add_once(connection.launchpad, diamond(), "a")
    assert not add_once(connection.launchpad, diamond(), "a")
    assert is_one_workflow(connection.launchpad)
    (workflow,) = connection.launchpad.workflows.find({})
    assert workflow["metadata"] == {"search_id": "MgO-1", "once": "a"}
    assert add_once(connection.launchpad, diamond(), "b")
    assert connection.launchpad.workflows.count_documents({}) == 2


def test_same_as_added_by_fireworks(connection):
    """But for the ids, the times and the key, both leave the same documents."""
    launchpad = connection.launchpad
    workflow = diamond()
    template = workflow.to_dict()

    def documents():
        (found,) = launchpad.workflows.find({})
        first = min(found["nodes"])
        links = {int(fw_id) - first: {child - first for child in after} for fw_id, after in found["links"].items()}
        parents = {int(fw_id) - first: len(before) for fw_id, before in found["parent_links"].items()}
        states = {int(fw_id) - first: state for fw_id, state in found["fw_states"].items()}
        fireworks = list(
            launchpad.fireworks.find({}, {"_id": 0, "created_on": 0, "updated_on": 0}, sort=[("fw_id", 1)])
        )
        for firework in fireworks:
            firework["fw_id"] -= first
        return found["state"], found["name"], set(found), links, parents, states, fireworks

    launchpad.add_wf(workflow)
    expected = documents()
    launchpad.fireworks.delete_many({})
    launchpad.workflows.delete_many({})
    add_once(launchpad, Workflow.from_dict(template), "a")
    assert documents() == expected


def test_runs_to_its_end(connection):
    add_once(connection.launchpad, diamond(), "a")
    with use_jobstore(connection.jobstore):
        rapidfire(connection.launchpad, FWorker(), strm_lvl="ERROR")
    assert connection.launchpad.workflows.find_one({})["state"] == "COMPLETED"
    assert not add_once(connection.launchpad, diamond(), "a")
    assert connection.launchpad.get_fw_ids({"state": "COMPLETED"}, count_only=True) == 4


@pytest.mark.parametrize("round_number", range(3))
def test_many_at_once(connection, round_number):
    adders = 8
    barrier = Barrier(adders)

    def add(_):
        launchpad = LaunchPad.from_dict(connection.launchpad.to_dict())
        launchpad.fireworks.find_one({})
        barrier.wait()
        added = add_once(launchpad, diamond(), f"round {round_number}")
        launchpad.connection.close()
        return added

    with ThreadPoolExecutor(adders) as pool:
        assert sum(pool.map(add, range(adders))) == 1
    assert is_one_workflow(connection.launchpad)


def test_death_before_the_workflow_is_there(connection, monkeypatch):
    launchpad = connection.launchpad
    with monkeypatch.context() as patch:
        patch.setattr(launchpad.workflows, "insert_one", die)
        with pytest.raises(ProcessDiedError):
            add_once(launchpad, diamond(), "a")
    assert launchpad.fireworks.count_documents({}) == 4
    assert not launchpad.run_exists(FWorker())  # nobody runs what has no workflow
    assert add_once(launchpad, diamond(), "a")
    assert repair(launchpad, "MgO-1", lost_after=None, patience=0).orphans == 4
    assert is_one_workflow(launchpad)


@pytest.mark.parametrize("mend", ["add again", "repair"])
def test_death_before_the_release(connection, monkeypatch, mend):
    launchpad = connection.launchpad
    with monkeypatch.context() as patch:
        patch.setattr(once, "release_roots", die)
        with pytest.raises(ProcessDiedError):
            add_once(launchpad, diamond(), "a")
    assert not launchpad.run_exists(FWorker())
    if mend == "repair":
        assert repair(launchpad, "MgO-1", lost_after=None, patience=0).released == 1
    else:
        assert not add_once(launchpad, diamond(), "a")
    assert is_one_workflow(launchpad)
    assert not repair(launchpad, lost_after=None, patience=0).anything


def test_refused_without_the_unique_index(connection):
    connection.launchpad.workflows.drop_indexes()
    with pytest.raises(DatabaseError, match="fuse-flows init"):
        add_once(connection.launchpad, diamond(), "a")
    assert connection.launchpad.fireworks.count_documents({}) == 0
