"""``--structures``: what became of the files is told, and a folder that cannot serve is one line."""

import subprocess
import sys

import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.store.queries import candidates

pytestmark = pytest.mark.mongo

FAST = """
max_atoms: 4
generator: {initial_structures: 3}
stop: {max_structures: 6}
tiers: [{calculator: emt, max_steps: 30, fmax: 0.2, smax: 2}]
"""


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "fuse_flows.cli", *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.fixture(name="options")
def _options(tmp_path):
    """A folder with one structure that serves, the options that name it, and the configuration file."""
    folder = tmp_path / "cifs"
    folder.mkdir()
    sites = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    Structure(Lattice.cubic(3.9), ["Au", "Cu", "Cu", "Cu"], sites).to(str(folder / "good.cif"), fmt="cif")
    Structure(Lattice.cubic(3.9), ["Au", "Au", "Cu", "Cu"], sites).to(str(folder / "other.cif"), fmt="cif")
    (folder / "broken.cif").write_text("data_x")
    (tmp_path / "fast.yaml").write_text(FAST)
    return ["-c", tmp_path / "fast.yaml", "--structures", folder]


def test_run_tells_what_became_of_the_files(connection, options, tmp_path):
    done = command("run", "Cu3Au", *options, "--workers", 1, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "accepted 1 structures from 3 files; skipped: unreadable 1, wrong composition 1" in done.stdout
    (search_id,) = connection.outputs.distinct("metadata.search_id")
    found = candidates(connection, search_id)
    assert [(d["source"], d["origin"]) for d in found[:3]] == [("file", "good.cif")] + [("random", None)] * 2
    assert "1 of 1 used; files skipped: unreadable 1, wrong composition 1" in command("status", search_id).stdout
    assert "good.cif" in (tmp_path / "out" / "energies.csv").read_text()
    assert "finished" in command("run", "Cu3Au", *options, "--workers", 1, "-o", tmp_path / "out").stdout
    done = command("resume", search_id, "--max-structures", 8, "--workers", 1, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(candidates(connection, search_id)) == 8


@pytest.mark.usefixtures("connection")
def test_workflow_holds_the_structures(options, tmp_path):
    file = tmp_path / "wf.json"
    done = command("workflow", "Cu3Au", "-o", file, *options)
    assert done.returncode == 0, done.stderr
    assert "accepted 1 structures" in done.stdout
    assert "good.cif" in file.read_text()


def test_bad_folder_is_one_line_and_submits_nothing(connection, options, tmp_path):
    for words in (["run", "Cu3Au"], ["workflow", "Cu3Au", "-o", tmp_path / "wf.json"]):
        done = command(*words, *options[:2], "--structures", tmp_path / "nowhere")
        assert done.returncode == 2
        assert done.stderr.startswith("error: pool.structures: ")
        assert done.stderr.count("\n") == 1
    assert connection.launchpad.fireworks.count_documents({}) == 0
    assert not (tmp_path / "wf.json").exists()
