"""A MongoDB of the user's own, with users and TLS: the LaunchPad file, the derived JobStore and worker processes."""

import os
import shutil
import signal
import subprocess
import time

import pytest
import yaml
from pymongo import MongoClient

from fuse_flows.config import load_config
from fuse_flows.errors import DatabaseError
from fuse_flows.flows.local import start_workers, submit
from fuse_flows.settings import settings
from fuse_flows.store.check import round_trip
from fuse_flows.store.connection import connect
from fuse_flows.store.mongod import find_mongod
from fuse_flows.store.processes import is_alive
from fuse_flows.store.queries import candidates
from fuse_flows.store.setup import ensure_indexes

OPENSSL = shutil.which("openssl")
pytestmark = [pytest.mark.mongo, pytest.mark.skipif(OPENSSL is None, reason="needs openssl")]
PASSWORD = "p@ss:word/with?signs"  # noqa: S105 - of a server that lives as long as this test


def openssl(*words, cwd):
    subprocess.run([OPENSSL, *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(name="tls_server", scope="module")
def _tls_server(tmp_path_factory, free_port):
    """Return port, certificate of the authority and certificate of a user of a mongod that wants passwords and TLS."""
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    new_key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=our own", cwd=folder)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("server", "user"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=folder)
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        openssl(*sign, "-out", f"{name}.crt", "-extfile", "names", cwd=folder)
        (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    (folder / "db").mkdir()
    where = ("--dbpath", folder / "db", "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket")
    tls = (
        "--tlsMode",
        "requireTLS",
        "--tlsCertificateKeyFile",
        folder / "server.pem",
        "--tlsCAFile",
        folder / "ca.pem",
    )
    command = [find_mongod(settings()), *where, *tls, "--auth", "--wiredTigerCacheSizeGB", "0.25"]
    subprocess.run([*command, "--fork", "--logpath", folder / "log"], check=True, capture_output=True)
    options = {"tls": True, "tlsCAFile": str(folder / "ca.pem"), "tlsCertificateKeyFile": str(folder / "user.pem")}
    root = {"username": "root", "password": PASSWORD}
    with MongoClient("127.0.0.1", port, **options) as client:
        client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
    with MongoClient("127.0.0.1", port, **options, **root) as client:
        client.science.command("createUser", "me", pwd=PASSWORD, roles=["dbOwner"])
    yield port, options
    with MongoClient("127.0.0.1", port, **options, **root) as client:
        pid = client.admin.command("serverStatus")["pid"]
    os.kill(pid, signal.SIGTERM)
    while is_alive(pid):
        time.sleep(0.05)


def launchpad_file(tmp_path, tls_server, **changes):
    port, options = tls_server
    values = {
        "host": "127.0.0.1",
        "port": port,
        "name": "science",
        "username": "me",
        "password": PASSWORD,
        "authsource": "science",
        "mongoclient_kwargs": options | {"serverSelectionTimeoutMS": 2000},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values | changes))
    return tmp_path / "mine.yaml"


def test_search_over_tls_with_a_password(tls_server, tmp_path):
    connection = connect(launchpad_file(tmp_path, tls_server))
    ensure_indexes(connection)
    assert [check for check in round_trip(connection) if not check.ok] == []
    assert connection.uri == f"mongodb://me@127.0.0.1:{tls_server[0]}/science"
    search = load_config(
        formula="Al",
        max_atoms=2,
        generator={"initial_structures": 2},
        stop={"max_structures": 4},
        tiers=[{"calculator": "emt", "max_steps": 20, "fmax": 0.3, "smax": 3}],
    )
    submit(connection, search)
    (worker,) = start_workers(connection, search.search_id, 1, tmp_path / "worker")
    assert worker.wait(timeout=600) == 0, (tmp_path / "worker" / "worker-1.log").read_text()
    assert len(candidates(connection, search.search_id)) == 4
    logs = (tmp_path / "worker" / "worker-1.log").read_text()
    stored = [
        str(found) for name in ("fireworks", "launches", "workflows") for found in connection.database[name].find()
    ]
    assert PASSWORD not in "".join([logs, *stored])
    connection.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "guess"}, "refuses to be read.*correct user, password"),
        ({"authsource": "admin"}, "refuses to be read.*authsource"),
        ({"mongoclient_kwargs": {"serverSelectionTimeoutMS": 2000}}, "does not answer"),
        ({"mongoclient_kwargs": {"tls": True, "serverSelectionTimeoutMS": 2000}}, "certificate verify failed"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(tls_server, tmp_path, changes, reason):
    with pytest.raises(DatabaseError, match=reason) as caught:
        connect(launchpad_file(tmp_path, tls_server, **changes))
    assert PASSWORD not in str(caught.value)
    assert "guess" not in str(caught.value)
    assert "clusterTime" not in str(caught.value)
