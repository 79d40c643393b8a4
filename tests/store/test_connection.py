import os
import stat
import subprocess
import sys

import jobflow
import pytest
import yaml
from fireworks import LaunchPad, fw_config
from jobflow import JobflowSettings, JobStore
from maggma.stores import GridFSStore, MemoryStore, MongoStore

from fuse_flows.errors import DatabaseError
from fuse_flows.settings import settings
from fuse_flows.store.connection import connect, write_jobflow_file, write_launchpad_file
from fuse_flows.store.jobstore import configured_jobstore, jobstore_from_launchpad, use_jobstore

pytestmark = pytest.mark.mongo


@pytest.fixture(name="closing")
def _closing():
    """Connect, and close in the end."""
    opened = []

    def open_connection(*args, **kwargs):
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    yield open_connection
    for found in opened:
        found.close()


@pytest.fixture(name="launchpad_file")
def _launchpad_file(connection, tmp_path):
    """Return a function that writes a LaunchPad file for a database of that name on the test server."""

    def write(name):
        path = tmp_path / f"{name}.yaml"
        values = connection.launchpad.to_dict() | {"name": name, "strm_lvl": "INFO"}
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def use_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, str(value))
    settings.cache_clear()


def test_embedded_server_is_the_last_resort(connection, closing):
    found = closing(start=False)
    assert found.database.name == connection.database.name
    assert found.launchpad_source.startswith("embedded MongoDB in ")
    assert found.jobstore_source == "database of the LaunchPad"
    assert found.uri == f"mongodb://fuse_flows@127.0.0.1:{settings().db_port}/{connection.database.name}"
    assert found.outputs.full_name == f"{connection.database.name}.outputs"


def test_order_of_the_launchpad_files(launchpad_file, closing, monkeypatch):
    monkeypatch.setattr(fw_config, "LAUNCHPAD_LOC", str(launchpad_file("of_fireworks")))
    assert closing().database.name == "of_fireworks"
    assert "configuration of FireWorks" in closing().launchpad_source
    use_variable(monkeypatch, "FUSE_FLOWS_LAUNCHPAD", launchpad_file("of_variable"))
    assert closing().database.name == "of_variable"
    assert "FUSE_FLOWS_LAUNCHPAD" in closing().launchpad_source
    given = closing(launchpad_file("given"))
    assert given.database.name == given.outputs.database.name == "given"
    assert given.launchpad.strm_lvl == "WARNING"


def test_jobstore_of_the_user_is_used(connection, launchpad_file, closing, tmp_path, monkeypatch):
    file = tmp_path / "jobflow.yaml"
    write_jobflow_file(connection, file)
    spec = yaml.safe_load(file.read_text())
    spec["JOB_STORE"]["docs_store"]["collection_name"] = "my_outputs"
    file.write_text(yaml.safe_dump(spec))
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(file))
    found = closing(launchpad_file("elsewhere"))
    assert found.outputs.full_name == f"{connection.database.name}.my_outputs"
    assert found.jobstore_source == str(file)
    assert found.database.name == "elsewhere"


@pytest.mark.usefixtures("connection")
def test_missing_jobflow_file_is_refused(closing, tmp_path, monkeypatch):
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(tmp_path / "none.yaml"))
    assert isinstance(JobflowSettings().JOB_STORE.docs_store, MemoryStore)  # what jobflow does
    with pytest.raises(DatabaseError, match=r"JOBFLOW_CONFIG_FILE: .*none\.yaml does not exist"):
        closing()


def test_store_that_is_no_mongodb_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "jobflow.yaml"
    docs = {"type": "JSONStore", "paths": str(tmp_path / "outputs.json"), "read_only": False}
    file.write_text(yaml.safe_dump({"JOB_STORE": {"docs_store": docs}}))
    monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(file))
    with pytest.raises(DatabaseError, match="JOB_STORE is a JSONStore"):
        configured_jobstore()
    file.write_text(yaml.safe_dump({"JOB_STORE": {"docs_store": {"type": "NoStore"}}}))
    with pytest.raises(DatabaseError, match=r"jobflow\.yaml cannot be read"):
        configured_jobstore()


def test_jobstore_in_use_is_the_configured_one(connection):
    assert configured_jobstore() is None
    with use_jobstore(connection.jobstore):
        assert configured_jobstore() is connection.jobstore
        assert jobflow.SETTINGS.JOB_STORE is connection.jobstore
    assert configured_jobstore() is None


def test_derived_jobstore_keeps_large_data_in_gridfs(connection):
    store = jobstore_from_launchpad(connection.launchpad)
    assert store is jobstore_from_launchpad(connection.launchpad)
    assert isinstance(store.docs_store, MongoStore)
    assert isinstance(store.additional_stores["data"], GridFSStore)
    store.update({"uuid": "a", "index": 1, "output": {"large": [1] * 20}, "metadata": {}}, save={"data": ["large"]})
    assert "blob_uuid" in connection.outputs.find_one({"uuid": "a"})["output"]["large"]
    assert store.get_output("a", load=True) == {"large": [1] * 20}


def test_credentials_pass_to_the_derived_jobstore():
    plain = LaunchPad(
        "db.org", 27000, "mine", "me", "secret", authsource="admin", mongoclient_kwargs={"connect": False}
    )
    store = jobstore_from_launchpad(plain).docs_store
    assert (store.host, store.port, store.database) == ("db.org", 27000, "mine")
    assert (store.username, store.password, store.auth_source) == ("me", "secret", "admin")
    certificate = LaunchPad("db.org", 27000, "mine", authsource="$external", mongoclient_kwargs={"connect": False})
    assert jobstore_from_launchpad(certificate).docs_store.mongoclient_kwargs["authSource"] == "$external"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        ("host: [", "cannot be used"),
        ("just text", "cannot be used"),
        ("host: localhost\nport: no number\n", "cannot be used"),
        ("host: mongodb://[bad\nname: x\nuri_mode: true\n", "cannot be used"),
        ("host: 127.0.0.1\nport: 27998\nname: x\n", "does not answer.*start that MongoDB"),
    ],
)
def test_bad_launchpad_file_is_named(tmp_path, content, reason):
    file = tmp_path / "my_launchpad.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DatabaseError, match=reason) as caught:
        connect(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_password_is_not_shown(tmp_path):
    file = tmp_path / "my_launchpad.yaml"
    values = {"host": "mongodb://me:secret@127.0.0.1:27998/?w=1", "name": "x", "uri_mode": True}
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(DatabaseError, match=r"me:\*\*\*@127.0.0.1:27998/x") as caught:
        connect(file)
    assert "secret" not in str(caught.value)


def test_stopped_embedded_server(tmp_path, free_port, monkeypatch):
    monkeypatch.setenv("FUSE_FLOWS_DATA_DIR", str(tmp_path))
    use_variable(monkeypatch, "FUSE_FLOWS_DB_PORT", free_port())
    with pytest.raises(DatabaseError, match="run: fuse-flows db start"):
        connect(start=False)
    assert not (tmp_path / "mongodb").exists()


def test_file_that_leads_to_the_embedded_server_starts_it(tmp_path, free_port, closing, monkeypatch):
    from fuse_flows.store.server import embedded_server

    monkeypatch.setenv("FUSE_FLOWS_DATA_DIR", str(tmp_path))
    use_variable(monkeypatch, "FUSE_FLOWS_DB_PORT", free_port())
    server = embedded_server()
    write_launchpad_file(server, tmp_path / "my_launchpad.yaml")
    try:
        found = closing(tmp_path / "my_launchpad.yaml")
        assert server.status().running
        assert found.database.name == "fuse_flows"
        found.close()
    finally:
        server.stop()


def test_written_files_lead_back(connection, tmp_path):
    for file in (tmp_path / "my_launchpad.yaml", tmp_path / "jobflow.yaml"):
        file.write_text("old")
    write_launchpad_file(connection, tmp_path / "my_launchpad.yaml")
    write_jobflow_file(connection, tmp_path / "jobflow.yaml")
    for file in (tmp_path / "my_launchpad.yaml", tmp_path / "jobflow.yaml"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    launchpad = LaunchPad.from_file(str(tmp_path / "my_launchpad.yaml"))
    store = JobStore.from_dict_spec(yaml.safe_load((tmp_path / "jobflow.yaml").read_text())["JOB_STORE"])
    store.connect()
    assert launchpad.db.name == connection.database.name
    assert launchpad.fw_id_assigner.count_documents({}) == 1
    assert store._collection.full_name == connection.outputs.full_name
    launchpad.connection.close()
    store.close()


def test_stdout_stays_ours_when_fireworks_finds_two_files(connection, tmp_path):
    """FireWorks reports several configuration files on stdout, in front of what --json prints."""
    (tmp_path / "FW_config.yaml").write_text("SORT_FWS: FIFO\n")
    (tmp_path / "other.yaml").write_text("SORT_FWS: FIFO\n")
    env = os.environ | {"FW_CONFIG_FILE": str(tmp_path / "other.yaml"), "FUSE_FLOWS_DB_NAME": connection.database.name}
    code = "from fuse_flows.store.connection import connect; connect(start=False).close()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "Found many potential paths" in done.stderr
