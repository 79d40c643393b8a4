"""A search through [spp, chgnet, gpaw] on the LaunchPad, with the real GPAW, and the same search with a kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import launch_rocket
from rich.console import Console

from fuse_flows.cli.options import search_config
from fuse_flows.cli.progress import run_and_watch
from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.local import NO_CATEGORY, start_workers, submit
from fuse_flows.relax.gpaw.options import with_gpaw_defaults
from fuse_flows.store.connection import write_launchpad_file
from fuse_flows.store.queries import best_candidates, candidates
from fuse_flows.store.searches import search_document

pytestmark = [
    pytest.mark.mongo,
    pytest.mark.gpaw,
    pytest.mark.chgnet,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gpaw") is None, reason="GPAW is not installed; run scripts/install_gpaw.sh"),
]
#: Not settings to be used: few plane waves and k-points, one step, and every end accepted.
STAGES = [
    {"ecut": 300, "kspacing": 5, "convergence": {"energy": 1e-3, "density": 1e-3}, "max_steps": 0},
    {"ecut": 300, "kspacing": 2, "convergence": {"energy": 1e-4, "density": 1e-4}, "max_steps": 1},
]
FIELDS = ("candidate_id", "energy_per_atom", "outcome", "accepted")


def config():
    gpaw = {
        "calculator": "gpaw",
        "calculator_kwargs": {"stages": STAGES, "force_limit": 100, "stress_limit": 1000},
    }
    return with_gpaw_defaults(
        load_config(
            formula="MgO",
            max_atoms=4,
            seed=5,
            generator={"initial_structures": 2},
            stop={"max_structures": 3},
            tiers=["spp", {"calculator": "chgnet", "max_steps": 40, "second_pass": None}, gpaw],
        )
    )


def work_once(connection, search):
    worker = FWorker(category=NO_CATEGORY, query={"spec.search_id": search.search_id})
    assert launch_rocket(connection.launchpad, worker, strm_lvl="CRITICAL")


def engines_of(pid):
    """Return the processes that a worker started for GPAW."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended
            if parent == pid and b"engine.py" in command:
                found.append(int(folder.name))
    return found


def test_search_with_gpaw_and_the_same_search_killed(connection_factory, tmp_path):
    search, connection = config(), connection_factory()
    submit(connection, search)
    assert run_and_watch(connection, search, 1, Console(quiet=True)) is False
    found = candidates(connection, search.search_id)
    document = search_document(connection, search.search_id)
    assert (len(found), document.status) == (3, "finished")
    assert best_candidates(connection, search.search_id, 1)
    with_gpaw = [candidate for candidate in found if len(candidate["tiers"]) == 3]
    assert with_gpaw
    for candidate in with_gpaw:
        assert [tier["calculator"] for tier in candidate["tiers"]] == ["spp", "chgnet", "gpaw"]
        assert candidate["outcome"] in {"CONVERGED", "ACCEPTED"}
        (task,) = candidate["tiers"][-1]["tasks"]
        output = connection.jobstore.query_one({"uuid": task})["output"]
        assert (output["kind"], len(output["stages"])) == ("gpaw", 2)
        assert output["stages"][-1]["energy"] == pytest.approx(candidate["energy"])
    takers = {}
    for launch in connection.launchpad.launches.find({}):
        firework = connection.launchpad.fireworks.find_one({"fw_id": launch["fw_id"]})
        takers.setdefault(firework["spec"].get("_category"), set()).add(launch["fworker"]["name"])
    assert set(takers) == {None, "gpaw"}
    assert not takers[None] & takers["gpaw"]
    killed_and_resumed(connection_factory(), search, [[one[field] for field in FIELDS] for one in found], tmp_path)


def killed_and_resumed(connection, search, expected, folder):
    """Kill GPAW and its worker in the middle of a calculation; the candidates are the same in the end."""
    submit(connection, search)
    launchpad = connection.launchpad
    while not launchpad.fireworks.count_documents({"spec._category": "gpaw"}):
        work_once(connection, search)
    (worker,) = start_workers(connection, search.search_id, 0, folder / "worker", ["gpaw"])
    deadline = time.monotonic() + 300
    while not list((folder / "worker").rglob("gpaw_*/gpaw.txt")) and time.monotonic() < deadline:
        assert worker.poll() is None
        time.sleep(0.02)
    killed = engines_of(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    worker.wait()
    assert killed
    assert launchpad.fireworks.count_documents({"state": "RUNNING"}) == 1
    write_launchpad_file(connection, folder / "my_launchpad.yaml")
    time.sleep(1.5)
    command = ["-l", str(folder / "my_launchpad.yaml"), "detect_lostruns", "--time", "1", "--rerun"]
    subprocess.run([sys.executable, "-m", "fireworks.scripts.lpad_run", *command], check=True, capture_output=True)
    assert launchpad.fireworks.count_documents({"state": "RUNNING"}) == 0
    (other,) = start_workers(connection, search.search_id, 1, folder / "other")
    assert other.wait(600) == 0
    ended = [[one[field] for field in FIELDS] for one in candidates(connection, search.search_id)]
    assert [[one[0], *one[2:]] for one in ended] == [[one[0], *one[2:]] for one in expected]
    assert [one[1] for one in ended] == pytest.approx([one[1] for one in expected], abs=1e-8)  # GPAW's own scatter
    assert search_document(connection, search.search_id).status == "finished"


def test_refused_on_submission(tmp_path):
    search = search_config("MgO", tiers="spp,gpaw")
    assert len(search.tiers[1].calculator_kwargs["stages"]) == 2
    with pytest.raises(ConfigError, match="no PAW data of Pu for PBE"):
        search_config("PuO2", tiers="lj,gpaw")
    (tmp_path / "bad.yaml").write_text("tiers: [{calculator: gpaw, calculator_kwargs: {ecut: 700}}]")
    with pytest.raises(ConfigError, match=r"tiers.calculator_kwargs.ecut: gpaw does not know it"):
        search_config("MgO", config=tmp_path / "bad.yaml")
