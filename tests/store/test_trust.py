"""What the database holds is data: workers of ours run functions of trusted packages, and nothing is unpickled."""

import ast
import os
from pathlib import Path

import pytest
from fireworks import Firework, ScriptTask, Workflow
from jobflow import Flow, job
from jobflow.managers.fireworks import flow_to_workflow

import fuse_flows
from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError, DatabaseError
from fuse_flows.flows.worker import fworker, work
from fuse_flows.jobs.firetask import search_workflow
from fuse_flows.jobs.trust import check_function
from fuse_flows.relax.calculators import make_calculator
from fuse_flows.settings import settings


def test_nothing_is_unpickled_or_evaluated():
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for file in Path(fuse_flows.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not forbidden & {name.split(".")[0] for name in names}, file
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, file


def test_only_functions_of_trusted_packages(monkeypatch):
    from fuse_flows.jobs.steps import take_steps

    check_function(take_steps)
    for function in (os.system, Path.cwd, Path().unlink):
        with pytest.raises(DatabaseError, match="FUSE_FLOWS_TRUSTED_PACKAGES"):
            check_function(function)
    monkeypatch.setenv("FUSE_FLOWS_TRUSTED_PACKAGES", "my_package, pathlib")
    settings.cache_clear()
    check_function(Path.cwd)


def test_calculator_by_path_must_be_one(tmp_path):
    for path, kwargs in (("os:system", {"command": f"touch {tmp_path}/x"}), ("pathlib:Path", {}), ("os.path:sep", {})):
        with pytest.raises(ConfigError, match=r"no class of ASE calculators"):
            make_calculator(TierConfig(calculator=path, calculator_kwargs=kwargs))
    assert not list(tmp_path.iterdir())
    assert make_calculator(TierConfig(calculator="ase.calculators.emt:EMT")).name == "emt"


@pytest.mark.mongo
def test_worker_takes_only_our_tasks(connection, tmp_path):
    spec = {"search_id": "Al-1"}
    task = ScriptTask.from_str(f"touch {tmp_path / 'script'}")
    connection.launchpad.add_wf(Workflow([Firework([task], spec=spec)]))
    background = {"_background_tasks": [{"_fw_name": "BackgroundTask", "tasks": [task.to_dict()]}]}
    (ours,) = search_workflow(Flow([job(os.system)(f"touch {tmp_path / 'background'}")])).fws
    ours.spec.update(spec | background)
    connection.launchpad.add_wf(Workflow([ours]))
    foreign = flow_to_workflow(job(os.system)(f"touch {tmp_path / 'job'}"))
    foreign.fws[0].spec.update(spec)
    connection.launchpad.add_wf(foreign)
    (disguised,) = search_workflow(Flow([job(os.system)(f"touch {tmp_path / 'disguised'}")])).fws
    disguised.spec.update(spec)
    connection.launchpad.add_wf(Workflow([disguised]))
    connection.launchpad.fireworks.update_many({"fw_id": {"$lt": 4}}, {"$set": {"state": "PAUSED"}})
    assert work(connection, "Al-1") == 1
    states = {found["fw_id"]: found["state"] for found in connection.launchpad.fireworks.find({})}
    assert states == {1: "PAUSED", 2: "PAUSED", 3: "PAUSED", 4: "FIZZLED"}
    connection.launchpad.fireworks.update_many({"fw_id": {"$lt": 4}}, {"$set": {"state": "READY"}})
    assert not connection.launchpad.run_exists(fworker("Al-1"))
    assert not connection.launchpad.run_exists(fworker(None))
    assert {file.name for file in tmp_path.iterdir()} <= {"FW.json"}
