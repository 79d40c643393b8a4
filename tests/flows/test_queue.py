"""Tiers in the queue: jobs of their own, other workers, the same search; failed jobs are failed candidates."""

import itertools
import os
import signal
import threading
import time

import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import launch_rocket
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.local import extend, start_workers, submit, work
from fuse_flows.flows.search import SearchMaker
from fuse_flows.jobs.allocation import Ending, look_at
from fuse_flows.relax.energy_model import check_energy_model
from fuse_flows.relax.queue_tiers import categories, is_queue_tier
from fuse_flows.settings import settings
from fuse_flows.store.jobs import fizzled_jobs, unfinished_jobs
from fuse_flows.store.queries import candidates
from fuse_flows.store.repair import repair
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

INITIAL, STRUCTURES = 4, 10
EMT = {"calculator": "emt", "max_steps": 15, "fmax": 0.3, "smax": 3}
FINE = EMT | {"max_steps": 40, "fmax": 0.1, "smax": 1}


def config(*, queue=True, tiers=None, **changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 5,
        "generator": {"initial_structures": INITIAL},
        "stop": {"max_structures": STRUCTURES},
        "execution": {"jobs_per_segment": 9},
        "tiers": tiers or [EMT, FINE | {"queue": queue}],
    }
    return load_config(**values | changes)


def sequence(connection, search_id):
    fields = ("candidate_id", "energy_per_atom", "move", "accepted", "outcome", "verdict", "cluster_id")
    return [tuple(found[field] for field in fields) for found in candidates(connection, search_id)]


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory):
    """The same search without a queue, in memory."""
    store = JobStore(MemoryStore())
    search = config(queue=False)
    folder = tmp_path_factory.mktemp("local")
    run_locally(SearchMaker(search).make(), store=store, root_dir=folder, ensure_success=True, log=False)
    found = [
        candidate
        for document in store.query({"output.candidates": {"$exists": True}})
        for candidate in document["output"]["candidates"]
    ]
    found.sort(key=lambda candidate: (candidate["step"], candidate["index"]))
    assert len(found) == STRUCTURES
    assert sum(candidate["energy_per_atom"] is not None for candidate in found) > STRUCTURES // 2
    return [(candidate["candidate_id"], candidate["energy_per_atom"], candidate["outcome"]) for candidate in found]


def short(sequence_of_candidates):
    return [(found[0], found[1], found[4]) for found in sequence_of_candidates]


def run(connection, search):
    assert submit(connection, search) == "submitted"
    work(connection, search.search_id)
    return short(sequence(connection, search.search_id))


def launch(connection, search, category):
    worker = FWorker(category=category, query={"spec.search_id": search.search_id})
    return launch_rocket(connection.launchpad, worker, strm_lvl="CRITICAL")


def test_the_queue_changes_neither_search_nor_name(undisturbed, connection):
    search = config()
    assert search.search_id == config(queue=False).search_id == config(queue={"wall_time": 60}).search_id
    assert run(connection, search) == undisturbed
    assert search_document(connection, search.search_id).status == "finished"
    fireworks = list(connection.launchpad.fireworks.find({"spec._category": "emt"}))
    assert len(fireworks) == STRUCTURES
    assert {firework["state"] for firework in fireworks} == {"COMPLETED"}
    for candidate in candidates(connection, search.search_id):
        assert [tier["calculator"] for tier in candidate["tiers"]] == ["emt", "emt"]


def test_it_runs_without_a_launchpad(undisturbed, tmp_path):
    store = JobStore(MemoryStore())
    run_locally(SearchMaker(config()).make(), store=store, root_dir=tmp_path, ensure_success=True, log=False)
    found = [
        (candidate["candidate_id"], candidate["energy_per_atom"], candidate["outcome"])
        for document in store.query({"output.candidates": {"$exists": True}})
        for candidate in document["output"]["candidates"]
    ]
    assert sorted(found, key=str) == sorted(undisturbed, key=str)


def test_screening_is_the_same_in_the_queue(connection_factory):
    """Before the queue, at the end of a queue tier, and in its job: what lies too high is spared the tiers behind."""
    chosen = {"max_energy_above_best": 0.03}
    found = {}
    for queue in (False, True):
        tiers = [EMT | chosen, EMT | chosen | {"fmax": 0.2, "queue": queue}, FINE | chosen, FINE | {"queue": queue}]
        search = config(tiers=tiers, stop={"max_structures": 16})
        connection = connection_factory()
        found[queue] = run(connection, search)
        assert len(found[queue]) == 16
        screened = [c for c in candidates(connection, search.search_id) if c["outcome"] == "SCREENED_OUT"]
        assert any(len(candidate["tiers"]) == 1 for candidate in screened)
        jobs = connection.launchpad.fireworks.count_documents({"spec._category": "emt"})
        assert jobs < 2 * 16 - len(screened) if queue else jobs == 0
    assert found[True] == found[False]


def test_short_allocations_end_with_the_same_search(undisturbed, connection):
    """Every look at the clock takes a second: the job that prepares the first population hands over to itself."""
    search = config(execution={"structures_per_job": INITIAL})
    submit(connection, search)
    for _ in range(60):
        seconds = itertools.count(1.0)
        with look_at(Ending(8.0, 1.0, clock=lambda: next(seconds))):  # noqa: B023 - called in this turn only
            work(connection, search.search_id)
        if search_document(connection, search.search_id).status == "finished":
            break
    partial = list(connection.outputs.find({"output.begun": {"$type": "array"}}))
    assert partial
    assert {document["output"]["kind"] for document in partial} == {"prepared"}
    assert short(sequence(connection, search.search_id)) == undisturbed


def test_workers_of_two_categories(undisturbed, connection, tmp_path):
    search = config(execution={"structures_per_job": 3})
    assert categories(search) == ["emt"]
    submit(connection, search)
    workers = start_workers(connection, search.search_id, 1, tmp_path / "workers", categories(search))
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    assert short(sequence(connection, search.search_id)) == undisturbed
    takers = {}
    for launch in connection.launchpad.launches.find({}):
        firework = connection.launchpad.fireworks.find_one({"fw_id": launch["fw_id"]})
        takers.setdefault(firework["spec"].get("_category"), set()).add(launch["fworker"]["name"])
    assert set(takers) == {None, "emt"}
    assert not takers[None] & takers["emt"]


def test_several_queue_tiers_with_settings_of_their_own(connection):
    first = {"category": "gpu", "qadapter": {"walltime": "01:00:00"}, "fworker": "mine"}
    search = config(tiers=[EMT | {"queue": first}, EMT, FINE | {"queue": True}], stop={"max_structures": INITIAL + 1})
    assert categories(search) == ["gpu", "emt"]
    submit(connection, search)
    for _ in range(INITIAL):
        launch(connection, search, "__none__")
    jobs = list(connection.launchpad.fireworks.find({"spec._category": "gpu"}))
    assert len(jobs) == INITIAL
    assert {job["spec"]["_fworker"] for job in jobs} == {"mine"}
    assert jobs[0]["spec"]["_queueadapter"] == {"walltime": "01:00:00"}
    mine = FWorker(name="mine", query={"spec.search_id": search.search_id})
    while launch_rocket(connection.launchpad, mine, strm_lvl="WARNING"):
        pass
    assert not unfinished_jobs(connection, search.search_id)
    found = candidates(connection, search.search_id)
    assert len(found) == INITIAL + 1
    whole = [len(candidate["tiers"]) for candidate in found if candidate["outcome"] in {"CONVERGED", "NOT_CONVERGED"}]
    assert whole
    assert set(whole) == {3}
    gpu = connection.launchpad.fireworks.distinct("spec._queueadapter", {"spec._category": "emt"})
    assert gpu == []  # settings of one queue do not leak into the next


def test_a_failed_job_is_a_failed_candidate(connection, monkeypatch):
    monkeypatch.setenv("FUSE_FLOWS_FIZZLED_GRACE", "0")
    settings.cache_clear()
    search = config()
    submit(connection, search)
    for _ in range(INITIAL):
        launch(connection, search, "__none__")
    victims = [firework["fw_id"] for firework in connection.launchpad.fireworks.find({"spec._category": "emt"})][:2]
    for victim in victims:  # as if their workers had died, and nobody ran them again
        launch_id = connection.launchpad.checkout_fw(FWorker(), "/tmp", fw_id=victim)[1]  # noqa: S108
        connection.launchpad.mark_fizzled(launch_id)
    work(connection, search.search_id)
    found = candidates(connection, search.search_id)
    assert len(found) == STRUCTURES
    failed = [candidate for candidate in found if candidate["outcome"] == "ENGINE_ERROR"]
    assert len(failed) == 2
    assert {candidate["reason"] for candidate in failed} == {"its job failed: it was lost"}
    assert {candidate["energy_per_atom"] for candidate in failed} == {None}
    assert {len(candidate["tiers"]) for candidate in failed} == {2}
    assert search_document(connection, search.search_id).status == "finished"
    assert fizzled_jobs(connection, search.search_id) == []
    assert not extend(connection, search)
    assert extend(connection, config(stop={"max_structures": STRUCTURES + 1}))


def test_a_worker_that_is_not_set_up_stops_the_search(connection, monkeypatch, tmp_path):
    """Every candidate would fail on it; so the search waits for resume, and then goes on as if nothing had been."""
    monkeypatch.setenv("FUSE_FLOWS_FIZZLED_GRACE", "0")
    settings.cache_clear()
    (tmp_path / "elsewhere.py").write_text("from ase.calculators.emt import EMT\n")
    tier = FINE | {"calculator": "elsewhere:EMT", "queue": {"category": "there"}}
    search = config(tiers=[EMT, tier], stop={"max_structures": INITIAL + 1})
    submit(connection, search)
    work(connection, search.search_id)
    ((name, reason),) = set(fizzled_jobs(connection, search.search_id)[:1])
    assert name.startswith("collect initial structure")
    assert "the module elsewhere of 'elsewhere:EMT' was not found" in reason
    assert candidates(connection, search.search_id) == []
    monkeypatch.syspath_prepend(tmp_path)
    repair(connection.launchpad, search.search_id, lost_after=None, patience=0)
    work(connection, search.search_id)
    assert search_document(connection, search.search_id).status == "finished"
    assert len(candidates(connection, search.search_id)) == INITIAL + 1
    assert "ENGINE_ERROR" not in {candidate["outcome"] for candidate in candidates(connection, search.search_id)}


def test_a_judge_waits_for_a_job_that_is_run_again(undisturbed, connection, monkeypatch):
    """FireWorks marks a lost job as failed before it runs again; a judge that begins in between must not decide."""
    monkeypatch.setenv("FUSE_FLOWS_FIZZLED_GRACE", "2")
    settings.cache_clear()
    search = config()
    submit(connection, search)
    launch(connection, search, "__none__")
    launchpad = connection.launchpad
    (victim,) = launchpad.fireworks.distinct("fw_id", {"spec._category": "emt"})
    launch_id = launchpad.checkout_fw(FWorker(), "/tmp", fw_id=victim)[1]  # noqa: S108
    launchpad.mark_fizzled(launch_id)
    (collect,) = launchpad.fireworks.distinct("fw_id", {"state": "READY", "name": {"$regex": "^collect"}})
    again = threading.Timer(0.7, launchpad.rerun_fw, [victim])
    again.start()
    launch_rocket(launchpad, FWorker(), fw_id=collect, strm_lvl="CRITICAL")
    again.join()
    assert candidates(connection, search.search_id) == []
    repair(launchpad, search.search_id, lost_after=None, patience=0)
    work(connection, search.search_id)
    assert short(sequence(connection, search.search_id)) == undisturbed


@pytest.mark.parametrize("kill_after", [1, INITIAL + 2])
def test_killed_and_resumed(undisturbed, connection, tmp_path, kill_after):
    search = config()
    submit(connection, search)
    (worker,) = start_workers(connection, search.search_id, 1, tmp_path / "worker")
    deadline = time.monotonic() + 300
    while len(candidates(connection, search.search_id)) < kill_after and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert kill_after <= len(candidates(connection, search.search_id)) < STRUCTURES
    repair(connection.launchpad, search.search_id, lost_after=None)
    work(connection, search.search_id)
    assert short(sequence(connection, search.search_id)) == undisturbed
    assert search_document(connection, search.search_id).status == "finished"


def test_which_tiers_belong_into_the_queue():
    tiers = config(
        tiers=["emt", "vasp", {"calculator": "vasp", "queue": False}, {"calculator": "emt", "queue": {}}]
    ).tiers
    assert [is_queue_tier(tier) for tier in tiers] == [False, True, False, True]


def test_a_pool_is_not_ranked_in_the_queue(tmp_path):
    from fuse_flows.relax.queue_tiers import check_ranking

    with pytest.raises(ConfigError, match=r"pool.rank_tier: the pool cannot be ranked with vasp"):
        check_ranking(config(tiers=["vasp"], pool={"structures": str(tmp_path), "rank": "relax"}))


@pytest.mark.parametrize("model", ["vasp", "emt"])
def test_nothing_is_generated_in_the_queue(model):
    search = config(tiers=[EMT | {"queue": True}], pool={"generate": {"energy_model": model}})
    with pytest.raises(ConfigError, match=rf"pool.generate.energy_model: nothing can be generated with {model}"):
        check_energy_model(search)
