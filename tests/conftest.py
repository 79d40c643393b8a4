"""Fixtures for the whole suite: a real mongod, fresh databases on it, and a wall around the user's own set-up."""

import os

# before numpy and torch are loaded: more than one thread per process makes everything many times slower
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import contextlib
import importlib.util
import itertools
import json
import shutil
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from fuse_flows.settings import settings
from fuse_flows.store.server import EmbeddedServer

STANDIN = Path(__file__).parent / "standin"
USER_VARIABLES = ("FW_CONFIG_FILE", "JOBFLOW_CONFIG_FILE", "FUSE_FLOWS_LAUNCHPAD", "FUSE_FLOWS_DB_NAME")


def pytest_configure(config):
    """Hide ``~/.fireworks`` and ``~/.jobflow.yaml``, which both libraries read as soon as they are imported."""
    home = tempfile.mkdtemp(prefix="fuse-flows-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # caches of fonts and models may stay
    os.environ["HOME"] = home
    os.environ["FUSE_FLOWS_DATA_DIR"] = str(Path(home) / "data")
    for name in USER_VARIABLES:
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items):
    for item in items:
        if "mongo_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mongo)


@pytest.fixture(autouse=True)
def _own_set_up(tmp_path_factory, tmp_path, monkeypatch):
    """Keep settings, data and configuration files of the user, and those in the working directory, out of a test."""
    monkeypatch.chdir(tmp_path)
    if "fireworks.fw_config" in sys.modules:
        for name in ("LAUNCHPAD_LOC", "FWORKER_LOC", "QUEUEADAPTER_LOC"):
            monkeypatch.setattr(sys.modules["fireworks.fw_config"], name, None)
    for name in USER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FUSE_FLOWS_DATA_DIR", str(tmp_path_factory.getbasetemp() / "no-data"))
    monkeypatch.setenv("FUSE_FLOWS_DB_PORT", "27999")  # nothing listens there
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(autouse=True)
def _no_outputs_in_memory():
    """Fail a test whose jobs wrote to jobflow's default store, where outputs are lost with the process."""
    yield
    if "jobflow" not in sys.modules:
        return
    from jobflow import SETTINGS
    from maggma.stores import MemoryStore

    store = SETTINGS.JOB_STORE.docs_store
    if isinstance(store, MemoryStore) and store._coll is not None and store.count():
        store.remove_docs({})
        pytest.fail("jobs stored their outputs in jobflow's default MemoryStore; use the connection's jobstore")


@pytest.fixture(scope="session")
def free_port():
    """Return a function that names the first of some ports in a row on which nothing listens; never the same twice.

    They lie below those that systems give to outgoing connections (32768 and up, on Linux), one of which could
    otherwise take a port before its server listens, or while a test has stopped it.
    """
    numbers = itertools.count(os.getpid() * 101)  # test processes begin at different ports

    def find(in_a_row=1):
        while True:
            ports = [12_000 + next(numbers) % 14_000 for _ in range(in_a_row)]
            if ports[0] + in_a_row - 1 == ports[-1] and all(map(_is_free, ports)):
                return ports[0]

    return find


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # servers set it, too
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory, free_port):
    """Return a running mongod of this test process."""
    server = EmbeddedServer(tmp_path_factory.mktemp("data") / "mongodb", free_port())
    server.start()
    yield server
    server.stop()
    shutil.rmtree(server.data_dir)


@pytest.fixture
def connection_factory(mongo_server, monkeypatch):
    """Return a function that makes a fresh database; ``connect()``, here and in processes, finds the newest one."""
    from fuse_flows.store.connection import connect_server
    from fuse_flows.store.setup import ensure_indexes

    made = []

    def make():
        server = replace(mongo_server, db_name=f"test_{uuid4().hex[:12]}")
        monkeypatch.setenv("FUSE_FLOWS_DATA_DIR", str(server.data_dir.parent))
        monkeypatch.setenv("FUSE_FLOWS_DB_PORT", str(server.port))
        monkeypatch.setenv("FUSE_FLOWS_DB_NAME", server.db_name)
        settings.cache_clear()
        made.append(connect_server(server))
        ensure_indexes(made[-1])
        return made[-1]

    yield make
    for connection in made:
        connection.database.client.drop_database(connection.database.name)
        connection.close()


PLUGIN = """
import numpy as np
from pymatgen.core import Lattice, Structure

SITES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def cell(a, b, c):
    return Structure(Lattice.orthorhombic(a, b, c), ["Au", "Cu", "Cu", "Cu"], SITES)


def strained(config, formula_units, seed):
    rng = np.random.default_rng(seed)
    for number in range(6):
        edges = (4.25 - 0.12 * number) * rng.uniform(0.998, 1.002, 3) * [1, 1.05, 1.1]
        structure = cell(*edges) * (formula_units, 1, 1)
        yield structure.perturb(0.05, seed=int(rng.integers(2**31))) if formula_units > 1 else structure


def nothing(config, formula_units, seed):
    return []


def only_two(config, formula_units, seed):
    return strained(config, formula_units, seed) if formula_units == 2 else []


def mixed(config, formula_units, seed):
    good = cell(3.7, 3.8, 3.9) * (formula_units, 1, 1)
    yield "no structure"
    yield good
    yield good
    yield cell(1.2, 1.2, 1.2) * (formula_units, 1, 1)
    yield good.copy().remove_sites([0])
    yield good * (9, 1, 1)
    yield cell(2.6, 2.6, 2.6) * (formula_units, 1, 1)
    yield cell(4.0, 4.0, 4.1) * (formula_units, 1, 1)


def broken(config, formula_units, seed):
    raise RuntimeError("out of ideas")


def lazy(config, formula_units, seed):
    return None


def undefined(config, formula_units, seed):
    yield Structure(Lattice.cubic(4), [], [])
    yield Structure(Lattice.cubic(float("nan")), ["Au", "Cu", "Cu", "Cu"], SITES)
    yield Structure(Lattice.cubic(4), ["Au", "Cu", "Cu", "Cu"], [*SITES[:3], [0, float("nan"), 0]])


number = 3
"""


@pytest.fixture
def plugin_package(tmp_path_factory, monkeypatch):
    """Install a package with generators for Cu3Au where this process and its workers find it; return its name."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "cu3au_generators.py").write_text(PLUGIN)
    (folder / "cu3au_unfinished.py").write_text("1 / 0\n")
    information = folder / "cu3au_generators-1.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: cu3au-generators\nVersion: 1.5\n")
    names = ("strained", "nothing", "only_two", "mixed", "broken", "lazy", "undefined", "number", "missing")
    lines = [f"{name} = cu3au_generators:{name}" for name in names] + ["unfinished = cu3au_unfinished:strained"]
    (information / "entry_points.txt").write_text("\n".join(["[fuse_flows.generators]", *lines, ""]))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    return "cu3au-generators"


@pytest.fixture
def connection(connection_factory):
    """Return a connection to a fresh database with its indexes."""
    return connection_factory()


@pytest.fixture(scope="session")
def potcar_folder(tmp_path_factory):
    """POTCARs that hold no data of VASP."""
    spec = importlib.util.spec_from_file_location("potcars", STANDIN / "potcars.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_potcars(tmp_path_factory.mktemp("psp"))


@pytest.fixture
def standin(potcar_folder, monkeypatch, tmp_path):
    """Let atomate2 and pymatgen find the stand-in, here and in processes; return a function that plans faults."""
    import atomate2
    import pymatgen.core

    command = f"{sys.executable} {STANDIN / 'vasp_std.py'}"
    monkeypatch.setattr(atomate2.SETTINGS, "VASP_CMD", command)
    monkeypatch.setitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR", str(potcar_folder))
    monkeypatch.setenv("ATOMATE2_VASP_CMD", command)
    monkeypatch.setenv("PMG_VASP_PSP_DIR", str(potcar_folder))
    log = tmp_path / "standin.log"
    monkeypatch.setenv("VASP_STANDIN_LOG", str(log))

    def plan(faults="", *, every=0, model="pair"):
        monkeypatch.setenv("VASP_STANDIN_FAULTS", faults)
        monkeypatch.setenv("VASP_STANDIN_EVERY", str(every))
        monkeypatch.setenv("VASP_STANDIN_MODEL", model)
        return lambda: [json.loads(line) for line in log.read_text().splitlines()]

    return plan


@pytest.fixture(scope="session")
def finished_search(mongo_server, tmp_path_factory):
    """Return a connection and the id of a search that is over: two walkers, two tiers, a pool, some failures.

    Its texts that users may choose, a label and the name of a file, are such as would break a careless page. Tests only
    read it; it lies in a database of its own.
    """
    from ase.build import bulk
    from ase.io import write

    from fuse_flows.config import load_config
    from fuse_flows.flows.local import submit, work
    from fuse_flows.generators.files import read_pool
    from fuse_flows.store.connection import connect_server
    from fuse_flows.store.setup import ensure_indexes

    folder = tmp_path_factory.mktemp("finished")
    (folder / "pool").mkdir()
    for name, edge in (("<img src=x onerror=alert(1)>&$x_$.cif", 3.75), ("plain.cif", 3.95)):
        atoms = bulk("Cu", "fcc", a=edge, cubic=True)
        atoms.symbols[0] = "Au"
        atoms.cell[2] *= edge - 2.75  # tetragonal, the two not alike
        atoms.positions[:, 2] *= edge - 2.75
        write(folder / "pool" / name, atoms)
    config, pool = read_pool(
        load_config(
            formula="Cu3Au",
            label="</script><script>alert(1)</script>",
            max_atoms=8,
            seed=3,
            walkers={"number": 2, "meet_every": 4},
            generator={"initial_structures": 3},
            pool={"structures": str(folder / "pool")},
            stop={"max_structures": 24},
            execution={"structures_per_job": 3, "steps_per_job": 4},
            tiers=[
                {"calculator": "emt", "max_steps": 15, "fmax": 0.5, "smax": 5},
                {"calculator": "emt", "max_steps": 12, "fmax": 0.05, "smax": 0.5, "second_pass": None},
            ],
        )
    )
    connection = connect_server(replace(mongo_server, db_name="finished_search"))
    ensure_indexes(connection)
    with contextlib.chdir(folder):  # where FireWorks leaves its files
        assert submit(connection, config, pool) == "submitted"
        work(connection, config.search_id)
    yield connection, config.search_id
    connection.database.client.drop_database(connection.database.name)
    connection.close()


@pytest.fixture
def search(finished_search, mongo_server, monkeypatch):
    """Return the search that is over; ``connect()``, here and in processes, finds its database."""
    from fuse_flows.store import Search

    connection, search_id = finished_search
    monkeypatch.setenv("FUSE_FLOWS_DATA_DIR", str(mongo_server.data_dir.parent))
    monkeypatch.setenv("FUSE_FLOWS_DB_PORT", str(mongo_server.port))
    monkeypatch.setenv("FUSE_FLOWS_DB_NAME", connection.database.name)
    settings.cache_clear()
    return Search(search_id, connection)
