"""Jobs that make the pool stop between two structures; the next allocation goes on, and the pool is the same."""

import shutil

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure

from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.flows.search import SearchMaker
from fuse_flows.generators.files import read_pool
from fuse_flows.jobs.allocation import Ending, look_at
from fuse_flows.jobs.generation import generated_document
from fuse_flows.store.jobs import active_jobs, fizzled_jobs, unfinished_jobs
from fuse_flows.store.queries import candidates
from fuse_flows.store.requests import request_stop, withdraw_stop
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

TIER = {"calculator": "emt", "max_steps": 20, "fmax": 0.3, "smax": 3}
SITES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
KINDS = ("ranking", "generated", "population")


class Clock:
    """A clock that goes on by a second whenever somebody looks at it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("structures")
    for number in range(4):
        lattice = Lattice.orthorhombic(3.75, 3.75 + 0.25 * (8 - number), 3.75 + 0.1 * (8 - number))
        Structure(lattice, ["Au", "Cu", "Cu", "Cu"], SITES).to(str(folder / f"{number}.cif"), fmt="cif")
    Structure(Lattice.cubic(2.6), ["Au", "Cu", "Cu", "Cu"], SITES).to(str(folder / "00_crushed.cif"), fmt="cif")
    return folder


def config(folder, **changes):
    """A search whose pool is read, generated and ranked, and of which little more is done."""
    generate = {"candidates": 24, "keep": 4, "energy_model": "emt", "batch_size": 8, "optimiser": "lineages"}
    pool = {"structures": str(folder), "generate": generate, "rank": "relax", "rank_tier": TIER | {"min_distance": 2.0}}
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 5,
        "pool": pool,
        "generator": {"initial_structures": 4},
        "stop": {"max_structures": 6},
        "execution": {"structures_per_job": 4, "steps_per_job": 2},
        "tiers": [TIER],
    }
    return read_pool(load_config(**values | changes))


def outputs(store):
    """Return the pool, what was generated and the candidates, without times."""
    pool = store.query_one({"output.kind": "pool"})["output"]
    generated = [(entry["evaluated"], entry["kept"], entry["rejected"]) for entry in pool["generated"]]
    found = sorted(
        (candidate["step"], candidate["index"], candidate["candidate_id"], candidate["energy_per_atom"])
        for document in store.query({"output.candidates": {"$exists": True}})
        for candidate in document["output"]["candidates"]
    )
    return pool["members"], pool["dropped"], generated, found


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(folder, tmp_path_factory):
    """What comes of the search in one go, without a LaunchPad."""
    store = JobStore(MemoryStore())
    flow = SearchMaker(*config(folder)).make()
    run_locally(flow, store=store, root_dir=tmp_path_factory.mktemp("local"), ensure_success=True, log=False)
    found = outputs(store)
    assert len(found[0]) > 8
    assert found[1]["TOO_CLOSE"] == 1
    assert len(found[3]) == 6
    assert store.count({"output.done": {"$type": "int"}}) == 0
    return found


def test_short_allocations_make_the_same_pool(undisturbed, connection, folder):
    search, pool = config(folder)
    submit(connection, search, pool)
    for _ in range(150):
        with look_at(Ending(9.0, 1.0, Clock())):
            work(connection, search.search_id)
        assert not fizzled_jobs(connection, search.search_id)
        if not unfinished_jobs(connection, search.search_id):
            break
    partial = {
        kind: connection.outputs.count_documents(
            {"output.kind": kind, "$or": [{"output.begun": {"$ne": None}}, {"output.done": {"$type": "int"}}]}
        )
        for kind in KINDS
    }
    assert all(partial.values()), partial
    assert outputs(connection.jobstore) == undisturbed


def test_run_locally_makes_the_same_pool(undisturbed, folder, tmp_path):
    """Without FireWorks the continuation is part of the running Flow."""
    store = JobStore(MemoryStore())
    flow = SearchMaker(*config(folder)).make()
    with look_at(Ending(requested=True)):  # every job does one structure, or one batch
        run_locally(flow, store=store, root_dir=tmp_path, ensure_success=True, log=False)
    assert store.count({"output.kind": "ranking", "output.done": {"$gte": 1}}) > 0
    assert outputs(store) == undisturbed


def test_generation_goes_on_as_if_it_had_not_been_cut(folder):
    search, _ = config(folder)
    whole = generated_document(search, 2)
    begun, parts = None, 0
    while parts == 0 or begun is not None:
        document = generated_document(search, 2, begun=begun, leaves_rest=lambda: True)
        begun, parts = document.begun, parts + 1
        assert (begun is None) == bool(document.members)
    assert parts == 3
    assert document.members == whole.members
    assert document.summary.rejected == whole.summary.rejected
    assert document.summary.evaluated == whole.summary.evaluated == 24


@pytest.mark.parametrize("after", [1, 3])
def test_stop_while_the_pool_is_made(undisturbed, connection, folder, after):
    """The jobs in hand end at a batch, and nobody takes those behind them before the search is resumed."""
    from fireworks import FWorker
    from fireworks.core.rocket_launcher import launch_rocket

    search, pool = config(folder)
    submit(connection, search, pool)
    for _ in range(after):
        assert launch_rocket(connection.launchpad, FWorker(), strm_lvl="ERROR")
    connection.database["fuse_requests"].insert_one({"_id": search.search_id, "stop": True, "paused": []})
    done = connection.outputs.count_documents({})
    work(connection, search.search_id)  # what was ready when the request came is put back
    assert connection.outputs.count_documents({}) == done
    assert not active_jobs(connection, search.search_id)
    assert search_document(connection, search.search_id).status == "stopped"
    request_stop(connection.launchpad, search.search_id)
    assert withdraw_stop(connection.launchpad, search.search_id)
    work(connection, search.search_id)
    assert outputs(connection.jobstore) == undisturbed


def test_walker_without_structures_of_the_pool_waits_for_it(connection_factory, folder, tmp_path):
    """Its moves draw from the pool as well; two walkers, one member, two proposals: the second walker failed."""
    shutil.copy(folder / "0.cif", tmp_path)
    search, pool = config(
        folder,
        pool={"structures": str(tmp_path)},
        walkers={"number": 2},
        proposals_per_step=2,
        stop={"max_structures": 16},
        execution={},
        moves={"weights": {"new_structure_current_size": 1, "new_structure_maximum_size": 1}},
    )
    assert len(pool.members) == 1
    found = []
    for last in (True, False):
        connection = connection_factory()
        submit(connection, search, pool)
        if last:  # the pool is stored when nothing else is left to do
            storing = connection.launchpad.fireworks.find_one({"name": {"$regex": "^store the pool"}}, {"fw_id": 1})
            connection.launchpad.pause_fw(storing["fw_id"])
            work(connection, search.search_id)
            assert not fizzled_jobs(connection, search.search_id)
            connection.launchpad.resume_fw(storing["fw_id"])
        work(connection, search.search_id)
        assert not fizzled_jobs(connection, search.search_id)
        assert search_document(connection, search.search_id).status == "finished"
        found.append(
            [(one["candidate_id"], one["energy_per_atom"]) for one in candidates(connection, search.search_id)]
        )
    assert len(found[0]) == 16
    assert found[0] == found[1]
