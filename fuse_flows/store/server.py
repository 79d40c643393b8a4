"""The embedded MongoDB: a mongod of our own on the loopback, as a replica set of one member.

A stand-alone mongod that is killed loses writes which it has acknowledged; a replica set with majority writes does
not, and its clients retry what was interrupted. So even the smallest database is a replica set.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError
from fuse_flows.settings import Settings, settings
from fuse_flows.store.mongod import HOST, find_mongod, last_error, listens, read_int
from fuse_flows.store.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo import MongoClient

_START_SECONDS = 120.0
_LOG_BYTES = 20_000_000
_ATTEMPTS = 5


@dataclass(frozen=True)
class ServerStatus:
    """What is known of the embedded server.

    Parameters
    ----------
    running
        Whether it answers.
    pid
        Its process; None when it does not run.
    port
        Port on the loopback.
    uri
        How clients reach it.
    data_dir
        Folder of its data, log and pid file.
    version
        Version of MongoDB; None when it does not run.
    """

    running: bool
    pid: int | None
    port: int
    uri: str
    data_dir: Path
    version: str | None


@dataclass(frozen=True)
class EmbeddedServer:
    """A mongod on the loopback whose data lie in a folder of the user.

    It asks for no password, so whoever can log in to this machine can reach it: it is meant for a machine of one's
    own. A shared machine calls for a MongoDB with users, named by a ``my_launchpad.yaml``.

    Parameters
    ----------
    data_dir
        Folder of the data, the log and the pid file; made if it is missing.
    port
        Port on the loopback.
    name
        Name of the replica set.
    db_name
        Database of the LaunchPad and of the JobStore.
    mongod
        The program; None: see :func:`find_mongod`.
    """

    data_dir: Path
    port: int
    name: str = "rs0"
    db_name: str = "fuse_flows"
    mongod: Path | None = None

    @property
    def uri(self) -> str:
        """Connection string with majority writes and retries."""
        return f"mongodb://{HOST}:{self.port}/?replicaSet={self.name}&w=majority&retryWrites=true"

    def start(self) -> ServerStatus:
        """Start the server if it does not run, and wait until it takes writes.

        Several processes may call this at once: one of them starts the server, the others wait for it.

        Returns
        -------
        ServerStatus
            The running server.

        Raises
        ------
        MissingExtraError
            If there is no mongod.
        DatabaseError
            If the port or the data folder is in use, or the server does not start; the message says what to do.
        """
        with self._lock():
            if self._identify() is None:
                self._launch(self.mongod or find_mongod(settings()))
            with self._client() as client:
                self._become_primary(client)
            return self.status()

    def stop(self) -> bool:
        """Stop the server cleanly and wait until its process is gone.

        Returns
        -------
        bool
            False if it was not running.

        Raises
        ------
        DatabaseError
            If the process does not end.
        """
        from pymongo.errors import ConnectionFailure

        if not self.data_dir.exists():
            return False
        with self._lock():
            found = self._identify()
            if found is None:
                return False
            # the answer to a shutdown is a closed connection
            with self._client() as client, contextlib.suppress(ConnectionFailure):
                client.admin.command({"shutdown": 1, "force": True, "timeoutSecs": 1})
            _wait_until(lambda: not is_alive(found[0]), f"mongod (process {found[0]}) does not end; see {self._log}")
            return True

    def status(self) -> ServerStatus:
        """Look whether the server runs.

        Returns
        -------
        ServerStatus
            With ``running`` False if nothing, or something else, answers on the port.
        """
        pid, version = self._identify() or (None, None)
        return ServerStatus(pid is not None, pid, self.port, self.uri, self.data_dir, version)

    @property
    def _db_path(self) -> Path:
        return self.data_dir.resolve() / "db"

    @property
    def _log(self) -> Path:
        return self.data_dir.resolve() / "mongod.log"

    @contextlib.contextmanager
    def _client(self, seconds: float = 5.0) -> Iterator[MongoClient[dict[str, Any]]]:
        from pymongo import MongoClient

        timeout = int(seconds * 1000)
        client: MongoClient[dict[str, Any]] = MongoClient(
            HOST, self.port, directConnection=True, serverSelectionTimeoutMS=timeout, socketTimeoutMS=4 * timeout
        )
        try:
            yield client
        finally:
            client.close()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one process at a time start or stop the server; the lock goes with the process that holds it."""
        import fcntl

        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = (self.data_dir / "start.lock").open("w")
        except OSError as error:
            msg = f"FUSE_FLOWS_DATA_DIR: {self.data_dir} cannot be written ({error.strerror}); name another folder"
            raise DatabaseError(msg) from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _identify(self) -> tuple[int, str] | None:
        """Return pid and version if what answers on the port serves our data folder."""
        from pymongo.errors import OperationFailure, PyMongoError

        for _ in range(_ATTEMPTS):  # the port of a killed server still listens for a moment
            if not listens(self.port):
                return None
            try:
                with self._client(seconds=1.0) as client:
                    options = client.admin.command("getCmdLineOpts")["parsed"]
                    if Path(options.get("storage", {}).get("dbPath", "")) != self._db_path:
                        return None
                    server = client.admin.command("serverStatus", repl=0, metrics=0, locks=0)
                    return int(server["pid"]), str(server["version"])
            except OperationFailure:
                return None  # a mongod with users is not ours
            except PyMongoError:
                continue
        return None

    def _launch(self, mongod: Path) -> None:
        if listens(self.port):
            msg = f"port {self.port} is used by another program; set FUSE_FLOWS_DB_PORT to a free port"
            raise DatabaseError(msg)
        self._db_path.mkdir(mode=0o700, exist_ok=True)
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.old"))
        try:
            done = subprocess.run(  # noqa: S603 - the program was named by the user or comes with our extra
                self._command(mongod),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
                timeout=_START_SECONDS,
                check=False,
            )
        except OSError as error:
            raise DatabaseError(f"{mongod} cannot be run ({error.strerror}); set FUSE_FLOWS_MONGOD") from error
        except subprocess.TimeoutExpired as error:
            raise DatabaseError(f"mongod did not start within {_START_SECONDS:.0f} s; see {self._log}") from error
        if done.returncode != 0:
            raise DatabaseError(self._why_not(done.returncode))

    def _command(self, mongod: Path) -> list[str]:
        return [
            str(mongod),
            *("--dbpath", str(self._db_path), "--port", str(self.port), "--bind_ip", HOST, "--nounixsocket"),
            *("--fork", "--pidfilepath", str(self.data_dir.resolve() / "mongod.pid")),
            *("--logpath", str(self._log), "--logappend", "--quiet"),
            *("--replSet", self.name, "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.5"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]

    def _why_not(self, code: int) -> str:
        """Explain why mongod ended at once."""
        owner = read_int(self._db_path / "mongod.lock")
        if owner is not None and is_alive(owner) and not listens(self.port):
            return (
                f"{self._db_path} is in use by another mongod (process {owner}, other port?); stop it, "
                "or set FUSE_FLOWS_DB_PORT to its port or FUSE_FLOWS_DATA_DIR to another folder"
            )
        return f"mongod ended with code {code}: {last_error(self._log)}; see {self._log}"

    def _become_primary(self, client: MongoClient[dict[str, Any]]) -> None:
        """Make the server the primary of its own replica set, also after the port has changed."""
        from pymongo.errors import OperationFailure, PyMongoError

        me = f"{HOST}:{self.port}"
        try:
            config = client.local["system.replset"].find_one({})
            if config is None:
                members = [{"_id": 0, "host": me}]
                client.admin.command("replSetInitiate", {"_id": self.name, "members": members})
            elif config["members"][0]["host"] != me:
                config["members"][0]["host"] = me
                config["version"] += 1
                client.admin.command("replSetReconfig", config, force=True)
        except OperationFailure as error:
            raise DatabaseError(f"the replica set of {self.data_dir} cannot be set up ({error})") from error
        except PyMongoError as error:
            raise DatabaseError(f"mongod on port {self.port} does not answer ({error})") from error
        _wait_until(
            lambda: client.admin.command("hello").get("isWritablePrimary"),
            f"mongod on port {self.port} does not become primary; see {self._log}",
        )


def embedded_server(config: Settings | None = None) -> EmbeddedServer:
    """Return the embedded server that the settings describe, not started.

    Parameters
    ----------
    config
        The settings; None for those of this process.

    Returns
    -------
    EmbeddedServer
        With its data in ``<data_dir>/mongodb``.
    """
    config = config or settings()
    return EmbeddedServer(config.data_dir / "mongodb", config.db_port, db_name=config.db_name, mongod=config.mongod)


def _wait_until(condition: Callable[[], Any], message: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DatabaseError(message)
        time.sleep(0.02)
