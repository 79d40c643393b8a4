"""Workers that have nothing to do find jobs whose worker is gone, and nobody has to come and mend them."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from fireworks import FWorker
from jobflow import Flow, job
from jobflow.managers.fireworks import flow_to_workflow

from fuse_flows.config import load_config
from fuse_flows.flows.idle import MOST_LOSSES, IdleRepair
from fuse_flows.flows.local import start_workers, submit, work
from fuse_flows.settings import settings
from fuse_flows.store.lost import REPAIRS, claim_repair, suspicious_jobs
from fuse_flows.store.processes import worker_name
from fuse_flows.store.queries import candidates
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

SEARCH = "MgO-1"


def search_config():
    return load_config(
        formula="Cu3Au",
        max_atoms=4,
        seed=5,
        generator={"initial_structures": 2},
        stop={"max_structures": 20},
        execution={"structures_per_job": 2, "steps_per_job": 100},
        tiers=[{"calculator": "emt", "max_steps": 40, "fmax": 0.05, "smax": 0.5}],
    )


def sequence(connection, search_id):
    return [(one["candidate_id"], one["energy_per_atom"], one["accepted"]) for one in candidates(connection, search_id)]


def test_waiting_worker_goes_on_with_the_job_of_a_killed_one(connection_factory, tmp_path, monkeypatch):
    """Two workers and one long job: the one that runs it dies by kill -9, the other one finds out by itself."""
    search = search_config()
    undisturbed = connection_factory()
    submit(undisturbed, search)
    work(undisturbed, search.search_id)

    connection = connection_factory()
    monkeypatch.setenv("FUSE_FLOWS_REPAIR_EVERY", "0.5")
    submit(connection, search)
    workers = {process.pid: process for process in start_workers(connection, search.search_id, 2, tmp_path / "workers")}
    deadline, running = time.monotonic() + 300, None
    while running is None and time.monotonic() < deadline:
        walk = connection.launchpad.fireworks.find_one({"state": "RUNNING", "name": {"$regex": "^search"}})
        query = {"state": "RUNNING", "fw_id": walk and walk["fw_id"]}
        running = connection.launchpad.launches.find_one(query) if walk else None
        time.sleep(0.01)
    killed = workers.pop(int(re.search(r":(\d+)$", running["fworker"]["name"])[1]))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (other,) = workers.values()
    assert other.wait(timeout=600) == 0
    assert connection.launchpad.launches.find_one({"launch_id": running["launch_id"]})["state"] == "FIZZLED"
    logs = "".join(path.read_text() for path in (tmp_path / "workers").glob("worker-*.log"))
    assert "jobs were lost" in logs
    assert search_document(connection, search.search_id).status == "finished"
    assert sequence(connection, search.search_id) == sequence(undisturbed, search.search_id)


@pytest.fixture(name="dead")
def _dead():
    """The name of a worker whose process is gone."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return worker_name(process.pid)


def add(connection, number=1):
    flow = Flow([job(abs)(-1) for _ in range(number)])
    flow.update_metadata({"search_id": SEARCH}, dynamic=True)
    connection.launchpad.add_wf(flow_to_workflow(flow, metadata={"search_id": SEARCH}))


def take(connection, worker, tmp_path):
    firework, launch_id = connection.launchpad.checkout_fw(FWorker(worker), str(tmp_path))
    return firework.fw_id, launch_id


def state_of(connection, fw_id):
    return connection.launchpad.fireworks.find_one({"fw_id": fw_id})["state"]


def idle(connection, search_id=SEARCH):
    return IdleRepair(connection.launchpad, search_id, worker_name(), _looked=-1e9)


def test_jobs_that_run_normally_are_left_alone(connection, tmp_path):
    add(connection, 3)
    take(connection, worker_name(os.getppid()), tmp_path)  # lives
    take(connection, "some@where:17", tmp_path)  # pinged just now
    connection.launchpad.reserve_fw(FWorker("queue"), str(tmp_path))
    assert not suspicious_jobs(connection.launchpad, SEARCH, lost_after=600)
    assert not suspicious_jobs(connection.launchpad, None, lost_after=600)
    assert not idle(connection).look()
    assert REPAIRS not in connection.database.list_collection_names(), "nothing is written"
    assert len(suspicious_jobs(connection.launchpad, None, lost_after=-1)) == 1


def test_lost_job_is_mended_by_whoever_looks_first(connection, tmp_path, dead):
    add(connection, 2)
    lost, _ = take(connection, dead, tmp_path)
    running, _ = take(connection, worker_name(os.getppid()), tmp_path)
    assert {fw_id for fw_id, _ in suspicious_jobs(connection.launchpad, None, lost_after=600)} == {lost}
    assert not suspicious_jobs(connection.launchpad, "other-1", lost_after=600)
    soon = IdleRepair(connection.launchpad, SEARCH, worker_name())
    assert not soon.look(), "it has only just begun to wait"
    first, second = idle(connection), idle(connection)
    assert first.look()
    assert (state_of(connection, lost), state_of(connection, running)) == ("READY", "RUNNING")
    assert second.mend() is None, "one is enough for a while"
    assert not idle(connection).look()


def test_reservation_that_nobody_holds(connection, tmp_path):
    add(connection)
    firework, _ = connection.launchpad.reserve_fw(FWorker("queue"), str(tmp_path))
    connection.launchpad.launches.delete_many({})
    assert idle(connection).look()
    assert state_of(connection, firework.fw_id) == "READY"


def test_job_that_kills_its_workers_fails_in_the_end(connection, tmp_path, dead, monkeypatch):
    monkeypatch.setenv("FUSE_FLOWS_REPAIR_EVERY", "0.001")
    settings.cache_clear()
    add(connection)
    states = []
    for _ in range(MOST_LOSSES):
        fw_id, _ = take(connection, dead, tmp_path)
        assert idle(connection).mend()
        states.append(state_of(connection, fw_id))
    assert states == ["READY"] * (MOST_LOSSES - 1) + ["FIZZLED"]
    assert not idle(connection).mend(), "failed jobs are for somebody to look at"


def test_one_leave_at_a_time(connection):
    launchpad = connection.launchpad
    assert [claim_repair(launchpad, SEARCH, 60) for _ in range(2)] == [True, False]
    assert claim_repair(launchpad, None, 60), "of another scope"
    assert claim_repair(launchpad, SEARCH, 0)
