import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pymongo import MongoClient

from fuse_flows.errors import ConfigError, DatabaseError, MissingExtraError
from fuse_flows.settings import Settings
from fuse_flows.store.processes import is_alive, local_worker_pid, worker_name
from fuse_flows.store.server import EmbeddedServer, embedded_server, find_mongod

pytestmark = pytest.mark.mongo


@pytest.fixture(name="server")
def _server(tmp_path, free_port):
    server = EmbeddedServer(tmp_path / "mongodb", free_port())
    yield server
    server.stop()


def stored(server):
    with MongoClient(server.uri, **server.login) as client:
        return [document["n"] for document in client.numbers.numbers.find({}, sort=[("n", 1)])]


def store(server, n):
    with MongoClient(server.uri, **server.login) as client:
        client.numbers.numbers.insert_one({"n": n})


def test_start_stop_and_start_again(server):
    assert not server.status().running
    assert not server.stop()
    status = server.start()
    assert status.running
    assert status.version.split(".")[0].isdigit()
    assert server.start() == status == server.status()
    store(server, 1)
    assert server.stop()
    assert not is_alive(status.pid)
    assert server.status() == replace(status, running=False, pid=None, version=None)
    server.start()
    assert stored(server) == [1]


def test_only_the_loopback_is_served(server):
    server.start()
    with MongoClient(server.uri, **server.login) as client:
        options = client.admin.command("getCmdLineOpts")["parsed"]["net"]
    assert options["bindIp"] == "127.0.0.1"
    assert server.data_dir.stat().st_mode & 0o077 == 0


def test_kill_loses_nothing_that_was_acknowledged(server):
    for n in range(3):
        pid = server.start().pid
        store(server, n)
        os.kill(pid, signal.SIGKILL)
        while is_alive(pid):
            time.sleep(0.01)
        assert not server.status().running
    server.start()
    assert stored(server) == [0, 1, 2]


def test_two_processes_start_at_once(server):
    code = (
        "import sys; from pathlib import Path; from fuse_flows.store.server import EmbeddedServer;"
        "sys.stdout.write(str(EmbeddedServer(Path(sys.argv[1]), int(sys.argv[2])).start().pid))"
    )
    command = [sys.executable, "-c", code, str(server.data_dir), str(server.port)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {starter.communicate(timeout=600)[0] for starter in starters}
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    assert pids == {str(server.status().pid)}


def test_port_of_another_program(server):
    busy = pytest.raises(DatabaseError, match=f"port {server.port} .* set FUSE_FLOWS_DB_PORT")
    with socket.create_server(("127.0.0.1", server.port)), busy:
        server.start()


def test_port_of_another_mongod(mongo_server, tmp_path):
    other = EmbeddedServer(tmp_path / "other", mongo_server.port)
    assert not other.status().running
    with pytest.raises(DatabaseError, match="FUSE_FLOWS_DB_PORT"):
        other.start()
    assert not other.stop()
    assert mongo_server.status().running


def test_folder_of_a_running_mongod(mongo_server, free_port):
    with pytest.raises(DatabaseError, match=f"process {mongo_server.status().pid}.*FUSE_FLOWS_DB_PORT"):
        replace(mongo_server, port=free_port()).start()


def test_data_follow_to_another_port(server, free_port):
    server.start()
    store(server, 7)
    server.stop()
    moved = replace(server, port=free_port())
    moved.start()
    try:
        assert stored(moved) == [7]
        store(moved, 8)
    finally:
        moved.stop()


def test_unusable_data_say_why(server):
    (server.data_dir / "db").mkdir(parents=True)
    (server.data_dir / "db" / "storage.bson").write_text("no storage")
    (server.data_dir / "db" / "WiredTiger").write_text("no engine")
    with pytest.raises(DatabaseError, match=r"mongod ended with code \d+: .*mongod\.log"):
        server.start()


def test_folder_that_cannot_be_made(tmp_path, free_port):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatabaseError, match="FUSE_FLOWS_DATA_DIR"):
        EmbeddedServer(tmp_path / "file" / "mongodb", free_port()).start()


def test_server_of_the_settings(tmp_path):
    server = embedded_server(Settings(data_dir=tmp_path, db_port=27123, db_name="mine"))
    assert (server.data_dir, server.port, server.db_name) == (tmp_path / "mongodb", 27123, "mine")
    assert server.uri == "mongodb://127.0.0.1:27123/?replicaSet=rs0&w=majority&retryWrites=true"


def test_mongod_named_by_the_user(tmp_path):
    program = tmp_path / "mongod"
    with pytest.raises(ConfigError, match="FUSE_FLOWS_MONGOD"):
        find_mongod(Settings(mongod=program))
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    assert find_mongod(Settings(mongod=program)) == program
    with pytest.raises(DatabaseError, match="code 3"):
        EmbeddedServer(tmp_path / "data", 27124, mongod=program).start()


def test_mongod_on_the_path_comes_before_the_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(*find_mongod(Settings()).parts[-4:]) == Path("fiftyone/db/bin/mongod")
    (tmp_path / "mongod").write_text("#!/bin/sh\n")
    (tmp_path / "mongod").chmod(0o755)
    assert find_mongod(Settings()) == tmp_path / "mongod"


def test_no_mongod_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2])])
    monkeypatch.delitem(sys.modules, "fiftyone", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'fuse-flows\[mongod\]'"):
        find_mongod(Settings())


def test_processes_are_told_apart():
    assert is_alive(os.getpid())
    assert is_alive(os.getpid(), since=time.time())
    assert not is_alive(os.getpid(), since=1.0)
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid)  # a zombie
    child.wait()
    assert not is_alive(child.pid)


def test_worker_names():
    assert local_worker_pid(worker_name()) == os.getpid()
    assert local_worker_pid(worker_name(17)) == 17
    assert local_worker_pid("fuse-flows@another-machine:17") is None
    assert local_worker_pid("Automatically generated Worker") is None
