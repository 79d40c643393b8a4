"""A search stops on request or by the clock, says why, and goes on as if it had never stopped."""

import time

import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import launch_rocket

from fuse_flows.config import load_config
from fuse_flows.flows.local import extend, start_workers, submit, work
from fuse_flows.jobs.evaluate import evaluate, evaluation_of
from fuse_flows.search.judge import judge, start
from fuse_flows.search.propose import propose, propose_initial
from fuse_flows.store.jobs import active_jobs, unfinished_jobs
from fuse_flows.store.queries import candidates, latest_state
from fuse_flows.store.repair import repair
from fuse_flows.store.requests import REQUESTS, is_stop_requested, request_stop, withdraw_stop
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

INITIAL, STRUCTURES = 5, 16


def config(**changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 3,
        "generator": {"initial_structures": INITIAL},
        "stop": {"max_structures": STRUCTURES},
        "execution": {"jobs_per_segment": 4},
        "tiers": [{"calculator": "emt", "max_steps": 30, "fmax": 0.3, "smax": 3}],
    }
    return load_config(**values | changes)


def as_entry(candidate):
    return tuple(candidate[key] for key in ("candidate_id", "energy_per_atom", "move", "accepted", "outcome"))


def sequence(connection, search_id):
    return [as_entry(candidate) for candidate in candidates(connection, search_id)]


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed():
    """The sequence as the engine alone makes it, without jobs or databases."""
    search = config()
    found = [evaluate(propose_initial(search, index), search) for index in range(INITIAL)]
    state = start(search, [evaluation_of(candidate) for candidate in found])
    while not state.stop_reason:
        (proposal,) = propose(state, search)
        candidate = evaluate(proposal, search, state.references)
        verdict = judge(state, [(proposal, evaluation_of(candidate))], search)
        found.append(candidate | {"accepted": verdict.accepted[0]})
        state = verdict.state
    assert len({candidate["candidate_id"] for candidate in found}) == len(found) == STRUCTURES
    return [as_entry(candidate) for candidate in found]


def launch(connection, search_id, number):
    """Run some jobs, one after the other, as a worker does."""
    worker = FWorker(query={"spec.search_id": search_id})
    for _ in range(number):
        assert launch_rocket(connection.launchpad, worker, strm_lvl="WARNING")


def finish(connection, search):
    """Go on as 'fuse-flows resume' does."""
    withdraw_stop(connection.launchpad, search.search_id)
    extend(connection, search)
    repair(connection.launchpad, search.search_id, lost_after=None)
    work(connection, search.search_id)
    assert not unfinished_jobs(connection, search.search_id)
    document = search_document(connection, search.search_id)
    assert (document.status, document.stop_reason) == ("finished", "max_structures reached")
    assert connection.database[REQUESTS].count_documents({}) == 0
    return sequence(connection, search.search_id)


@pytest.mark.parametrize("after", [1, INITIAL, INITIAL + 3])
@pytest.mark.parametrize("execution", [{"jobs_per_segment": 4}, {"steps_per_job": 50}])
def test_running_search_stops_and_goes_on_as_if_undisturbed(undisturbed, connection, tmp_path, after, execution):
    search = config(execution=execution)
    submit(connection, search)
    workers = start_workers(connection, search.search_id, 2, tmp_path / "workers")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        begun = execution.get("steps_per_job") and connection.launchpad.fireworks.count_documents(
            {"state": "RUNNING", "name": {"$regex": "^search"}}
        )
        if begun or len(candidates(connection, search.search_id)) >= after:
            break
        time.sleep(0.01)
    request_stop(connection.launchpad, search.search_id)
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]

    stopped = sequence(connection, search.search_id)
    assert stopped == [entry for entry in undisturbed if entry in stopped]
    assert len(stopped) < STRUCTURES
    assert not active_jobs(connection, search.search_id)
    document = search_document(connection, search.search_id)
    assert (document.status, document.stop_reason) == ("stopped", "stop requested")
    assert not extend(connection, search)
    assert finish(connection, search) == undisturbed


def test_stop_before_anything_has_begun(undisturbed, connection):
    search = config()
    submit(connection, search)
    assert request_stop(connection.launchpad, search.search_id) == INITIAL
    assert not connection.launchpad.run_exists(FWorker())  # what rlaunch and qlaunch look for
    assert work(connection, search.search_id) == 0
    assert search_document(connection, search.search_id).status == "stopped"
    assert finish(connection, search) == undisturbed


@pytest.mark.parametrize("done", [2, INITIAL, INITIAL + 1, INITIAL + 3, INITIAL + 5, INITIAL + 6])
def test_stop_between_two_jobs(undisturbed, connection, done):
    """The job that would be next, of the population, the beginning, a step or a new segment, is not taken."""
    search = config()
    submit(connection, search)
    launch(connection, search.search_id, done)
    assert request_stop(connection.launchpad, search.search_id) > 0
    assert work(connection, search.search_id) == 0
    document = search_document(connection, search.search_id)
    assert (document.status, document.stop_reason) == ("stopped", "stop requested")
    assert finish(connection, search) == undisturbed


def test_request_reaches_the_job_that_runs(undisturbed, connection):
    """A job begun before the request ends the walk, with the reason in its document."""
    search = config()
    submit(connection, search)
    launch(connection, search.search_id, INITIAL + 3)
    connection.database[REQUESTS].insert_one({"_id": search.search_id, "stop": True, "paused": []})
    launch(connection, search.search_id, 1)
    assert not unfinished_jobs(connection, search.search_id)
    state = latest_state(connection, search.search_id)
    assert (state["stop_reason"], state["step"]) == ("stop requested", 3)
    assert finish(connection, search) == undisturbed


def test_begin_job_that_sees_the_request_is_the_end_for_now(undisturbed, connection):
    search = config()
    submit(connection, search)
    launch(connection, search.search_id, INITIAL)
    connection.database[REQUESTS].insert_one({"_id": search.search_id, "stop": True, "paused": []})
    launch(connection, search.search_id, 1)
    state = latest_state(connection, search.search_id)
    assert (state["stop_reason"], state["step"]) == ("stop requested", 0)
    assert finish(connection, search) == undisturbed


def test_stop_twice_and_withdraw_cut_short(undisturbed, connection):
    search = config()
    launchpad = connection.launchpad
    submit(connection, search)
    request_stop(launchpad, search.search_id)
    request_stop(launchpad, search.search_id)
    paused = launchpad.fireworks.distinct("fw_id", {"state": "PAUSED"})
    assert len(paused) == INITIAL
    # a withdrawal that died half way has told the jobs, and released only some of them
    connection.database[REQUESTS].update_one({"_id": search.search_id}, {"$set": {"stop": False}})
    launchpad.fireworks.update_one({"fw_id": paused[0]}, {"$set": {"state": "READY"}})
    assert not is_stop_requested(launchpad, search.search_id)
    launch(connection, search.search_id, 1)
    assert finish(connection, search) == undisturbed


def test_reserved_jobs_wait_too_and_jobs_paused_by_others_stay_paused(undisturbed, connection, tmp_path):
    search = config()
    launchpad = connection.launchpad
    submit(connection, search)
    by_hand = max(launchpad.fireworks.distinct("fw_id", {"state": "READY"}))
    launchpad.pause_fw(by_hand)
    reserved, _ = launchpad.reserve_fw(FWorker(), str(tmp_path))
    assert request_stop(launchpad, search.search_id) == INITIAL - 1
    assert launchpad.checkout_fw(FWorker(), str(tmp_path), fw_id=reserved.fw_id) == (None, None)
    assert withdraw_stop(launchpad, search.search_id)
    assert not withdraw_stop(launchpad, search.search_id)
    assert launchpad.fireworks.distinct("fw_id", {"state": "PAUSED"}) == [by_hand]
    launchpad.resume_fw(by_hand)
    assert finish(connection, search) == undisturbed


def test_other_searches_are_left_alone(connection):
    one, other = config(), config(label="other")
    submit(connection, one)
    submit(connection, other)
    request_stop(connection.launchpad, one.search_id)
    assert not is_stop_requested(connection.launchpad, other.search_id)
    assert active_jobs(connection, other.search_id) == INITIAL
    work(connection, other.search_id)
    assert search_document(connection, other.search_id).status == "finished"
    assert search_document(connection, one.search_id).status == "stopped"


def test_submitting_again_withdraws_the_request(connection):
    search = config()
    submit(connection, search)
    request_stop(connection.launchpad, search.search_id)
    assert submit(connection, search) == "continued"
    assert active_jobs(connection, search.search_id) == INITIAL


def test_request_is_read_by_its_id(connection):
    requests = connection.database[REQUESTS]
    requests.insert_many([{"_id": f"MgO-{number}", "stop": True, "paused": []} for number in range(50)])
    executed = requests.find({"_id": "MgO-7", "stop": True}, {"_id": 1}).explain()["executionStats"]
    assert (executed["totalDocsExamined"], executed["nReturned"]) == (1, 1)


def test_search_that_is_not_at_its_end_is_not_extended(undisturbed, connection):
    """A second segment beside a living chain would judge every later step twice."""
    search = config()
    submit(connection, search)
    launch(connection, search.search_id, INITIAL + 3)
    assert not extend(connection, search)
    work(connection, search.search_id)
    assert sequence(connection, search.search_id) == undisturbed


def test_wall_clock_ends_a_search_that_can_be_extended(undisturbed, connection):
    limited = config(stop={"max_structures": STRUCTURES, "wall_hours": 1e-6})
    submit(connection, limited)
    work(connection, limited.search_id)
    document = search_document(connection, limited.search_id)
    assert (document.status, document.stop_reason) == ("finished", "wall_hours reached")
    assert INITIAL <= document.n_structures < STRUCTURES
    assert submit(connection, limited) == "finished"
    began = document.states[0].began

    assert submit(connection, config(stop={"max_structures": STRUCTURES, "wall_hours": 1})) == "extended"
    work(connection, limited.search_id)
    assert sequence(connection, limited.search_id) == undisturbed
    document = search_document(connection, limited.search_id)
    assert document.stop_reason == "max_structures reached"
    assert document.states[0].began == began


def test_wall_clock_is_looked_at_after_each_structure(undisturbed, connection, monkeypatch):
    """With many steps in one job: the walk begins, and a structure later the clock has run out."""
    from datetime import datetime

    from fuse_flows.jobs import interruption

    readings = iter([datetime.fromisoformat("2000-01-01T00:00:00+00:00")] * 4)

    class Clock:
        @staticmethod
        def now(zone):
            return next(readings, None) or datetime.now(zone).replace(year=2100)

    monkeypatch.setattr(interruption, "datetime", Clock)
    search = config(execution={"steps_per_job": 50}, stop={"max_structures": STRUCTURES, "wall_hours": 5})
    submit(connection, search)
    work(connection, search.search_id)
    assert sequence(connection, search.search_id) == undisturbed[: INITIAL + 4]
    assert search_document(connection, search.search_id).stop_reason == "wall_hours reached"


def test_job_that_began_the_walk_keeps_the_time_when_it_runs_again(connection):
    search = config(stop={"max_structures": INITIAL + 1})
    submit(connection, search)
    work(connection, search.search_id)
    query = {"output.kind": "start"}
    before = connection.outputs.find_one(query)["output"]["state"]
    beginning = connection.launchpad.fireworks.find_one({"name": {"$regex": "^begin"}})
    connection.launchpad.rerun_fw(beginning["fw_id"])
    work(connection, search.search_id)
    assert before["began"]
    assert connection.outputs.find_one(query)["output"]["state"] == before
