"""The embedded MongoDB asks for a password that only its owner can read, and data of earlier versions get one."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from fuse_flows.config import load_config
from fuse_flows.errors import DatabaseError
from fuse_flows.flows.local import start_workers, submit
from fuse_flows.settings import settings
from fuse_flows.store.access import key_file, password_file
from fuse_flows.store.connection import connect, connect_server, write_launchpad_file
from fuse_flows.store.mongod import find_mongod
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

pytestmark = pytest.mark.mongo


@pytest.fixture(name="server")
def _server(tmp_path, free_port):
    server = EmbeddedServer(tmp_path / "mongodb", free_port())
    yield server
    server.stop()


def without_password(server):
    """Start a server as earlier versions did, with a document in it."""
    (server.data_dir / "db").mkdir(parents=True)
    server._launch(find_mongod(settings()), ask_for_password=False)
    with MongoClient("127.0.0.1", server.port, directConnection=True) as client:
        client.admin.command(
            "replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": f"127.0.0.1:{server.port}"}]}
        )
    with MongoClient(server.uri) as client:
        client.numbers.numbers.insert_one({"n": 1})


def refuses_strangers(server):
    with MongoClient(server.uri) as client, pytest.raises(OperationFailure, match="requires authentication"):
        client.numbers.numbers.find_one({})
    with (
        MongoClient(server.uri, **server.login | {"password": "guess"}) as client,
        pytest.raises(OperationFailure, match="Authentication failed"),
    ):
        client.numbers.numbers.find_one({})
    return True


def numbers(server):
    with MongoClient(server.uri, **server.login) as client:
        return [found["n"] for found in client.numbers.numbers.find({})]


def test_password_is_made_and_asked_for(server):
    assert server.login == {}
    server.start()
    assert refuses_strangers(server)
    for file in (password_file(server.data_dir), key_file(server.data_dir)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = server.login["password"]
    assert len(password) >= 32
    assert password not in repr(server.status())
    assert password not in server.uri
    with MongoClient(server.uri, **server.login) as client, pytest.raises(OperationFailure, match="not authorized"):
        client.admin.command({"createUser": "another", "pwd": "x", "roles": ["root"]})
    server.stop()
    server.start()
    assert server.login["password"] == password


def test_data_of_earlier_versions_get_a_password(server, free_port):
    without_password(server)
    with MongoClient("127.0.0.1", server.port, directConnection=True) as client:
        client.admin.command("fsync")
    os.kill(server.status().pid, 9)
    moved = replace(server, port=free_port())
    try:
        moved.start()
        assert numbers(moved) == [1]
        assert refuses_strangers(moved)
    finally:
        moved.stop()


def test_running_server_of_an_earlier_version_gets_a_password(server):
    without_password(server)
    before = server.status()
    assert before.running
    assert server.start().pid != before.pid
    assert numbers(server) == [1]
    assert refuses_strangers(server)


def test_start_that_died_before_the_user_was_made(server):
    """mongod runs with its key file, but nobody was let in."""
    from fuse_flows.store.access import make_secrets

    server.data_dir.mkdir()
    make_secrets(server.data_dir)
    server._launch(find_mongod(settings()))
    server.start()
    assert refuses_strangers(server)


def test_lost_password_is_named(server):
    server.start()
    right = password_file(server.data_dir).read_text()
    password_file(server.data_dir).write_text("wrong\n")
    with pytest.raises(DatabaseError, match=rf"refuses the password in {password_file(server.data_dir)}"):
        server.start()
    password_file(server.data_dir).write_text(right)
    assert server.start().running


def test_launchpad_files_without_the_password_still_lead_to_it(server, monkeypatch, tmp_path):
    server.start()
    monkeypatch.setenv("FUSE_FLOWS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FUSE_FLOWS_DB_PORT", str(server.port))
    settings.cache_clear()
    old = {"host": server.uri, "name": "fuse_flows", "uri_mode": True}
    template = {**server.launchpad_values(), "password": "PASSWORD"}
    for values in (old, template, {"host": "localhost", "port": server.port, "name": "fuse_flows"}):
        (tmp_path / "my_launchpad.yaml").write_text(yaml.safe_dump(values))
        connection = connect(tmp_path / "my_launchpad.yaml")
        assert connection.launchpad.fireworks.count_documents({}) == 0
        assert server.login["password"] not in f"{connection!r} {connection.uri}"
        connection.close()


def every_document(connection):
    for name in connection.database.list_collection_names(
        filter={"type": "collection", "name": {"$not": {"$regex": "^system"}}}
    ):
        for document in connection.database[name].find({}):
            yield json.dumps(document, default=str)


def test_no_credentials_where_others_can_read(server, monkeypatch, tmp_path):
    """A search by worker processes that print all they can: documents, launch folders, logs, argv, exported files."""
    server.start()
    monkeypatch.setenv("FUSE_FLOWS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FUSE_FLOWS_DB_PORT", str(server.port))
    monkeypatch.setattr(
        "fuse_flows.flows.local.WORKER_FW_CONFIG",
        "PRINT_FW_JSON: true\nPRINT_FW_YAML: true\nSTREAM_LOGLEVEL: DEBUG\nROCKET_STREAM_LOGLEVEL: DEBUG\n",
    )
    settings.cache_clear()
    connection = connect_server(server)
    ensure_indexes(connection)
    search = load_config(
        formula="Al",
        max_atoms=2,
        generator={"initial_structures": 2},
        stop={"max_structures": 5},
        execution={"jobs_per_segment": 1},
        tiers=[{"calculator": "emt", "max_steps": 20, "fmax": 0.3, "smax": 3}],
    )
    submit(connection, search)
    (worker,) = start_workers(connection, search.search_id, 1, tmp_path / "worker")
    command_line = b" ".join(worker.args if isinstance(worker.args[0], bytes) else map(os.fsencode, worker.args))
    assert worker.wait(timeout=600) == 0
    workflow = tmp_path / "worker" / "workflow.yaml"
    export = [sys.executable, "-m", "fuse_flows.cli", "workflow", "Al", "--calculator", "emt", "-o", str(workflow)]
    subprocess.run(export, check=True, capture_output=True)
    password = server.login["password"]
    assert password.encode() not in command_line
    assert sum(1 for _ in every_document(connection)) > 10
    assert not [document for document in every_document(connection) if password in document]
    files = [file for file in (tmp_path / "worker").rglob("*") if file.is_file()]
    assert {"FW.json", "workflow.yaml", "worker-1.log"} <= {file.name for file in files}
    holders = [file for file in files if password.encode() in file.read_bytes()]
    assert [file.name for file in holders] == ["my_launchpad.yaml"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert password not in (server.data_dir / "mongod.log").read_text(errors="replace")
    connection.close()


def test_written_files_hold_the_password_and_are_private(server, tmp_path):
    server.start()
    write_launchpad_file(server, tmp_path / "my_launchpad.yaml")
    assert yaml.safe_load((tmp_path / "my_launchpad.yaml").read_text())["password"] == server.login["password"]
    assert stat.S_IMODE((tmp_path / "my_launchpad.yaml").stat().st_mode) == 0o600
