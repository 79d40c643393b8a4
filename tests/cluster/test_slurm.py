"""A search that outlives its allocations on a real Slurm ends like the search of a single process."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.store.connection import write_launchpad_file
from fuse_flows.store.queries import candidates
from fuse_flows.store.repair import repair
from fuse_flows.store.searches import search_document

FOLDER = Path(__file__).parent
WANTED = os.environ.get("CI") == "true" or os.environ.get("FUSE_FLOWS_CLUSTER_TESTS") == "1"
pytestmark = [
    pytest.mark.mongo,
    pytest.mark.cluster,
    pytest.mark.skipif(not WANTED, reason="starts a Slurm: set FUSE_FLOWS_CLUSTER_TESTS=1"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start a Slurm"),
]

MARGIN = 10  # s at the end of an allocation of 60 s in which nothing is begun
SLEEP = 102  # s that the whole search sleeps: more than two allocations hold
PATIENCE = 1800  # on a machine so busy that a worker needs most of its allocation to start

SEARCH = """
formula: Cu3Au
max_atoms: 4
seed: 5
generator: {initial_structures: 4}
stop: {max_structures: 24}
execution: {structures_per_job: 4, steps_per_job: 10, jobs_per_segment: 1}
tiers: [{calculator: "slow_emt:SlowEMT", max_steps: 15, fmax: 0.3, smax: 3}]
"""


@pytest.fixture(name="slurm", scope="module")
def _slurm(tmp_path_factory, free_port):
    """Start a Slurm of one node, installed if need be, and lead its clients to it."""
    folder = tmp_path_factory.mktemp("slurm")
    script = [str(FOLDER / "slurm.sh")]
    environment = os.environ | {"FUSE_FLOWS_INSTALL_SLURM": "1", "SLURM_TEST_PORT": str(free_port(2))}
    started = subprocess.run(
        [*script, "start", str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert started.returncode == 0, started.stderr
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([*script, "stop", str(folder)], check=True)


def sequence(connection, search_id):
    fields = ("candidate_id", "energy_per_atom", "move", "accepted", "outcome", "verdict", "cluster_id")
    return [tuple(found[field] for field in fields) for found in candidates(connection, search_id)]


def undisturbed(connection, search):
    """Return the sequence of the search in one process, and how often it calls the calculator."""
    from slow_emt import SlowEMT

    SlowEMT.calls = 0
    submit(connection, search)
    work(connection, search.search_id)
    return sequence(connection, search.search_id), SlowEMT.calls


def run(*command, env, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shorten(file, seconds_per_call):
    """Adapt the queue adapter of the project to allocations of a minute."""
    adapter = yaml.safe_load(file.read_text()) | {"walltime": "00:01:00", "mem": "1G"}
    adapter["pre_rocket"] = re.sub(r"(MARGIN)=\d+", rf"\1={MARGIN}", adapter["pre_rocket"])
    adapter["pre_rocket"] += f"export SLOW_EMT_SECONDS={seconds_per_call:.5f}\n"
    file.write_text(yaml.safe_dump(adapter))


def wait_for_the_end(connection, search_id, cancel):
    """Wait until the search is finished; cancel its second allocation in the middle, and mend as 'repair' does."""
    deadline, cancelled = time.monotonic() + PATIENCE, False
    while search_document(connection, search_id).status != "finished":
        assert time.monotonic() < deadline, search_document(connection, search_id)
        workers = connection.launchpad.launches.distinct("fworker.name")
        if len(workers) == 2 and not cancelled:
            cancelled = True
            cancel()
        repair(connection.launchpad, search_id, lost_after=None, patience=2)
        time.sleep(2)
    assert cancelled


def test_search_over_several_allocations(slurm, connection_factory, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER / "modules")
    (tmp_path / "search.yaml").write_text(SEARCH)
    search = load_config(tmp_path / "search.yaml")
    expected, calls = undisturbed(connection_factory(), search)

    connection, project = connection_factory(), tmp_path / "project"
    write_launchpad_file(connection, tmp_path / "launchpad.yaml")
    env = os.environ | slurm | {"PYTHONPATH": os.pathsep.join([str(FOLDER / "modules"), *filter(None, sys.path)])}
    run("fuse_flows.cli", "init", project, "-l", tmp_path / "launchpad.yaml", env=env, cwd=tmp_path)
    shorten(project / "my_qadapter.yaml", SLEEP / calls)
    workflow = ("workflow", "Cu3Au", "--config", tmp_path / "search.yaml", "-o", "workflow.yaml")
    run("fuse_flows.cli", *workflow, env=env, cwd=project)
    run("fireworks.scripts.lpad_run", "-l", "my_launchpad.yaml", "add", "workflow.yaml", env=env, cwd=project)

    files = ("-l", "my_launchpad.yaml", "-w", "my_fworker.yaml", "-q", "my_qadapter.yaml")
    forever = ("rapidfire", "--nlaunches", "infinite", "-m", "1", "--sleep", "2")
    command = [sys.executable, "-m", "fireworks.scripts.qlaunch_run", *files, *forever]
    with (project / "qlaunch.log").open("w") as log:
        qlaunch = subprocess.Popen(command, env=env, cwd=project, stdout=log, stderr=log)
    cancel = ["scancel", "--user=root", "--state=RUNNING"]
    try:
        wait_for_the_end(connection, search.search_id, lambda: subprocess.run(cancel, env=env, check=True))
    finally:
        qlaunch.send_signal(signal.SIGKILL)
        qlaunch.wait()
        subprocess.run([*cancel, "--signal=KILL"], env=env, check=True)
    assert sequence(connection, search.search_id) == expected
    assert len(connection.launchpad.launches.distinct("fworker.name")) >= 3
    written = [file.read_text() for file in project.rglob("fuse-flows-*.*")]
    assert len(written) >= 6
    assert not [text for text in written if "TIME LIMIT" in text]  # every allocation ended by itself
