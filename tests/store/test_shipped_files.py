"""Every shipped configuration file is read by the library it is for, and works against the embedded MongoDB."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from fireworks import FWorker, LaunchPad, fw_config
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
from jobflow import Flow, JobStore, job
from jobflow.managers.fireworks import flow_to_workflow

from fuse_flows.config import TierConfig
from fuse_flows.relax.queue_tiers import category_of
from fuse_flows.settings import Settings
from fuse_flows.store.server import embedded_server

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "fw_configs"
DEFAULT = Settings(_env_file=None, data_dir=Path("/nowhere"), db_port=27618, db_name="fuse_flows")


def run(*command, env, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_fireworks_reads_its_configuration(tmp_path):
    code = "import fireworks.fw_config as c, yaml, sys; yaml.safe_dump(c.config_to_dict(), sys.stdout)"
    env = {"FW_CONFIG_FILE": str(CONFIGS / "FW_config.yaml")}
    code = code.replace("c.config_to_dict()", "{k: v for k, v in c.config_to_dict().items() if k != 'MongoClient'}")
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    read = yaml.load(done.stdout, Loader=yaml.SafeLoader)
    written = yaml.safe_load((CONFIGS / "FW_config.yaml").read_text())
    assert {key: read[key] for key in written} == written
    assert written["RUN_EXPIRATION_SECS"] >= 4 * written["PING_TIME_SECS"]
    assert set(written) <= set(vars(fw_config))


def test_launchpad_is_the_embedded_one():
    launchpad = LaunchPad.from_file(str(ROOT / "my_launchpad.yaml"))
    server = embedded_server(DEFAULT)
    assert (launchpad.host, launchpad.name, launchpad.uri_mode) == (server.uri, server.db_name, True)
    assert launchpad.user_indices == ["spec.search_id"]
    assert launchpad.wf_user_indices == ["metadata.search_id"]
    launchpad.connection.close()


def test_fworker_takes_every_job():
    worker = FWorker.from_file(str(CONFIGS / "my_fworker.yaml"))
    assert "spec._category" not in worker.query
    assert set(worker.query) == {"$or"}


def test_workers_of_two_categories_share_the_jobs():
    vasp = FWorker.from_file(str(CONFIGS / "my_fworker_vasp.yaml"))
    assert vasp.query["spec._category"] == category_of(TierConfig(calculator="vasp"))
    assert "category: __none__" in (CONFIGS / "my_fworker_vasp.yaml").read_text()


@pytest.mark.parametrize("name", ["my_qadapter.yaml", "my_qadapter_vasp.yaml"])
def test_qadapter_fills_the_template_of_slurm(name):
    adapter = CommonAdapter.from_file(str(CONFIGS / name))
    script = adapter.get_script_str("/launch/here")
    assert "$$" not in script
    assert "#SBATCH --time=24:00:00" in script
    assert re.search(r"^export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1", script, re.MULTILINE)
    assert script.index("export FW_CONFIG_FILE") < script.index("cd /launch/here") < script.index("rlaunch -l")
    timeout = int(re.search(r"rapidfire .*--timeout (\d+)", script)[1])
    assert timeout < 24 * 3600
    assert "account" not in script
    assert "None" not in script


def test_jobflow_store_is_the_embedded_one():
    spec = yaml.safe_load((CONFIGS / "jobflow.yaml").read_text())["JOB_STORE"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = JobStore.from_dict_spec(spec)
    server = embedded_server(DEFAULT)
    for part in (store.docs_store, store.additional_stores["data"]):
        assert (part.uri, part.database) == (server.uri, server.db_name)
    assert store.docs_store.collection_name == "outputs"
    assert store.additional_stores["data"].collection_name == "outputs_blobs"


@pytest.mark.mongo
def test_command_lines_of_fireworks_run_a_flow(connection, tmp_path):
    """With the shipped files, but for the address of the database: lpad add, get_wflows, rlaunch, outputs stored."""
    uri, name = connection.launchpad.host, connection.launchpad.name
    shipped = embedded_server(DEFAULT)
    for file in [*CONFIGS.iterdir(), ROOT / "my_launchpad.yaml"]:
        text = file.read_text().replace(shipped.uri, uri)
        text = re.sub(rf"^(\s*(?:name|database)): {shipped.db_name}$", rf"\1: {name}", text, flags=re.MULTILINE)
        (tmp_path / file.name).write_text(text)
    shutil.move(tmp_path / "FW_config.yaml", tmp_path / "FW.yaml")  # not in the working directory, where it would win
    env = {"FW_CONFIG_FILE": str(tmp_path / "FW.yaml"), "JOBFLOW_CONFIG_FILE": str(tmp_path / "jobflow.yaml")}
    square = job(pow, data="big")
    first = square(3, 2)
    flow_to_workflow(Flow([first, square(first.output, 2)])).to_file(str(tmp_path / "flow.yaml"))
    cli = ("-l", "my_launchpad.yaml")
    run("fireworks.scripts.lpad_run", *cli, "add", "flow.yaml", env=env, cwd=tmp_path)
    assert '"state": "READY"' in run("fireworks.scripts.lpad_run", *cli, "get_wflows", env=env, cwd=tmp_path)
    run("fireworks.scripts.rlaunch_run", *cli, "rapidfire", env=env, cwd=tmp_path)
    assert '"state": "COMPLETED"' in run("fireworks.scripts.lpad_run", *cli, "get_wflows", env=env, cwd=tmp_path)
    assert sorted(document["output"] for document in connection.jobstore.query({})) == [9, 81]
