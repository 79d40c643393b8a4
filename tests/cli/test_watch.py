"""`status`, `status --watch`, `throughput`, `pause` and `priority` as a user meets them."""

import io
import re
import subprocess
import sys
import threading

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fuse_flows.cli import status as status_command
from fuse_flows.cli.app import app
from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.store.jobs import active_jobs
from fuse_flows.store.overview import overview
from fuse_flows.store.processes import worker_name
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo


def config(**changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 4,
        "generator": {"initial_structures": 3},
        "stop": {"max_structures": 8},
        "tiers": [{"calculator": "emt", "max_steps": 5, "fmax": 0.5, "smax": 5}],
    }
    return load_config(**values | changes)


def invoke(*words):
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done.output


def test_status_and_throughput_of_a_finished_search(search):
    table, one = invoke("status"), invoke("status", search.search_id)
    for word in (search.search_id, "finished", "24/24", "2: ", "CONVERGED"):
        assert word in table
    for word in ("24 of 24", "now         none, 0 structures per hour", "walker 1"):
        assert word in one
    for output in (invoke("throughput", search.search_id), invoke("throughput")):
        assert len(re.findall(r"^ *emt +\d+", output, re.MULTILINE)) == 2
        assert worker_name().removeprefix("fuse-flows@") in output
        assert re.search(r" 24 +\d+ +CONVERGED", output) or output.count("CONVERGED") > 1


def test_watching_ends_with_the_search(connection):
    """Not a terminal: one line for each change, and the command ends when the searches do."""
    one, other = config(), config(seed=3)
    submit(connection, one)
    submit(connection, other)
    process = subprocess.Popen(
        [sys.executable, "-m", "fuse_flows.cli", "status", "--watch", "--every", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    first = process.stdout.readline()  # it has looked once before anything runs
    assert "waiting 0/8" in first
    assert "jobs: waiting 4" in first
    work(connection)
    rest, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    lines = [line for line in rest.splitlines() if "finished 8/8" in line]
    assert len(lines) == 2
    assert "best " in lines[0]


def test_live_table_in_a_terminal(search, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(status_command, "console", Console(file=screen, force_terminal=True, width=200))
    status_command._watch(search.connection, None, 0.01)
    assert search.search_id in screen.getvalue()
    assert "\x1b[" in screen.getvalue()


def test_lost_and_failed_jobs_are_shown(connection, tmp_path):
    from fireworks import FWorker

    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    search = config()
    submit(connection, search)
    launchpad = connection.launchpad
    launchpad.checkout_fw(FWorker(worker_name(gone.pid)), str(tmp_path))
    launchpad.checkout_fw(FWorker("some@where:1"), str(tmp_path))
    found = overview(connection, search.search_id)
    assert found.jobs == {"waiting": 2, "running": 1, "lost": 1}
    assert not found.is_over
    assert "lost 1 (fuse-flows repair)" in invoke("status", search.search_id)
    for launch in launchpad.launches.find({}, {"launch_id": 1}):
        launchpad.mark_fizzled(launch["launch_id"])
    launchpad.fireworks.update_many({"state": "READY"}, {"$set": {"state": "FIZZLED"}})
    found = overview(connection, search.search_id)
    assert found.jobs == {"waiting": 1, "failed": 3}
    assert found.is_over, "nothing more happens by itself"


def test_pause_and_resume_elsewhere(connection_factory):
    undisturbed, search = connection_factory(), config()
    submit(undisturbed, search)
    work(undisturbed, search.search_id)
    connection, other = connection_factory(), config(seed=9)
    submit(connection, search)
    submit(connection, other)
    output = invoke("pause", "--all")
    assert output.count("3 jobs that had not begun") == 2
    assert invoke("pause", "--all").count("is paused already") == 2
    assert invoke("resume", "--all").count("its 4 jobs wait for workers") == 2
    assert active_jobs(connection, None) == 6
    assert "no search is paused" in invoke("resume", "--all")
    invoke("pause", "--all")
    assert not active_jobs(connection, None)
    assert work(connection) == 0
    assert [search_document(connection, one.search_id).status for one in (search, other)] == ["stopped"] * 2
    assert "paused 3" in invoke("status")
    assert "its 4 jobs wait for workers" in invoke("resume", search.search_id, "--workers", 0)
    timer = threading.Timer(0.3, lambda: invoke("pause", search.search_id))
    timer.start()
    work(connection, search.search_id)
    timer.join()
    invoke("resume", search.search_id, "--workers", 0)
    work(connection, search.search_id)
    assert search_document(connection, search.search_id).status == "finished"
    assert search_document(connection, other.search_id).status == "stopped"

    def sequence(where):
        from fuse_flows.store.queries import candidates

        return [(one["candidate_id"], one["energy_per_atom"]) for one in candidates(where, search.search_id)]

    assert sequence(connection) == sequence(undisturbed)
    assert "is over" in invoke("pause", search.search_id)
    invoke("stop", other.search_id, "--withdraw")
    work(connection, other.search_id)
    assert "nothing to pause" in invoke("pause", "--all")


def test_priority(connection):
    search = config()
    submit(connection, search)
    assert "has priority 5 (4 jobs" in invoke("priority", search.search_id, 5)
    assert connection.launchpad.fireworks.distinct("spec._priority") == [5]
    assert "priority    5" in invoke("status", search.search_id)
    assert re.search(r"priority", invoke("status"))
