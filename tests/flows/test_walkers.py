"""Walkers with learnt moves, and several proposals per step: one search, however its jobs are cut and shared out."""

import os
import signal
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from jobflow import run_locally

from fuse_flows.config import load_config
from fuse_flows.flows.local import extend, start_workers, submit, work
from fuse_flows.flows.search import SearchMaker
from fuse_flows.store.connection import connect_server
from fuse_flows.store.queries import best_candidates, candidates
from fuse_flows.store.repair import repair
from fuse_flows.store.searches import search_document
from fuse_flows.store.setup import ensure_indexes

pytestmark = pytest.mark.mongo

INITIAL, WALKERS, STRUCTURES = 3, 3, 42
EXECUTION = {"structures_per_job": 3, "steps_per_job": 2, "jobs_per_segment": 2}


def config(**changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 3,
        "walkers": {"number": WALKERS, "meet_every": 4, "exchange": True, "temperature_ratio": 3},
        "generator": {"initial_structures": INITIAL},
        "stop": {"max_structures": STRUCTURES},
        "execution": EXECUTION,
        "move_policy": "reinforce",
        "reinforce": {"learning_rate": 0.5, "warmup": 2},
        "duplicates": {"reject": True, "redraws": 5, "energy_tolerance": 0.01, "volume_tolerance": 0.05},
        "tiers": [{"calculator": "emt", "max_steps": 40, "fmax": 0.2, "smax": 2}],
    }
    return load_config(**values | changes)


def proposing(**changes):
    return config(walkers=1, proposals_per_step=3, stop={"max_structures": INITIAL + 24}, **changes)


def sequence(connection, search_id):
    fields = (
        "walker",
        "step",
        "index",
        "candidate_id",
        "energy_per_atom",
        "move",
        "parent_id",
        "accepted",
        "outcome",
        "verdict",
        "cluster_id",
        "temperature",
    )
    return [tuple(document[field] for field in fields) for document in candidates(connection, search_id)]


def run(connection, search):
    assert submit(connection, search) == "submitted"
    work(connection, search.search_id)
    return sequence(connection, search.search_id)


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(mongo_server):
    """The sequence of a search that ran in one go, in a database of its own."""
    connection = connect_server(replace(mongo_server, db_name="test_walkers_undisturbed"))
    ensure_indexes(connection)
    found = run(connection, config())
    document = search_document(connection, config().search_id)
    connection.database.client.drop_database(connection.database.name)
    connection.close()
    assert len(found) == STRUCTURES
    assert {walker for walker, *_ in found} == set(range(WALKERS))
    assert (document.status, document.stop_reason) == ("finished", "max_structures reached")
    assert sum(state.exchanges.accepted for state in document.states) > 0
    return found


def test_walkers_differ_and_know_one_another(undisturbed):
    first = [{energy for walker, step, _, _, energy, *_ in undisturbed if (walker, step) == (w, 0)} for w in range(3)]
    assert first[0] != first[1] != first[2]
    owner = {candidate: walker for walker, _, _, candidate, *_ in undisturbed}
    parents = [(walker, step, owner[parent]) for walker, step, *_, parent, _, _, _, _, _ in undisturbed if parent]
    assert any(walker != other for walker, _, other in parents), "no structure was exchanged"
    assert all(step > 4 for walker, step, other in parents if walker != other), "exchanged before they met"
    clusters = [(walker, step, owner[cluster]) for walker, step, *_, cluster, _ in undisturbed if cluster]
    assert any(walker != other for walker, _, other in clusters), "no minimum of another walker was recognised"
    assert all(step > 4 for walker, step, other in clusters if walker != other)


def test_walkers_cut_into_other_jobs(undisturbed, connection_factory):
    execution = {"structures_per_job": 2, "steps_per_job": 5, "jobs_per_segment": 1}
    assert run(connection_factory(), config(execution=execution)) == undisturbed


def test_walkers_without_our_firetask(undisturbed, connection):
    search = config()
    run_locally(SearchMaker(search).make(), store=connection.jobstore, log=False)
    assert sequence(connection, search.search_id) == undisturbed


def test_two_workers_on_three_walkers(undisturbed, connection, tmp_path):
    search = config()
    submit(connection, search)
    workers = start_workers(connection, search.search_id, 2, tmp_path / "workers")
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    assert sequence(connection, search.search_id) == undisturbed


@pytest.mark.parametrize("kill_after", [5, 17, 29])
def test_walkers_killed_and_resumed(undisturbed, connection, tmp_path, kill_after):
    search = config()
    submit(connection, search)
    workers = start_workers(connection, search.search_id, 2, tmp_path / "worker")
    deadline = time.monotonic() + 300
    while len(candidates(connection, search.search_id)) < kill_after and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    assert kill_after <= len(candidates(connection, search.search_id)) < STRUCTURES
    repair(connection.launchpad, search.search_id, lost_after=None)
    work(connection, search.search_id)
    while extend(connection, search):
        work(connection, search.search_id)
    assert sequence(connection, search.search_id) == undisturbed


@pytest.mark.parametrize("structures", [WALKERS * INITIAL, 22, 33])
def test_walkers_extended(undisturbed, connection, structures):
    short = config(stop={"max_structures": structures})
    found = run(connection, short)
    assert len(found) == structures
    assert set(found) <= set(undisturbed)
    assert submit(connection, config()) == "extended"
    work(connection, short.search_id)
    assert sequence(connection, short.search_id) == undisturbed


def test_walkers_that_met_end_together(connection):
    search = config(stop={"max_structures": 300, "patience": 10})
    run(connection, search)
    document = search_document(connection, search.search_id)
    assert (document.status, document.stop_reason) == ("finished", "patience exhausted")
    assert len({state.step for state in document.states}) == 1
    assert document.states[0].step % 4 == 0
    assert all(state.since_best >= 10 for state in document.states)
    assert submit(connection, search) == "finished"


@pytest.mark.parametrize("meet_every", [None, 4])
def test_target_of_one_ends_all(connection, meet_every, undisturbed):
    energy = min(row[4] for row in undisturbed if row[4] is not None)
    walkers = {"number": WALKERS, "meet_every": meet_every, "exchange": meet_every is not None, "temperature_ratio": 3}
    search = config(walkers=walkers, stop={"max_structures": 300, "target_energy": energy + 0.001})
    found = run(connection, search)
    document = search_document(connection, search.search_id)
    assert (document.status, document.stop_reason) == ("finished", "target_energy reached")
    assert len(found) < 300
    assert sum(state.stop_reason == "target_energy reached" for state in document.states) >= 1
    reasons = {state.stop_reason for state in document.states}
    assert reasons <= {"target_energy reached", "target_energy reached by another walker", None}


def test_unique_results_are_unique_over_walkers(connection):
    tier = {"calculator": "emt", "fmax": 0.02, "smax": 0.1}
    search = config(walkers={"number": WALKERS, "meet_every": None}, max_atoms=4, tiers=[tier])
    found = run(connection, search)
    best = best_candidates(connection, search.search_id, top=5, unique=True)
    energies = [document["energy_per_atom"] for document in best]
    assert all(b - a > 1e-4 for a, b in pairwise(energies))
    lowest = [row for row in found if row[4] is not None and row[4] - energies[0] < 1e-4]
    assert len({walker for walker, *_ in lowest}) > 1, "the lowest minimum was not found by several walkers"
    assert best[0]["copies"] >= len(lowest)


def test_lowest_of_several_proposals_is_judged(connection):
    search = proposing()
    found = run(connection, search)
    assert len(found) == INITIAL + 24
    steps = {}
    for row in found:
        if row[1] > 0:
            steps.setdefault(row[1], []).append(row)
    assert [len(rows) for rows in steps.values()] == [3] * 8
    for rows in steps.values():
        judged = [row for row in rows if row[9] not in ("not the lowest of its step", "failed")]
        assert len(judged) <= 1
        energies = [row[4] for row in rows if row[4] is not None]
        assert len({row[6] for row in rows}) == 1, "the proposals of a step have one parent"
        if judged and judged[0][9] != "visited minimum":
            known = [row[4] for row in rows if row[4] is not None and row[10] != row[3]]
            assert judged[0][4] == min(set(energies) - set(known), default=None) or judged[0][4] == min(energies)
    names = connection.launchpad.fireworks.distinct("name")
    assert any(name.startswith("relax proposal 3 of step 2") for name in names)


def test_proposals_in_one_job_or_side_by_side(connection_factory):
    side_by_side = run(connection_factory(), proposing())
    execution = {"parallel_proposals": False, "steps_per_job": 3, "jobs_per_segment": 2}
    assert run(connection_factory(), proposing(execution=execution)) == side_by_side


def test_proposals_killed_and_resumed(connection_factory, tmp_path):
    undisturbed = run(connection_factory(), proposing())
    connection, search = connection_factory(), proposing()
    submit(connection, search)
    workers = start_workers(connection, search.search_id, 2, tmp_path / "worker")
    deadline = time.monotonic() + 300
    while len(candidates(connection, search.search_id)) < INITIAL + 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    repair(connection.launchpad, search.search_id, lost_after=None)
    work(connection, search.search_id)
    assert sequence(connection, search.search_id) == undisturbed
