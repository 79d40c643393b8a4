"""A search with a pool: the structures travel in the database, and any cut into jobs gives the same search."""

import os
import shutil
import signal
import time

import pytest
from fireworks import Workflow
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.local import start_workers, submit, work
from fuse_flows.flows.search import SearchMaker
from fuse_flows.generators.files import FilePool, read_pool
from fuse_flows.store.pools import pool_summary
from fuse_flows.store.queries import candidates, latest_state
from fuse_flows.store.repair import repair
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

INITIAL, STRUCTURES = 4, 20
SITES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
SPECIES = ["Au", "Cu", "Cu", "Cu"]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """Eight strained cells of Cu3Au, the later ones nearer to the ground state."""
    folder = tmp_path / "structures"
    folder.mkdir()
    for number in range(8):
        lattice = Lattice.orthorhombic(3.75, 3.75 + 0.25 * (8 - number), 3.75 + 0.1 * (8 - number))
        Structure(lattice, SPECIES, SITES).to(str(folder / f"{number}.cif"), fmt="cif")
    (folder / "broken.cif").write_text("no structure")
    return folder


def pooled(folder, **changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 5,
        "pool": {"structures": str(folder)} | changes.pop("pool", {}),
        "generator": {"initial_structures": INITIAL},
        "stop": {"max_structures": STRUCTURES},
        "execution": {"jobs_per_segment": 5},
        "moves": {"weights": {"swap_atoms": 1, "new_structure_current_size": 1, "new_structure_maximum_size": 1}},
        "tiers": [{"calculator": "emt", "max_steps": 30, "fmax": 0.2, "smax": 2}],
    }
    return read_pool(load_config(**values | changes))


def sequence(connection, search_id):
    fields = ("candidate_id", "energy_per_atom", "move", "source", "origin", "pool_member", "accepted", "outcome")
    return [tuple(document[field] for field in fields) for document in candidates(connection, search_id)]


def run_first(connection, config):
    """Run jobs until the pool is stored."""
    from fireworks import FWorker
    from fireworks.core.rocket_launcher import launch_rocket

    worker = FWorker(query={"spec.search_id": config.search_id})
    while connection.outputs.find_one({"output.kind": "pool"}) is None:
        assert launch_rocket(connection.launchpad, worker, strm_lvl="WARNING")


def run(connection, config, pool):
    assert submit(connection, config, pool) == "submitted"
    work(connection, config.search_id)
    return sequence(connection, config.search_id)


@pytest.fixture(name="undisturbed")
def _undisturbed(connection_factory, folder):
    """The sequence of a search that ran in one go, in a database of its own."""
    found = run(connection_factory(), *pooled(folder))
    assert len(found) == STRUCTURES
    return found


def test_first_population_is_the_pool_and_no_member_is_used_twice(connection, folder):
    config, pool = pooled(folder)
    found = run(connection, config, pool)
    documents = candidates(connection, config.search_id)
    first, later = documents[:INITIAL], documents[INITIAL:]
    assert [(d["source"], d["origin"], d["pool_member"]) for d in first] == [
        ("file", f"{number}.cif", number) for number in range(INITIAL)
    ]
    drawn = [d["pool_member"] for d in later if d["source"] == "file"]
    assert drawn
    assert sorted(drawn) == list(range(INITIAL, 8)), "sixteen steps are enough for four members"
    assert all(d["move_number"] in (13, 14) and d["parent_id"] for d in later if d["source"] == "file")
    assert {d["source"] for d in later} == {"file", "move"}
    state = latest_state(connection, config.search_id)
    assert state["used_pool_members"] == [0, 1, 2, 3, *drawn]
    assert pool_summary(connection, config.search_id) == {
        "n_members": 8,
        "skipped": {"unreadable": 1},
        "dropped": {},
    }
    assert len(found) == len({key for key, *_ in found})


def test_cut_into_other_jobs(undisturbed, connection, folder):
    execution = {"structures_per_job": 3, "steps_per_job": 7, "jobs_per_segment": 1}
    assert run(connection, *pooled(folder, execution=execution)) == undisturbed


@pytest.mark.parametrize("kill_after", [0, 2, INITIAL + 5])
def test_killed_and_resumed_without_the_folder(undisturbed, connection, folder, tmp_path, kill_after):
    config, pool = pooled(folder)
    submit(connection, config, pool)
    shutil.rmtree(folder)
    (worker,) = start_workers(connection, config.search_id, 1, tmp_path / "worker")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (
        len(candidates(connection, config.search_id)) < kill_after
        or not connection.launchpad.fireworks.count_documents({"state": {"$in": ["RUNNING", "COMPLETED"]}})
    ):
        time.sleep(0.005)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert kill_after <= len(candidates(connection, config.search_id)) < STRUCTURES
    repair(connection.launchpad, config.search_id, lost_after=None)
    work(connection, config.search_id)
    assert sequence(connection, config.search_id) == undisturbed
    assert search_document(connection, config.search_id).status == "finished"


def test_two_workers(undisturbed, connection, folder, tmp_path):
    config, pool = pooled(folder)
    submit(connection, config, pool)
    workers = start_workers(connection, config.search_id, 2, tmp_path / "workers")
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    assert sequence(connection, config.search_id) == undisturbed


def test_job_run_twice_changes_nothing(undisturbed, connection, folder):
    config, pool = pooled(folder)
    run(connection, config, pool)
    query = {"name": {"$regex": "pool|step 1[0-9]"}}
    again = [firework["fw_id"] for firework in connection.launchpad.fireworks.find(query, {"fw_id": 1})]
    assert len(again) > 3
    for fw_id in again:
        connection.launchpad.rerun_fw(fw_id)
    work(connection, config.search_id)
    assert sequence(connection, config.search_id) == undisturbed
    assert connection.outputs.count_documents({"output.kind": "pool"}) == 1


def test_longer_search_is_the_same_search(undisturbed, connection, folder):
    config, pool = pooled(folder, stop={"max_structures": INITIAL + 3})
    assert run(connection, config, pool) == undisturbed[: INITIAL + 3]
    longer, pool = pooled(folder)
    assert longer.search_id == config.search_id
    assert submit(connection, longer, pool) == "extended"
    work(connection, longer.search_id)
    assert sequence(connection, longer.search_id) == undisturbed


def test_written_workflow_needs_no_folder(undisturbed, connection, folder, tmp_path):
    config, pool = pooled(folder)
    SearchMaker(config, pool).workflow().to_file(str(tmp_path / "wf.yaml"))
    shutil.rmtree(folder)
    connection.launchpad.add_wf(Workflow.from_file(str(tmp_path / "wf.yaml")))
    work(connection, config.search_id)
    assert sequence(connection, config.search_id) == undisturbed


def test_run_locally_takes_the_same_steps(undisturbed, folder, tmp_path):
    store = JobStore(MemoryStore())
    flow = SearchMaker(*pooled(folder)).make()
    run_locally(flow, store=store, root_dir=tmp_path, ensure_success=True, log=False)
    found = [
        (candidate["candidate_id"], candidate["energy_per_atom"])
        for document in store.query({"output.candidates": {"$exists": True}})
        for candidate in document["output"]["candidates"]
    ]
    assert sorted(found) == sorted((key, energy) for key, energy, *_ in undisturbed)


def test_ranked_by_energy(connection, folder):
    Structure(Lattice.cubic(2.6), SPECIES, SITES).to(str(folder / "00_crushed.cif"), fmt="cif")
    tiers = [{"calculator": "emt", "max_steps": 30, "fmax": 0.2, "smax": 2, "min_distance": 2.0}]
    config, pool = pooled(folder, pool={"rank": "single", "draw": "ranked"}, tiers=tiers)
    assert len(pool.members) == 9
    run(connection, config, pool)
    stored = connection.outputs.find_one({"output.kind": "pool"})["output"]
    energies = [member["energy_per_atom"] for member in stored["members"]]
    assert energies == sorted(energies)
    assert stored["dropped"] == {"TOO_CLOSE": 1}
    assert "00_crushed.cif" not in {member["name"] for member in stored["members"]}
    assert stored["members"][0]["name"] == "7.cif"
    taken = [document for document in candidates(connection, config.search_id) if document["source"] == "file"]
    assert [document["pool_member"] for document in taken] == list(range(len(taken)))
    assert [document["origin"] for document in taken] == [m["name"] for m in stored["members"]][: len(taken)]


@pytest.mark.parametrize("rank", ["single", "relax"])
def test_ranking_is_the_same_in_however_many_jobs(connection_factory, folder, rank):
    Structure(Lattice.cubic(2.6), SPECIES, SITES).to(str(folder / "00_crushed.cif"), fmt="cif")
    found = []
    for batch in (2, 100):
        tier = {"calculator": "emt", "max_steps": 30, "fmax": 0.2, "smax": 2, "min_distance": 2.0}
        execution = {"rankings_per_job": batch}
        config, pool = pooled(
            folder, pool={"rank": rank, "rank_tier": tier}, execution=execution, tiers=[{"calculator": "lj"}]
        )
        connection = connection_factory()
        submit(connection, config, pool)
        run_first(connection, config)
        stored = connection.outputs.find_one({"output.kind": "pool"})["output"]
        assert connection.outputs.count_documents({"output.kind": "ranking"}) == -(-len(pool.members) // batch)
        found.append((stored["members"], stored["dropped"]))
    assert found[0] == found[1]
    assert found[0][1] == {"TOO_CLOSE": 1}
    files = {member.name: member.lattice for member in pool.members}
    moved = [
        member["name"] for member in found[0][0] if member["lattice"] != [list(row) for row in files[member["name"]]]
    ]
    assert len(moved) == (len(found[0][0]) if rank == "relax" else 0)


def test_few_members_leave_the_rest_to_the_assembler(connection, folder):
    for number in range(2, 8):
        (folder / f"{number}.cif").unlink()
    config, pool = pooled(folder, stop={"max_structures": 10})
    flow = SearchMaker(config, pool).workflow()
    assert sorted(len(links) for links in flow.links.values()) == [0, 1, 1, 1, 1, 2], "only two jobs wait for the pool"
    run(connection, config, pool)
    sources = [document["source"] for document in candidates(connection, config.search_id)]
    assert sources[:INITIAL] == ["file", "file", "random", "random"]
    assert set(sources[INITIAL:]) == {"move"}


def test_nothing_that_serves_is_the_search_without_a_pool(folder, connection):
    for number in range(8):
        (folder / f"{number}.cif").unlink()
    config, pool = pooled(folder, stop={"max_structures": 6})
    assert config.pool.digest is None
    found = run(connection, config, pool)
    assert len(found) == 6
    assert connection.outputs.count_documents({"output.kind": "pool"}) == 0


def test_pool_that_does_not_belong_to_the_search_is_refused(folder):
    config, pool = pooled(folder)
    for wrong in (FilePool(), FilePool(pool.members[1:])):
        with pytest.raises(ConfigError, match=r"^pool\.structures: "):
            SearchMaker(config, wrong).make()
    with pytest.raises(ConfigError, match=r"^pool\.structures: has not been read"):
        SearchMaker(load_config(formula="Cu3Au", pool={"structures": str(folder)})).make()
