"""Searches through [emt, vasp] with the stand-in, under atomate2 and custodian, on the LaunchPad."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from rich.console import Console

from fuse_flows.cli.options import search_config
from fuse_flows.cli.progress import run_and_watch
from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.local import NO_CATEGORY, start_workers, submit, work
from fuse_flows.store.connection import write_launchpad_file
from fuse_flows.store.queries import best_candidates, candidates
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

FAST = {"PREC": "Fast", "ALGO": "Fast", "EDIFF": 1e-4, "EDIFFG": 0.05, "IBRION": 2, "NSW": 15, "KSPACING": 0.5}
FINE = {"PREC": "Normal", "EDIFF": 1e-5, "EDIFFG": -0.05, "IBRION": 1, "NSW": 60, "KSPACING": 0.3}
#: What becomes of a relaxation that a fault of the stand-in strikes: outcome, and what custodian's log says.
EXPECTED = {
    "": ("CONVERGED", ()),
    "none": ("CONVERGED", ()),
    "zbrent": ("CONVERGED", ("zbrent",)),
    "brmix": ("CONVERGED", ("brmix",)),
    "frozen": ("CONVERGED", ("Frozen job",)),
    "nelm": ("ELECTRONIC_FAILURE", ("Unconverged", "Unconverged")),
    "kill": ("ENGINE_ERROR", ()),
    "truncated": ("ENGINE_ERROR", ()),
}


def config(initial, structures, **changes):
    vasp = {
        "calculator": "vasp",
        "calculator_kwargs": {"stages": [FAST, FINE], "max_errors": 2, "frozen_seconds": 20},
        "queue": {"custodian": {"polling_time_step": 0.1, "monitor_freq": 5}},
    }
    values = {
        "formula": "Cu3Au",
        "max_atoms": 8,
        "seed": 7,
        "generator": {"initial_structures": initial},
        "stop": {"max_structures": structures},
        "tiers": [{"calculator": "emt", "max_steps": 20, "fmax": 0.3, "smax": 3}, vasp],
    }
    return load_config(**values | changes)


def relaxations(runs):
    """Return the fault of each relaxation; at most one strikes."""
    faults = {}
    for run in runs:
        faults[run["relaxation"]] = run["fault"] or faults.get(run["relaxation"], "")
    return list(faults.values())


def outcome_and_errors(candidate):
    errors = tuple(correction.partition(": ")[2] for correction in candidate["tiers"][-1]["corrections"])
    outcome = "CONVERGED" if candidate["outcome"] == "ACCEPTED" else candidate["outcome"]  # forces all but vanished
    return outcome, errors


def check(connection, search, runs):
    """Nothing is lost, every fault has its outcome, and the documents are atomate2's."""
    found = candidates(connection, search.search_id)
    assert len(found) == search.stop.max_structures
    document = search_document(connection, search.search_id)
    assert (document.status, document.stop_reason) == ("finished", "max_structures reached")
    assert not [fw for fw in connection.launchpad.fireworks.find({}) if fw["state"] != "COMPLETED"]
    with_vasp = [candidate for candidate in found if len(candidate["tiers"]) == 2]
    assert Counter(map(outcome_and_errors, with_vasp)) == Counter(EXPECTED[fault] for fault in relaxations(runs))
    for candidate in with_vasp:
        cheap, last = candidate["tiers"]
        assert [tier["calculator"] for tier in (cheap, last)] == ["emt", "vasp"]
        assert (candidate["energy_per_atom"] is not None) == (candidate["outcome"] in {"CONVERGED", "ACCEPTED"})
        if candidate["energy_per_atom"] is None:
            continue
        (task,) = last["tasks"]
        stored = connection.jobstore.query_one({"uuid": task})["output"]
        assert stored["relaxation"]["candidate_id"] == candidate["candidate_id"]
        assert [calculation["task_name"] for calculation in stored["calcs_reversed"]] == ["relax2", "relax1"]
        assert stored["output"]["energy_per_atom"] == pytest.approx(candidate["energy_per_atom"])
        assert (stored["state"] == "successful") == (candidate["outcome"] == "CONVERGED")
        logged = [error for run in stored["custodian"] for fix in run["corrections"] for error in fix["errors"]]
        assert logged == list(outcome_and_errors(candidate)[1])
    assert best_candidates(connection, search.search_id, 1)
    takers = {}
    for launch in connection.launchpad.launches.find({}):
        firework = connection.launchpad.fireworks.find_one({"fw_id": launch["fw_id"]})
        takers.setdefault(firework["spec"].get("_category"), set()).add(launch["fworker"]["name"])
    assert set(takers) == {None, "vasp"}
    assert not takers[None] & takers["vasp"]


def test_faults_are_corrected_or_recorded(connection, standin):
    """As 'fuse-flows run' does it: one worker for cheap jobs, one for VASP, and every kind of fault."""
    log = standin("zbrent:1@2,nelm@1,none,kill@1,truncated@2,none", every=1, model="emt")
    search = config(4, 7)
    submit(connection, search)
    assert run_and_watch(connection, search, 1, Console(quiet=True)) is False
    check(connection, search, log())
    assert len(set(relaxations(log()))) > 2


@pytest.mark.slow
@pytest.mark.skipif("FUSE_FLOWS_CAMPAIGN" not in os.environ, reason="20 candidates take minutes; FUSE_FLOWS_CAMPAIGN=1")
def test_campaign(connection, standin):
    """20 candidates, a third of them with a fault."""
    log = standin("zbrent:1@2,nelm@1,kill@2,brmix:1@1,truncated@2,frozen:1@1", every=3, model="emt")
    search = config(8, 20)
    submit(connection, search)
    assert run_and_watch(connection, search, 1, Console(quiet=True)) is False
    check(connection, search, log())
    faults = Counter(filter(None, relaxations(log())))
    assert 5 <= faults.total() <= 12  # drawn by a hash of the structure
    assert len(faults) >= 4


def test_killed_in_the_middle(connection_factory, standin, tmp_path):
    """Worker and program are killed; FireWorks' own command brings the job back, and the search is the same."""
    log = standin(model="emt")
    search, undisturbed = config(2, 3), connection_factory()
    submit(undisturbed, search)
    work(undisturbed, search.search_id)
    fields = ("candidate_id", "energy_per_atom", "outcome", "accepted")
    expected = [[found[field] for field in fields] for found in candidates(undisturbed, search.search_id)]
    assert len(expected) == 3
    before = len(log())

    connection = connection_factory()
    submit(connection, search)
    launchpad = connection.launchpad
    standin("slow", model="emt")
    while launchpad.fireworks.count_documents({"spec._category": "vasp"}) < 2:
        work_once(connection, search)
    workers = start_workers(connection, search.search_id, 0, tmp_path / "worker", ["vasp"])
    deadline = time.monotonic() + 300
    while len(log()) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in [workers[0].pid, log()[-1]["pid"]]:
        os.kill(pid, signal.SIGKILL)
    workers[0].wait()
    assert launchpad.fireworks.count_documents({"state": "RUNNING"}) == 1
    standin(model="emt")
    write_launchpad_file(connection, tmp_path / "my_launchpad.yaml")
    time.sleep(1.5)
    command = ["-l", str(tmp_path / "my_launchpad.yaml"), "detect_lostruns", "--time", "1", "--rerun"]
    subprocess.run([sys.executable, "-m", "fireworks.scripts.lpad_run", *command], check=True, capture_output=True)
    assert launchpad.fireworks.count_documents({"state": "RUNNING"}) == 0
    work(connection, search.search_id)
    assert [[found[field] for field in fields] for found in candidates(connection, search.search_id)] == expected
    assert search_document(connection, search.search_id).status == "finished"


def work_once(connection, search):
    from fireworks import FWorker
    from fireworks.core.rocket_launcher import launch_rocket

    worker = FWorker(category=NO_CATEGORY, query={"spec.search_id": search.search_id})
    assert launch_rocket(connection.launchpad, worker, strm_lvl="CRITICAL")


def test_time_is_over_and_another_job_goes_on(connection, standin):
    """The relaxation of one candidate takes several jobs; it is one candidate, its energy that of the last stage."""
    standin("slow", model="emt")
    search = config(1, 1)
    vasp = search.tiers[1].model_dump()
    # the steps of the last stage alone take longer than a job may, on any machine
    vasp["calculator_kwargs"]["stages"] = [FAST | {"NSW": 4}, FINE | {"EDIFFG": -1e-9, "NSW": 24}]
    vasp["calculator_kwargs"]["force_limit"] = 100
    vasp["symprec"] = 0.3
    vasp["queue"] |= {"wall_time": 8, "wall_buffer": 3, "max_requeues": 100}
    search = config(1, 1, tiers=[search.tiers[0].model_dump(), vasp])
    submit(connection, search)
    work(connection, search.search_id)
    (candidate,) = candidates(connection, search.search_id)
    assert (candidate["outcome"], search_document(connection, search.search_id).status) == ("ACCEPTED", "finished")
    parts = list(
        connection.jobstore.query({"output.relaxation": {"$exists": True}}, sort={"output.relaxation.part": 1})
    )
    assert [part["output"]["relaxation"]["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert len(parts) >= 2
    assert [bool(part["output"]["relaxation"]["results"]) for part in parts] == [False] * (len(parts) - 1) + [True]
    begun = Structure.from_dict(parts[0]["output"]["calcs_reversed"][-1]["input"]["structure"])
    assert len(SpacegroupAnalyzer(begun, 1e-4).get_symmetry_operations()) > 1  # it came from EMT with none
    tasks = candidate["tiers"][1]["tasks"]
    assert tasks[-1] == parts[-1]["uuid"]
    assert set(tasks) <= {part["uuid"] for part in parts}
    last = parts[-1]["output"]["calcs_reversed"][0]
    assert last["output"]["energy"] == pytest.approx(candidate["energy"])
    assert last["task_name"] == "relax2"
    assert len({fw["fw_id"] for fw in connection.launchpad.fireworks.find({"spec._category": "vasp"})}) == len(parts)


def test_refused_on_submission(standin, monkeypatch, tmp_path):
    import atomate2

    standin()
    search = search_config("Ca3Ti2O7", tiers="lj,vasp")
    assert len(search.tiers[1].calculator_kwargs["stages"]) == 5
    with pytest.raises(ConfigError, match="'vaps' is unknown"):
        search_config("Ca3Ti2O7", tiers="lj,vaps")
    with pytest.raises(ConfigError, match=r"no POTCAR Sr_sv of Sr"):
        search_config("SrTiO3", tiers="lj,vasp")
    bad = [{"calculator": "vasp", "calculator_kwargs": {"stages": [{"NSW": 1, "KSPACING": 0.3, "EDIFGF": 1}]}}]
    (tmp_path / "bad.yaml").write_text(json.dumps({"tiers": bad}))
    with pytest.raises(ConfigError, match="VASP does not know EDIFGF"):
        search_config("Ca3Ti2O7", config=tmp_path / "bad.yaml")
    monkeypatch.setattr(atomate2.SETTINGS, "VASP_CMD", "no_such_program")
    with pytest.raises(ConfigError, match="'no_such_program' is no program here"):
        search_config("Ca3Ti2O7", tiers="lj,vasp")
