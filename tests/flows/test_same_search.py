"""The same seed gives the same search: in one go, killed and resumed, cut into other jobs, with two workers."""

import os
import signal
import time

import pytest

from fuse_flows.config import MoveName, load_config
from fuse_flows.flows.local import extend, start_workers, submit, work
from fuse_flows.store.queries import candidates
from fuse_flows.store.repair import repair
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

INITIAL, STRUCTURES = 6, 24


def emt_config(**changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 11,
        "generator": {"initial_structures": INITIAL},
        "stop": {"max_structures": STRUCTURES},
        "execution": {"jobs_per_segment": 5},
        "duplicates": {"reject": True, "redraws": 5},
        "tiers": [{"calculator": "emt", "max_steps": 40, "fmax": 0.2, "smax": 2}],
    }
    return load_config(**values | changes)


def sequence(connection, search_id):
    documents = sorted(candidates(connection, search_id), key=lambda d: (d["step"], d["index"]))
    fields = ("candidate_id", "energy_per_atom", "move", "accepted", "outcome", "verdict", "cluster_id", "failed_moves")
    return [tuple(document[field] for field in fields) for document in documents]


def run(connection, config):
    assert submit(connection, config) == "submitted"
    work(connection, config.search_id)
    return sequence(connection, config.search_id)


@pytest.fixture(name="undisturbed")
def _undisturbed(connection_factory):
    """The sequence of a search that ran in one go, in a database of its own."""
    found = run(connection_factory(), emt_config())
    assert len(found) == STRUCTURES
    assert len({key for key, *_ in found}) == STRUCTURES
    assert sum(energy is not None for _, energy, *_ in found) > STRUCTURES // 2
    assert {move for _, _, move, *_ in found} - {None}
    assert "visited minimum" in {verdict for *_, verdict, _, _ in found}
    return found


def test_cut_into_other_jobs(undisturbed, connection_factory):
    execution = {"structures_per_job": 4, "steps_per_job": 7, "jobs_per_segment": 1}
    assert run(connection_factory(), emt_config(execution=execution)) == undisturbed


def test_another_seed_is_another_search(undisturbed, connection_factory):
    energies = {energy for _, energy, *_ in undisturbed}
    assert {energy for _, energy, *_ in run(connection_factory(), emt_config(seed=12))} != energies


@pytest.mark.parametrize("kill_after", [2, INITIAL + 3, INITIAL + 11])
def test_killed_and_resumed(undisturbed, connection, tmp_path, kill_after):
    config = emt_config()
    submit(connection, config)
    (worker,) = start_workers(connection, config.search_id, 1, tmp_path / "worker")
    deadline = time.monotonic() + 300
    while len(candidates(connection, config.search_id)) < kill_after and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    before = sequence(connection, config.search_id)
    assert kill_after <= len(before) < STRUCTURES
    repair(connection.launchpad, config.search_id, lost_after=None)
    work(connection, config.search_id)
    assert sequence(connection, config.search_id) == undisturbed
    assert search_document(connection, config.search_id).status == "finished"


def test_two_workers(undisturbed, connection, tmp_path):
    config = emt_config()
    submit(connection, config)
    workers = start_workers(connection, config.search_id, 2, tmp_path / "workers")
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    assert sequence(connection, config.search_id) == undisturbed


def test_extended_search_is_the_longer_search(undisturbed, connection):
    short = emt_config(stop={"max_structures": INITIAL + 4})
    assert run(connection, short) == undisturbed[: INITIAL + 4]
    assert submit(connection, short) == "finished"
    assert submit(connection, emt_config()) == "extended"
    work(connection, short.search_id)
    assert sequence(connection, short.search_id) == undisturbed
    assert not extend(connection, emt_config())


def test_learnt_chances_are_the_same_after_a_kill_and_in_other_jobs(connection_factory, tmp_path):
    """What was learnt goes on where it was, whoever runs the steps."""
    learning = {"move_policy": "reinforce", "reinforce": {"learning_rate": 0.5, "warmup": 2}}
    config, undisturbed = emt_config(**learning), connection_factory()
    found = run(undisturbed, config)
    policy = search_document(undisturbed, config.search_id).states[0].policy
    chances = [document["move_probability"] for document in candidates(undisturbed, config.search_id)]
    assert max(chance for chance in chances if chance is not None) > 2 / len(MoveName)

    cut = connection_factory()
    execution = {"structures_per_job": 3, "steps_per_job": 5, "jobs_per_segment": 2}
    assert run(cut, emt_config(**learning, execution=execution)) == found
    assert search_document(cut, config.search_id).states[0].policy == policy

    killed = connection_factory()
    submit(killed, config)
    (worker,) = start_workers(killed, config.search_id, 1, tmp_path / "worker")
    deadline = time.monotonic() + 300
    while len(candidates(killed, config.search_id)) < INITIAL + 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert INITIAL + 7 <= len(candidates(killed, config.search_id)) < STRUCTURES
    repair(killed.launchpad, config.search_id, lost_after=None)
    work(killed, config.search_id)
    assert sequence(killed, config.search_id) == found
    assert search_document(killed, config.search_id).states[0].policy == policy


def test_submitted_twice_is_one_search(connection):
    assert submit(connection, emt_config()) == "submitted"
    assert submit(connection, emt_config()) == "continued"
    assert connection.launchpad.workflows.count_documents({}) == 1
    assert connection.launchpad.fireworks.count_documents({}) == INITIAL + 1


def test_job_run_twice_changes_nothing(undisturbed, connection):
    config = emt_config()
    run(connection, config)
    for firework in connection.launchpad.fireworks.find({}, {"fw_id": 1, "name": 1}).sort("fw_id", -1).limit(3):
        connection.launchpad.rerun_fw(firework["fw_id"])
    work(connection, config.search_id)
    assert sequence(connection, config.search_id) == undisturbed


def test_results_outlive_the_launchpad(connection):
    config = emt_config(stop={"max_structures": INITIAL + 2})
    found = run(connection, config)
    connection.launchpad.reset("", require_password=False)
    document = search_document(connection, config.search_id)
    assert (document.status, document.n_structures) == ("finished", len(found))
    assert document.config == config.model_dump(mode="json")
    outputs = list(connection.outputs.find({}, {"output": 1}))
    assert submit(connection, config) == "submitted"  # the LaunchPad has forgotten it, the JobStore has not
    work(connection, config.search_id)
    assert connection.launchpad.fireworks.distinct("state") == ["COMPLETED"]
    assert sequence(connection, config.search_id) == found
    assert [found["output"] for found in connection.outputs.find({})] == [stored["output"] for stored in outputs]
