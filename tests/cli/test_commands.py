"""The command line as a user meets it: processes, exit codes, files."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fireworks import FWorker
from pymongo.errors import AutoReconnect
from rich.console import Console

from fuse_flows.cli.app import in_one_line
from fuse_flows.cli.progress import run_and_watch
from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.local import submit
from fuse_flows.store.connection import write_jobflow_file, write_launchpad_file
from fuse_flows.store.jobs import active_jobs
from fuse_flows.store.queries import candidates

pytestmark = pytest.mark.mongo

FAST = """
formula: Cu3Au
max_atoms: 4
generator: {initial_structures: 4}
stop: {max_structures: 10}
tiers: [{calculator: emt, max_steps: 40, fmax: 0.2, smax: 2}]
"""

LONG = ("--max-structures", "40")  # so that it is not over before a busy machine delivers a signal


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "fuse_flows.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """Run everything where no my_launchpad.yaml lies about."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="config_file")
def _config_file(tmp_path):
    path = tmp_path / "fast.yaml"
    path.write_text(FAST)
    return path


def sequence(connection, search_id):
    return [(d["candidate_id"], d["energy_per_atom"], d["accepted"]) for d in candidates(connection, search_id)]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["run", "Xx2"], "formula"),
        (["run", "Sr0.5TiO3"], "formula"),
        (["run", ""], "formula"),
        (["run", "SrTiO3", "--max-atoms", 4], "max_atoms"),
        (["run", "SrTiO3", "--calculator", "no-such-potential"], "tiers.calculator"),
        (["run", "SrTiO3", "--calculator", "emt"], "tiers.calculator"),
        (["run", "SrTiO3", "--config", "missing.yaml"], "config"),
        (["workflow", "MgO", "-o", "wf.txt"], "output"),
        (["config", "show", "MgO", "--config", "typo.yaml"], "max_atom"),
        (["results", "SrTiO3"], "search"),
        (["resume", "SrTiO3"], "search"),
        (["stop", "SrTiO3"], "search"),
        (["run", "MgO", "--wall-hours", 0], "stop.wall_hours"),
    ],
)
def test_bad_input_is_one_line_and_submits_nothing(connection, tmp_path, words, field):
    (tmp_path / "typo.yaml").write_text("max_atom: 3\n")
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {field}: ")
    assert done.stderr.count("\n") == 1
    assert connection.launchpad.fireworks.count_documents({}) == 0
    assert not list(tmp_path.glob("wf*"))


def test_unreachable_database_is_one_line(tmp_path):
    file = tmp_path / "my_launchpad.yaml"
    file.write_text("host: mongodb://127.0.0.1:1/fuse_flows\nname: fuse_flows\nuri_mode: true\n")
    done = command("status", "-l", file)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert str(file) in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigError("seed", "is odd"), "seed: is odd"),
        (IsADirectoryError(21, "Is a directory", "a.html"), "a.html: Is a directory"),
        (AutoReconnect("db:1: refused, Timeout: 30s, Topology: <long>"), "the database went away, or refused"),
        (OSError("of no file"), None),
        (KeyError("a defect"), None),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, message):
    found = in_one_line(error)
    assert (found is None) if message is None else found.startswith(message)
    assert "Topology" not in (found or "")


def test_output_that_is_no_folder_is_told_before_the_search(connection, config_file, tmp_path):
    (tmp_path / "there").touch()
    done = command("run", "Cu3Au", "--config", config_file, "--out", "there", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: out: ")
    assert connection.launchpad.fireworks.count_documents({}) == 0


def test_help_does_not_load_heavy_libraries():
    code = (
        "import sys; import fuse_flows.cli.app; "
        "print({'torch', 'pymatgen', 'fireworks', 'jobflow', 'pymongo', 'ase', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert command("--help").returncode == 0


def test_config_show_prints_a_file_that_run_accepts(tmp_path):
    done = command("config", "show", "SrTiO3", "--max-atoms", 15)
    path = tmp_path / "search.yaml"
    path.write_text(done.stdout)
    assert yaml.safe_load(done.stdout)["max_atoms"] == 15
    assert command("config", "show", "SrTiO3", "-c", path).stdout == done.stdout


def test_run_writes_results_and_runs_once(connection, config_file, tmp_path):
    out = tmp_path / "out"
    done = command("run", "Cu3Au", "-c", config_file, "--workers", 1, "-o", out)
    assert done.returncode == 0, done.stderr
    assert "submitted" in done.stdout
    assert "max_structures reached" in done.stdout
    with (out / "energies.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(1, 11))
    assert (out / "energies.png").stat().st_size > 5000
    relaxed = [row for row in rows if row["outcome"] == "CONVERGED"]
    assert len(list((out / "best").glob("*.cif"))) == len({row["cluster_id"] for row in relaxed}) > 0
    (search_id,) = {document["search_id"] for document in candidates(connection, _only_search(connection))}

    best = json.loads(command("results", "Cu3Au", "--top", 1, "--json").stdout)[0]
    assert best["energy_per_atom"] == min(float(row["energy_per_atom"]) for row in relaxed)
    every = json.loads(command("results", "Cu3Au", "--all", "--json").stdout)
    unique = json.loads(command("results", "Cu3Au", "--json").stdout)
    assert (len(every), "copies" in every[0]) == (min(10, len(relaxed)), False)
    assert sum(document["copies"] for document in unique) == len(relaxed)
    assert ["copies" in command("results", "Cu3Au", *option).stdout for option in ((), ("--all",))] == [True, False]
    view = connection.launchpad.db["fuse_candidates"]
    query = {"formula": "Cu3Au", "outcome": "CONVERGED"}
    assert view.find_one(query, sort=[("energy_per_atom", 1)])["candidate_id"] == best["candidate_id"]

    before = sequence(connection, search_id)
    again = command("run", "Cu3Au", "-c", config_file, "--workers", 1, "-o", out)
    assert again.returncode == 0
    assert "finished" in again.stdout
    assert sequence(connection, search_id) == before
    status = command("status", search_id).stdout
    assert "10 of 10" in status
    assert "COMPLETED" in status
    assert search_id in command("status").stdout


def _only_search(connection):
    (search_id,) = connection.outputs.distinct("metadata.search_id")
    return search_id


@pytest.mark.parametrize("request_to_end", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_a_search_that_resumes(connection_factory, config_file, tmp_path, request_to_end):
    undisturbed = connection_factory()
    assert command("run", "Cu3Au", "-c", config_file, *LONG, "--workers", 1, "-o", tmp_path / "a").returncode == 0
    search_id = _only_search(undisturbed)

    connection = connection_factory()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fuse_flows.cli",
            "run",
            "Cu3Au",
            "-c",
            config_file,
            *LONG,
            "--workers",
            "2",
            "-o",
            tmp_path / "b",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        # where the tests themselves run in the background of a shell, Ctrl-C is ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    deadline = time.monotonic() + 300
    while len(candidates(connection, search_id)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(request_to_end)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130, output
    assert f"fuse-flows resume {search_id}" in output
    assert not connection.launchpad.fireworks.count_documents({"state": "RUNNING"})  # no worker is left
    assert 2 <= len(candidates(connection, search_id)) < 40
    done = command("resume", "Cu3Au", *LONG, "--workers", 1, "-o", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert sequence(connection, search_id) == sequence(undisturbed, search_id)


def test_stop_and_resume(connection_factory, config_file, tmp_path):
    undisturbed = connection_factory()
    assert command("run", "Cu3Au", "-c", config_file, "--workers", 1, "-o", tmp_path / "a").returncode == 0
    search = load_config(config_file)
    assert "is not running" in command("stop", "Cu3Au").stdout

    connection = connection_factory()
    submit(connection, search)
    assert "was not asked to stop" in command("stop", "Cu3Au", "--withdraw").stdout
    assert f"fuse-flows resume {search.search_id}" in command("stop", "Cu3Au").stdout
    assert not run_and_watch(connection, search, 1, Console(file=io.StringIO()))  # nothing to do, which is no failure
    assert "stopped stop requested" in command("status", search.search_id).stdout
    assert not candidates(connection, search.search_id)
    assert "may go on" in command("stop", "Cu3Au", "--withdraw").stdout
    assert active_jobs(connection, search.search_id) == 4  # rlaunch could go on now
    assert "continue with" in command("stop", "Cu3Au").stdout
    fewer = command("resume", "Cu3Au", "--max-structures", 5, "--workers", 0)
    assert (fewer.returncode, "is less than the" in fewer.stderr) == (2, True)
    done = command("resume", "Cu3Au", "--workers", 1, "-o", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert "finished: max_structures reached" in done.stdout
    assert sequence(connection, search.search_id) == sequence(undisturbed, search.search_id)


def test_wall_hours_end_a_search_and_resume_extends_it(connection, config_file, tmp_path):
    words = ["--workers", 1, "-o", tmp_path / "out"]
    done = command("run", "Cu3Au", "-c", config_file, "--wall-hours", 1e-6, *words)
    assert done.returncode == 0, done.stderr
    assert "finished: wall_hours reached" in done.stdout
    again = command("resume", "Cu3Au", *words)
    assert "finished: wall_hours reached" in again.stdout
    extended = command("resume", "Cu3Au", "--wall-hours", 2, *words)
    assert "finished: max_structures reached" in extended.stdout
    assert len(sequence(connection, _only_search(connection))) == 10


@pytest.mark.parametrize(("has_jobflow_file", "workers"), [(True, 1), (False, 2)])
def test_lpad_and_rlaunch_run_the_same_search(connection_factory, config_file, tmp_path, has_jobflow_file, workers):
    undisturbed = connection_factory()
    assert command("run", "Cu3Au", "-c", config_file, "--workers", 1, "-o", tmp_path / "a").returncode == 0
    search_id = _only_search(undisturbed)

    connection = connection_factory()
    launchpad, jobflow = tmp_path / "my_launchpad.yaml", tmp_path / "jobflow.yaml"
    write_launchpad_file(connection, launchpad)
    fw_config = Path(__file__).parents[2] / "fw_configs" / "FW_config.yaml"
    environment = os.environ | {"FW_CONFIG_FILE": str(fw_config)}
    if has_jobflow_file:
        write_jobflow_file(connection, jobflow)
        environment["JOBFLOW_CONFIG_FILE"] = str(jobflow)
    assert command("workflow", "Cu3Au", "-c", config_file, "-o", "wf.yaml", cwd=tmp_path).returncode == 0
    scripts = Path(sys.executable).parent
    options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([scripts / "lpad", "-l", launchpad, "add", "wf.yaml"], check=True, **options)
    rlaunch = [scripts / "rlaunch", "-l", launchpad, "rapidfire"]
    processes = [subprocess.Popen(rlaunch, **options) for _ in range(workers)]
    assert [process.wait(timeout=600) for process in processes] == [0] * workers
    assert sequence(connection, search_id) == sequence(undisturbed, search_id)
    assert connection.launchpad.fireworks.distinct("state") == ["COMPLETED"]


@pytest.mark.usefixtures("connection")
def test_run_within_an_allocation_that_ends(connection, config_file, tmp_path):
    environment = os.environ | {"FUSE_FLOWS_ALLOCATION_END": str(time.time())}
    words = ("run", "Cu3Au", "-c", config_file, "--workers", "1", "-o", tmp_path / "out")
    done = command(*words, env=environment)
    assert done.returncode == 130, done.stderr
    assert "continue with: fuse-flows resume Cu3Au-" in done.stdout
    assert connection.outputs.count_documents({}) == 0
    assert connection.launchpad.launches.count_documents({}) == 0


def test_repair_and_worker(connection, config_file):
    """What a node left behind that was lost in the middle of a job, and a worker as the queue adapters submit it."""
    search = load_config(config_file)
    submit(connection, search)
    connection.launchpad.checkout_fw(FWorker("lost"), "/nowhere")
    assert "nothing was broken" in command("repair", "Cu3Au").stdout
    repaired = command("repair", "--lost-after", "0")
    assert "lost        1" in repaired.stdout, repaired.stderr
    worker = command("worker", "--category", "__none__")
    assert worker.returncode == 0, worker.stderr
    assert len(candidates(connection, search.search_id)) == search.stop.max_structures
    assert "ran 0 jobs" in command("worker", "Cu3Au").stdout


def test_check_reports_packages_engines_files_and_stores():
    done = command("check", "-l", os.devnull)
    assert done.returncode == 2
    done = command("check")
    assert done.returncode == 0, done.stderr
    for word in ("fireworks", "chgnet", "jobflow", "LaunchPad workflows", "JobStore data"):
        assert word in done.stdout
    assert "failed" not in done.stdout


def test_embedded_database_starts_stops_and_keeps_its_data(free_port, tmp_path, config_file):
    environment = os.environ | {"FUSE_FLOWS_DATA_DIR": str(tmp_path / "data"), "FUSE_FLOWS_DB_PORT": str(free_port())}
    try:
        assert "is running" in command("db", "start", env=environment).stdout
        assert command("init", cwd=tmp_path, env=environment).returncode == 0
        assert yaml.safe_load((tmp_path / "my_launchpad.yaml").read_text())["username"] == "fuse_flows"
        assert "JOB_STORE" in yaml.safe_load((tmp_path / "jobflow.yaml").read_text())
        out = ["--workers", "1", "-o", str(tmp_path / "out")]
        assert command("run", "Cu3Au", "-c", config_file, *out, env=environment).returncode == 0
        assert "is not running" in command("db", "stop", env=environment).stdout
        assert "is not running" in command("db", "status", env=environment).stdout
        assert len(json.loads(command("results", "Cu3Au", "--json", env=environment).stdout)) > 1
        assert "is running" in command("db", "status", env=environment).stdout
    finally:
        command("db", "stop", env=environment)
