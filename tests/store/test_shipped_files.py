"""Every shipped configuration file is read by the library it is for, and works against the embedded MongoDB."""

import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import yaml
from fireworks import FWorker, LaunchPad, fw_config
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
from jobflow import Flow, JobStore, job
from jobflow.managers.fireworks import flow_to_workflow

from fuse_flows.config import TierConfig
from fuse_flows.flows.local import NO_CATEGORY
from fuse_flows.relax.queue_tiers import category_of
from fuse_flows.settings import Settings
from fuse_flows.store.project import write_project
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
    expected = embedded_server(DEFAULT).launchpad_values() | {"password": "PASSWORD"}
    found = launchpad.to_dict()
    found["mongoclient_kwargs"].pop("socketTimeoutMS")  # FireWorks adds it
    assert {key: found[key] for key in expected} == expected
    assert launchpad.user_indices == ["spec.search_id"]
    assert launchpad.wf_user_indices == ["metadata.search_id"]
    launchpad.connection.close()


def test_fworker_takes_every_job():
    worker = FWorker.from_file(str(CONFIGS / "my_fworker.yaml"))
    assert "spec._category" not in worker.query
    assert set(worker.query) == {"$or"}


@pytest.mark.parametrize("calculator", ["vasp", "gpaw"])
def test_workers_of_two_categories_share_the_jobs(calculator):
    worker = FWorker.from_file(str(CONFIGS / f"my_fworker_{calculator}.yaml"))
    category = category_of(TierConfig(calculator=calculator))
    assert worker.query["spec._category"] == category
    assert f"--category {category}\n" in (CONFIGS / f"my_qadapter_{calculator}.yaml").read_text()
    for name in (f"my_fworker_{calculator}.yaml", "my_qadapter.yaml"):
        assert f"category: {NO_CATEGORY}" in (CONFIGS / name).read_text()


@pytest.fixture(name="project")
def _project(connection, tmp_path):
    """The folder that 'fuse-flows init' makes."""
    write_project(connection, tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.mongo
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("my_qadapter", ["#SBATCH --time=24:00:00", "#SBATCH --partition=batch", "#SBATCH --mem=4G"]),
        ("my_qadapter_gpu", ["#SBATCH --gpus-per-node=1", "#SBATCH --partition=gpu", "#SBATCH --time=24:00:00"]),
        ("my_qadapter_pbs", ["#PBS -l walltime=24:00:00", "#PBS -l nodes=1:ppn=1", "#PBS -q batch"]),
        ("my_qadapter_sge", ["#$ -l h_rt=24:00:00", "#$ -l h_vmem=4G", "#$ -q all.q"]),
        ("my_qadapter_vasp", ["#SBATCH --ntasks=32", "#SBATCH --partition=batch", "#SBATCH --time=24:00:00"]),
        ("my_qadapter_gpaw", ["#SBATCH --ntasks=32", "#SBATCH --partition=batch", "#SBATCH --time=24:00:00"]),
    ],
)
def test_qadapter_fills_its_template(project, name, lines):
    script = CommonAdapter.from_file(str(project / f"{name}.yaml")).get_script_str("/launch/here")
    assert "$$" not in script
    assert set(lines) <= set(script.splitlines())
    for unwanted in ("account", "None", "/path/to", " -A ", " -pe "):
        assert unwanted not in script
    assert re.search(r"^export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1", script, re.MULTILINE)
    assert script.index("export FW_CONFIG_FILE") < script.index("cd /launch/here") < script.index("fuse-flows worker")
    for file in re.findall(rf"{project}[^ \n]*yaml", script):
        assert Path(file).is_file()
    assert Path(re.search(r"export PATH=(.*):\$PATH", script)[1], "python").exists()
    environment = subprocess.run(
        ["/bin/bash", "-c", script.replace("fuse-flows worker", "env; true").replace("cd /launch/here", "")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    margin = 14400 if name in {"my_qadapter_vasp", "my_qadapter_gpaw"} else 300
    assert f"FUSE_FLOWS_ALLOCATION_MARGIN={margin}\n" in environment
    end = re.search(r"^FUSE_FLOWS_ALLOCATION_END=(\d+)$", environment, re.MULTILINE)
    assert (end is None) == ("SBATCH" in script)  # Slurm tells when its allocations end
    assert end is None or abs(int(end[1]) - time.time() - 86400) < 600


@pytest.mark.mongo
def test_init_fills_in_every_file_and_changes_none(connection, project):
    names = {file.name for file in project.iterdir()}
    assert names == {file.name for file in CONFIGS.iterdir()} | {"my_launchpad.yaml"}
    for file in project.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        assert "/path/to" not in file.read_text()
        assert "PASSWORD" not in file.read_text()
    (project / "jobflow.yaml").write_text("mine")
    assert [new for _, new in write_project(connection, project)] == [False] * len(names)
    assert (project / "jobflow.yaml").read_text() == "mine"


def test_jobflow_store_is_the_embedded_one():
    spec = yaml.safe_load((CONFIGS / "jobflow.yaml").read_text())["JOB_STORE"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = JobStore.from_dict_spec(spec)
    values = embedded_server(DEFAULT).launchpad_values()
    for part in (store.docs_store, store.additional_stores["data"]):
        assert (part.host, part.port, part.database) == (values["host"], values["port"], values["name"])
        assert (part.username, part.auth_source) == (values["username"], values["authsource"])
        assert part.mongoclient_kwargs == values["mongoclient_kwargs"]
    assert store.docs_store.collection_name == "outputs"
    assert store.additional_stores["data"].collection_name == "outputs_blobs"


@pytest.mark.mongo
def test_command_lines_of_fireworks_run_a_flow(connection, tmp_path):
    """With the shipped files, but for the address of the database: lpad add, get_wflows, rlaunch, outputs stored."""
    values, shipped = connection.launchpad.to_dict(), embedded_server(DEFAULT)
    for file in [*CONFIGS.iterdir(), ROOT / "my_launchpad.yaml"]:
        text = file.read_text().replace(str(shipped.port), str(values["port"])).replace("PASSWORD", values["password"])
        text = re.sub(
            rf"^(\s*(?:name|database)): {shipped.db_name}$", rf"\1: {values['name']}", text, flags=re.MULTILINE
        )
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
