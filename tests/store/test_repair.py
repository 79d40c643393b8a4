import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer

import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import rapidfire
from jobflow import Flow, OnMissing, job
from jobflow.managers.fireworks import flow_to_workflow

from fuse_flows.store.connection import write_jobflow_file, write_launchpad_file
from fuse_flows.store.jobstore import use_jobstore
from fuse_flows.store.processes import worker_name
from fuse_flows.store.repair import RepairReport, repair

pytestmark = pytest.mark.mongo
WORKERS = Path(__file__).parent / "workers"
STEPS = 4

# point, which time it is reached, what repair reports, steps that run twice
CRASHES = [
    ("job: before the output", 2, RepairReport(lost=1), [1]),
    ("job: after the output", 2, RepairReport(lost=1), [1]),
    ("end: launch there, nothing else", 2, RepairReport(replayed=1), []),
    ("end: child there, parent not", 2, RepairReport(unlocked=1, orphans=1, replayed=1), []),
    ("end: fireworks there, workflow not", 2, RepairReport(unlocked=1, orphans=1, replayed=1), []),
    ("end: before unlock", 2, RepairReport(unlocked=1), []),
    ("end: all done", 2, RepairReport(), []),
    ("checkout: reserved, no launch", 2, RepairReport(unreserved=1), []),
    ("checkout: launch there, firework not", 3, RepairReport(lost=1, unreserved=1), []),
    ("checkout: before the workflow", 2, RepairReport(lost=1), []),
    ("checkout: before unlock", 2, RepairReport(unlocked=1, lost=1), []),
    ("checkout: all done", 2, RepairReport(lost=1), []),
]


@pytest.fixture(name="ran")
def _ran(tmp_path, monkeypatch):
    """Return a function that tells which jobs have run so far, in order."""
    log = tmp_path / "ran.log"
    monkeypatch.setenv("RAN_LOG", str(log))
    monkeypatch.syspath_prepend(WORKERS)
    return lambda: log.read_text().splitlines() if log.exists() else []


def add(connection, flow, search_id="MgO-1"):
    flow.update_metadata({"search_id": search_id}, dynamic=True)
    ids = connection.launchpad.add_wf(flow_to_workflow(flow, metadata={"search_id": search_id}))
    return sorted(ids.values())


def run(connection, nlaunches=0):
    with use_jobstore(connection.jobstore):
        rapidfire(connection.launchpad, FWorker(worker_name()), nlaunches=nlaunches, sleep_time=0.05, strm_lvl="ERROR")


def states_by_name(connection):
    return {found["name"]: found["state"] for found in connection.launchpad.fireworks.find({})}


def states(connection):
    found = connection.launchpad.fireworks.find({}, sort=[("fw_id", 1)])
    return {firework["fw_id"]: firework["state"] for firework in found}


@pytest.mark.parametrize("crash", CRASHES, ids=[crash[0] for crash in CRASHES])
def test_chain_goes_on_after_a_crash(connection, ran, tmp_path, crash):
    from chain_jobs import step

    point, times, report, twice = crash

    add(connection, step(0, STEPS))
    write_launchpad_file(connection, tmp_path / "launchpad.yaml")
    write_jobflow_file(connection, tmp_path / "jobflow.yaml")
    env = os.environ | {
        "JOBFLOW_CONFIG_FILE": str(tmp_path / "jobflow.yaml"),
        "PYTHONPATH": os.pathsep.join([str(WORKERS), *sys.path]),
    }
    command = [sys.executable, WORKERS / "crash_worker.py", tmp_path / "launchpad.yaml", point, str(times)]
    crashed = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert crashed.returncode == 137, crashed.stdout + crashed.stderr
    assert len(ran()) < STEPS

    assert repair(connection.launchpad, "MgO-1", lost_after=None, patience=0) == report
    assert not repair(connection.launchpad, lost_after=None, patience=0).anything
    run(connection)

    assert list(states(connection).values()) == ["COMPLETED"] * STEPS
    assert [workflow["state"] for workflow in connection.launchpad.workflows.find({})] == ["COMPLETED"]
    assert connection.launchpad.workflows.count_documents({"locked": True}) == 0
    assert sorted(document["output"] for document in connection.jobstore.query({})) == list(range(STEPS))
    assert sorted(ran()) == sorted(f"step {i}" for i in [*range(STEPS), *twice])


def test_additions_are_replayed_once(connection, ran):
    from chain_jobs import step

    (first,) = add(connection, step(0, 2, mode="addition"))
    run(connection, nlaunches=1)
    (second,) = set(states(connection)) - {first}
    # as if the process had died before it wrote the workflow: the child is known to nobody
    workflow = connection.launchpad.workflows.find_one({"nodes": first})
    changes = {"links": {str(first): []}, "parent_links": {}, "nodes": [first], "fw_states": {str(first): "RUNNING"}}
    connection.launchpad.workflows.replace_one({"_id": workflow["_id"]}, workflow | changes | {"locked": True})
    report = repair(connection.launchpad, "MgO-1", lost_after=None, patience=0)
    assert report == RepairReport(unlocked=1, orphans=1, replayed=1)
    assert second not in states(connection)
    run(connection)
    assert list(states(connection).values()) == ["COMPLETED"] * 2
    assert ran() == ["step 0", "step 1"]


def running(connection, name, search_id="MgO-1", age=0.0):
    """Put a firework on the LaunchPad that a worker of that name runs, silent for so many seconds."""
    launchpad = connection.launchpad
    (fw_id,) = add(connection, job(abs)(-1), search_id)
    _, launch_id = launchpad.checkout_fw(FWorker(name), "/nowhere", fw_id=fw_id)
    launchpad.ping_launch(launch_id, datetime.now(UTC) - timedelta(seconds=age))
    return fw_id


def dead_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_living_worker_of_this_machine_is_never_lost(connection):
    fw_id = running(connection, worker_name(), age=1e6)
    assert not repair(connection.launchpad, lost_after=1.0, patience=0).anything
    assert states(connection) == {fw_id: "RUNNING"}


def test_dead_worker_of_this_machine_is_lost_at_once(connection):
    fw_id = running(connection, worker_name(dead_process()))
    assert repair(connection.launchpad, lost_after=None, patience=0) == RepairReport(lost=1)
    assert states(connection) == {fw_id: "READY"}


def test_worker_elsewhere_is_judged_by_its_pings(connection):
    old, young = running(connection, "cluster", age=500), running(connection, "fuse-flows@elsewhere:1", age=100)
    assert not repair(connection.launchpad, lost_after=None, patience=0).anything
    assert repair(connection.launchpad, lost_after=300, patience=0) == RepairReport(lost=1)
    assert states(connection) == {old: "READY", young: "RUNNING"}
    assert repair(connection.launchpad, lost_after=50, patience=0) == RepairReport(lost=1)
    assert states(connection) == {old: "READY", young: "READY"}


def test_only_the_search_that_is_named(connection):
    mine = running(connection, worker_name(dead_process()), "MgO-1")
    other = running(connection, worker_name(dead_process()), "MgO-2")
    connection.launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    report = repair(connection.launchpad, "MgO-1", lost_after=None, patience=0)
    assert report == RepairReport(unlocked=1, lost=1)
    assert states(connection) == {mine: "READY", other: "RUNNING"}
    assert repair(connection.launchpad, lost_after=None, patience=0) == report
    assert states(connection) == {mine: "READY", other: "READY"}


def test_lock_that_moves_on_is_left_to_its_holder(connection):
    fw_id = running(connection, worker_name())
    workflows = connection.launchpad.workflows
    workflows.update_one({}, {"$set": {"locked": True}})
    now = datetime.now(UTC).isoformat()
    holder = Timer(0.1, lambda: workflows.update_one({"nodes": fw_id}, {"$set": {"updated_on": now}}))
    holder.start()
    assert not repair(connection.launchpad, lost_after=None, patience=1.5).anything
    assert workflows.count_documents({"locked": True}) == 1
    assert repair(connection.launchpad, lost_after=None, patience=0.1) == RepairReport(unlocked=1)


def test_reservation_in_a_queue_is_left_alone(connection):
    (fw_id,) = add(connection, job(abs)(-1))
    connection.launchpad.reserve_fw(FWorker("cluster"), "/nowhere")
    assert not repair(connection.launchpad, lost_after=0.0, patience=0).anything
    assert states(connection) == {fw_id: "RESERVED"}


def test_failed_job_runs_again(connection, ran, tmp_path):
    from chain_jobs import collect, fails_once

    first = fails_once(str(tmp_path / "flag"))
    add(connection, Flow([first, collect([first.output])]))
    run(connection)
    assert states_by_name(connection) == {"fails_once": "FIZZLED", "collect": "WAITING"}
    launchpad = connection.launchpad
    assert not repair(launchpad, "MgO-1", lost_after=None, rerun_fizzled=False, patience=0).anything
    assert repair(launchpad, "MgO-1", lost_after=None, patience=0) == RepairReport(fizzled=1)
    run(connection)
    assert list(states(connection).values()) == ["COMPLETED", "COMPLETED"]
    assert ran() == ["fails_once", "fails_once", "collect"]


def test_failed_job_that_the_search_has_passed_stays(connection, ran, tmp_path):
    """A rerun would run again what followed it."""
    from chain_jobs import collect, fails_once

    first = fails_once(str(tmp_path / "flag"))
    last = collect([first.output])
    last.config.on_missing_references = OnMissing.NONE
    add(connection, Flow([first, last]))
    run(connection)
    assert states_by_name(connection) == {"fails_once": "FIZZLED", "collect": "COMPLETED"}
    assert not repair(connection.launchpad, "MgO-1", lost_after=None, patience=0).anything
    assert ran() == ["fails_once", "collect"]


def test_failures_of_other_projects_are_not_ours(connection):
    connection.launchpad.add_wf(flow_to_workflow(job(divmod)(1, 0)))
    run(connection)
    assert list(states(connection).values()) == ["FIZZLED"]
    assert not repair(connection.launchpad, lost_after=0.0, patience=0).anything


def test_report_is_plain():
    assert not RepairReport().anything
    assert RepairReport(lost=2).anything
    assert json.loads(json.dumps(vars(RepairReport(lost=2))))["lost"] == 2
