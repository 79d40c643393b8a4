"""A search with a generated pool: made by jobs, ranked by jobs, and the same however it is cut or interrupted."""

import os
import signal
import time

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.local import start_workers, submit, work
from fuse_flows.flows.recipes import recipe
from fuse_flows.flows.search import SearchMaker
from fuse_flows.generators.files import read_pool
from fuse_flows.jobs.generation import generated_document, why_nothing
from fuse_flows.store.jobs import fizzled_jobs
from fuse_flows.store.pools import pool_summary
from fuse_flows.store.queries import candidates, latest_state
from fuse_flows.store.repair import repair
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

INITIAL, STRUCTURES, CANDIDATES, KEEP = 4, 16, 30, 8
TIER = {"calculator": "emt", "max_steps": 30, "fmax": 0.2, "smax": 2}


def generating(**changes):
    """A search that generates structures of one and two formula units of Cu3Au and ranks them with EMT."""
    generate = {"candidates": CANDIDATES, "keep": KEEP, "energy_model": "emt", "batch_size": 10}
    pool = changes.pop("pool", {})
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 5,
        "pool": {"rank": "relax"} | pool | {"generate": generate | pool.get("generate", {})},
        "generator": {"initial_structures": INITIAL},
        "stop": {"max_structures": STRUCTURES},
        "execution": {"jobs_per_segment": 5},
        "moves": {"weights": {"swap_atoms": 1, "new_structure_current_size": 1, "new_structure_maximum_size": 1}},
        "tiers": [TIER],
    }
    return load_config(**values | changes)


def plugin(name, **changes):
    return generating(pool={"generate": {"plugin": name}, "rank": "none"} | changes.pop("pool", {}), **changes)


def sequence(connection, search_id):
    fields = ("candidate_id", "energy_per_atom", "move", "source", "origin", "pool_member", "accepted", "outcome")
    return [tuple(document[field] for field in fields) for document in candidates(connection, search_id)]


def run(connection, config):
    assert submit(connection, *read_pool(config)) == "submitted"
    work(connection, read_pool(config)[0].search_id)
    return sequence(connection, read_pool(config)[0].search_id)


def stored_pool(connection):
    return connection.outputs.find_one({"output.kind": "pool"})["output"]


def members(pool):
    return [(member["name"], member["lattice"], member["energy_per_atom"]) for member in pool["members"]]


@pytest.fixture(name="undisturbed")
def _undisturbed(connection_factory):
    """The sequence of a search that ran in one go, and its pool."""
    connection = connection_factory()
    found = run(connection, generating())
    assert len(found) == STRUCTURES
    return found, members(stored_pool(connection))


def test_the_pool_is_generated_ranked_and_drawn(connection):
    config = generating()
    found = run(connection, config)
    pool = stored_pool(connection)
    energies = [member["energy_per_atom"] for member in pool["members"]]
    assert energies == sorted(energies)
    assert {len(member["numbers"]) for member in pool["members"]} == {4, 8}
    assert {member["source"] for member in pool["members"]} == {"generated"}
    volumes = sorted(
        Structure(Lattice(m["lattice"]), m["numbers"], m["frac_coords"]).volume / len(m["numbers"])
        for m in pool["members"]
    )
    assert volumes[0] <= pool["volume"] <= volumes[-1]
    assert [summary["formula_units"] for summary in pool["generated"]] == [1, 2]
    for summary in pool["generated"]:
        assert summary["evaluated"] == CANDIDATES
        assert 0 < summary["kept"] <= KEEP
        assert summary["energy_model"].startswith("emt ")
    n_kept = sum(summary["kept"] for summary in pool["generated"])
    assert len(pool["members"]) + sum(pool["dropped"].values()) == n_kept
    assert pool["fallback"] is None

    names = [member["name"] for member in pool["members"]]
    documents = candidates(connection, config.search_id)
    first, later = documents[:INITIAL], documents[INITIAL:]
    assert [(d["source"], d["origin"], d["pool_member"]) for d in first] == [
        ("generated", name, number) for number, name in enumerate(names[:INITIAL])
    ]
    drawn = [d for d in later if d["source"] == "generated"]
    assert drawn
    assert all(d["move_number"] in (13, 14) and d["parent_id"] for d in drawn)
    used = [*range(INITIAL), *(d["pool_member"] for d in drawn)]
    assert latest_state(connection, config.search_id)["used_pool_members"] == used
    assert len(set(used)) == len(used)
    assert len(found) == STRUCTURES
    summary = pool_summary(connection, config.search_id)
    assert summary["n_members"] == len(names)
    assert [units["formula_units"] for units in summary["generated"]] == [1, 2]
    assert "fallback" not in summary
    titles = set(connection.launchpad.fireworks.distinct("name"))
    assert {
        "generate structures of 1 formula unit of Cu3Au",
        "generate structures of 2 formula units of Cu3Au",
        f"rank generated structures 1-{KEEP} of 2 formula units of Cu3Au",
        "store the pool of Cu3Au",
    } <= titles


def test_cut_into_other_jobs(undisturbed, connection):
    execution = {"structures_per_job": 3, "steps_per_job": 7, "jobs_per_segment": 1, "rankings_per_job": 3}
    assert run(connection, generating(execution=execution)) == undisturbed[0]
    assert members(stored_pool(connection)) == undisturbed[1]
    assert connection.outputs.count_documents({"output.kind": "ranking"}) == 6


@pytest.mark.parametrize("kind", ["generated", "ranking", "pool", "steps"])
def test_killed_and_resumed(undisturbed, connection, tmp_path, kind):
    config = generating()
    submit(connection, config)
    (worker,) = start_workers(connection, config.search_id, 1, tmp_path / "worker")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and connection.outputs.find_one({"output.kind": kind}) is None:
        time.sleep(0.005)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert connection.outputs.find_one({"output.kind": kind}) is not None
    assert len(candidates(connection, config.search_id)) < STRUCTURES
    repair(connection.launchpad, config.search_id, lost_after=None)
    work(connection, config.search_id)
    assert sequence(connection, config.search_id) == undisturbed[0]
    assert members(stored_pool(connection)) == undisturbed[1]
    assert search_document(connection, config.search_id).status == "finished"


def test_two_workers(undisturbed, connection, tmp_path):
    config = generating()
    submit(connection, config)
    workers = start_workers(connection, config.search_id, 2, tmp_path / "workers")
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    assert sequence(connection, config.search_id) == undisturbed[0]


def test_job_run_twice_changes_nothing(undisturbed, connection):
    config = generating()
    run(connection, config)
    before = stored_pool(connection)
    query = {"name": {"$regex": "^(generate|rank|store)"}}
    again = [firework["fw_id"] for firework in connection.launchpad.fireworks.find(query, {"fw_id": 1})]
    assert len(again) == 5
    for fw_id in again:
        connection.launchpad.rerun_fw(fw_id)
    work(connection, config.search_id)
    assert stored_pool(connection) == before
    assert sequence(connection, config.search_id) == undisturbed[0]


def test_run_locally_takes_the_same_steps(undisturbed, tmp_path):
    store = JobStore(MemoryStore())
    run_locally(SearchMaker(generating()).make(), store=store, root_dir=tmp_path, ensure_success=True, log=False)
    found = [
        (candidate["candidate_id"], candidate["energy_per_atom"])
        for document in store.query({"output.candidates": {"$exists": True}})
        for candidate in document["output"]["candidates"]
    ]
    assert sorted(found) == sorted((key, energy) for key, energy, *_ in undisturbed[0])


def test_without_ranking_the_predicted_energy_orders(connection):
    run(connection, generating(pool={"rank": "none"}, stop={"max_structures": INITIAL}))
    pool = stored_pool(connection)
    energies = [member["energy_per_atom"] for member in pool["members"]]
    assert energies == sorted(energies)
    assert connection.outputs.count_documents({"output.kind": "ranking"}) == 0


def test_recipe_from_generation_to_the_final_tier(connection):
    pool = {"generate": {"candidates": 20, "keep": 5, "energy_model": "spp", "formula_units": (1, 1)}}
    stop, generator = {"max_structures": 5}, {"initial_structures": 3}
    config = recipe("mlgen-spp", "Cu3Au", final="emt", max_atoms=4, pool=pool, stop=stop, generator=generator)
    run(connection, config)
    documents = candidates(connection, config.search_id)
    assert {document["source"] for document in documents[:3]} == {"generated"}
    assert {tuple(tier["calculator"] for tier in document["tiers"]) for document in documents[:3]} == {("spp", "emt")}
    assert connection.outputs.count_documents({"output.kind": "ranking"}) == 1


def test_space_groups_that_hold_no_formula_unit_are_recorded():
    document = generated_document(generating(pool={"generate": {"space_groups": (230, 230)}}), 1)
    assert (document.members, document.summary.evaluated, document.summary.kept) == ([], 0, 0)
    assert "Wyckoff" in document.summary.reason
    assert why_nothing([document.summary]) == f"{document.summary.reason} (formula units: 1)"


def test_candidates_that_are_all_refused_are_counted():
    tier = TIER | {"min_distance": 9.0}
    document = generated_document(generating(pool={"rank_tier": tier}, tiers=[tier]), 1)
    assert document.members == []
    assert document.summary.rejected["no energy"] == CANDIDATES
    assert document.summary.reason.startswith(f"none of {CANDIDATES} candidates is left (")


@pytest.mark.usefixtures("plugin_package")
class TestPlugins:
    def test_structures_of_another_package(self, connection):
        config = plugin("strained")
        run(connection, config)
        pool = stored_pool(connection)
        documents = candidates(connection, config.search_id)
        assert [d["origin"] for d in documents[:INITIAL]] == [f"strained-1-{n}" for n in range(1, INITIAL + 1)]
        assert {d["source"] for d in documents} == {"generated", "move"}
        assert [summary["generator"] for summary in pool["generated"]] == ["strained (cu3au-generators 1.5)"] * 2
        assert all(member["energy_per_atom"] is None for member in pool["members"])

    def test_workers_know_the_volume_of_the_pool(self, connection):
        config = plugin("strained", execution={"jobs_per_segment": 100})
        run(connection, config)
        volume = stored_pool(connection)["volume"]
        steps = connection.launchpad.fireworks.find({"name": {"$regex": "^search step"}})
        seen = [step["spec"]["_tasks"][0]["job"]["function_args"][0]["pool"]["volume"] for step in steps]
        assert seen.count(volume) >= len(seen) - 1 > 0
        assert config.pool.volume is None

    def test_one_size_that_gives_nothing_is_recorded(self, connection):
        config = plugin("only_two", stop={"max_structures": INITIAL})
        run(connection, config)
        one, two = stored_pool(connection)["generated"]
        assert (one["kept"], one["reason"]) == (0, "none of 0 candidates is left (nothing was refused)")
        assert (two["kept"], two["reason"]) == (6, "")
        assert [d["n_atoms"] for d in candidates(connection, config.search_id)] == [8] * INITIAL

    def test_nothing_at_all_leaves_it_to_the_assembler_which_is_said(self, connection):
        config = plugin("nothing")
        run(connection, config)
        documents = candidates(connection, config.search_id)
        assert {d["source"] for d in documents[:INITIAL]} == {"random"}
        assert {d["source"] for d in documents[INITIAL:]} == {"move"}
        summary = pool_summary(connection, config.search_id)
        assert summary["n_members"] == 0
        assert summary["fallback"] == "none of 0 candidates is left (nothing was refused) (formula units: 1, 2)"
        assert search_document(connection, config.search_id).status == "finished"

    @pytest.mark.parametrize("rank", ["none", "single"])
    def test_files_and_generated_structures_are_one_pool(self, connection, tmp_path, rank):
        folder = tmp_path / "structures"
        folder.mkdir()
        sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        for name, a in (("copy", 3.8), ("own", 4.6)):
            cell = Lattice.orthorhombic(3.7, a, 3.9 if name == "copy" else a)
            Structure(cell, ["Au", "Cu", "Cu", "Cu"], sites).to(str(folder / f"{name}.cif"), fmt="cif")
        tier = TIER | {"min_distance": 2.2}
        pool = {"structures": str(folder), "rank": rank, "rank_tier": tier}
        config, files = read_pool(plugin("mixed", pool=pool, stop={"max_structures": INITIAL}))
        assert len(files.members) == 2
        run(connection, config)
        stored = stored_pool(connection)
        names = [member["name"] for member in stored["members"]]
        sources = {member["name"]: member["source"] for member in stored["members"]}
        if rank == "none":
            assert names[:2] == ["copy.cif", "own.cif"]
        else:
            energies = [member["energy_per_atom"] for member in stored["members"]]
            assert energies == sorted(energies)
        assert (sources["copy.cif"], sources["mixed-1-8"]) == ("file", "generated")
        assert "mixed-1-2" not in names, "a copy of a file"
        assert stored["dropped"]["duplicate"] > 0
        assert stored["dropped"].get("TOO_CLOSE", 0) == (0 if rank == "none" else 2)

    def test_a_generator_that_fails_stops_the_search_with_its_own_words(self, connection):
        config = plugin("broken")
        submit(connection, config)
        work(connection, config.search_id)
        (line,) = {line for _, line in fizzled_jobs(connection, config.search_id)}
        assert line.endswith("the generator broken (cu3au-generators 1.5) failed: RuntimeError: out of ideas")
        assert not candidates(connection, config.search_id)


def test_what_decides_about_the_structures_is_in_the_search_id():
    first = generating()
    others = [
        {"optimiser": "pso"},
        {"candidates": 31},
        {"formula_units": (1, 2)},
        {"space_groups": (1, 2)},
        {"energy_model": "lj"},
        {"batch_size": 20},
        {"keep": 9},
        {"plugin": "strained"},
        {"energy_model": "gn", "model_file": "a.npz", "model_digest": "1"},
        {"energy_model": "gn", "model_file": "a.npz", "model_digest": "2"},
    ]
    ids = [generating(pool={"generate": change}).search_id for change in others]
    assert len({first.search_id, *ids}) == len(others) + 1
    moved = generating(pool={"generate": {"energy_model": "gn", "model_file": "b.npz", "model_digest": "2"}})
    assert moved.search_id == ids[-1]
    assert generating(execution={"rankings_per_job": 1}).search_id == first.search_id
    assert generating(pool={"rank": "single"}).search_id != first.search_id
    known = first.model_copy(update={"pool": first.pool.model_copy(update={"volume": 17.0})})
    assert known.search_id == first.search_id, "what jobs find out later is no other search"


def test_a_network_that_was_not_read_has_no_search():
    unread = generating(pool={"generate": {"energy_model": "gn", "model_file": "a.npz"}})
    with pytest.raises(ConfigError, match=r"^pool\.generate\.model_file: has not been read"):
        SearchMaker(unread).make()
