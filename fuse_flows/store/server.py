"""The embedded MongoDB: a mongod of our own on the loopback, as a replica set of one member.

A stand-alone mongod that is killed loses writes which it has acknowledged; a replica set with majority writes does
not, and its clients retry what was interrupted. So even the smallest database is a replica set. It asks for a password,
which :mod:`fuse_flows.store.access` makes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fuse_flows.errors import DatabaseError
from fuse_flows.settings import Settings, settings
from fuse_flows.store.access import (
    AUTH_SOURCE,
    USER,
    create_user,
    has_password,
    key_file,
    login,
    make_secrets,
    password_file,
)
from fuse_flows.store.mongod import HOST, find_mongod, last_error, listens, read_int
from fuse_flows.store.processes import is_alive
from fuse_flows.store.replica_set import become_primary, found_replica_set, wait_for_primary, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        How clients reach it; they need user and password beside it.
    data_dir
        Folder of its data, log, pid file and password.
    version
        Version of MongoDB; None when it does not run.
    """

    running: bool
    pid: int | None
    port: int
    uri: str
    data_dir: Path
    version: str | None


class _Found(NamedTuple):
    """A running mongod of ours: its process, its version, and whether it asks for a password."""

    pid: int
    version: str
    asks_for_password: bool


@dataclass(frozen=True)
class EmbeddedServer:
    """A mongod on the loopback whose data lie in a folder of the user.

    Only who can read the folder knows the password. Data of earlier versions, which had none, get one when the server
    is started.

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
        """Connection string with majority writes and retries, without the password."""
        return f"mongodb://{HOST}:{self.port}/?replicaSet={self.name}&w=majority&retryWrites=true"

    @property
    def login(self) -> dict[str, str]:
        """User and password, as keywords of :class:`pymongo.MongoClient`; empty before the first start."""
        return login(self.data_dir)

    def launchpad_values(self) -> dict[str, Any]:
        """Return what a ``my_launchpad.yaml`` says of this server.

        Returns
        -------
        dict
            Keywords of :class:`fireworks.LaunchPad`, with the password.
        """
        return {
            "host": HOST,
            "port": self.port,
            "name": self.db_name,
            "username": USER,
            "password": self.login.get("password"),
            "authsource": AUTH_SOURCE,
            "mongoclient_kwargs": {"replicaSet": self.name, "w": "majority", "retryWrites": True},
        }

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
            found = self._identify()
            if found is None or not found.asks_for_password:
                mongod = self.mongod or find_mongod(settings())
                if found is not None or (self._db_path.exists() and not has_password(self.data_dir)):
                    self._give_password(mongod, found)
                make_secrets(self.data_dir)
                self._launch(mongod)
                self._give_access()
            with self._client() as client:
                become_primary(client, self.name, self._address)
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
        if not self.data_dir.exists():
            return False
        with self._lock():
            found = self._identify()
            if found is None:
                return False
            self._shut_down(found)
            return True

    def _shut_down(self, found: _Found) -> None:
        from pymongo.errors import ConnectionFailure

        # the answer to a shutdown is a closed connection
        with self._client(log_in=found.asks_for_password) as client, contextlib.suppress(ConnectionFailure):
            client.admin.command({"shutdown": 1, "force": True, "timeoutSecs": 1})
        # its port listens for a moment longer than it lives
        wait_until(
            lambda: not is_alive(found.pid) and not listens(self.port),
            f"mongod (process {found.pid}) does not end; see {self._log}",
        )

    def status(self) -> ServerStatus:
        """Look whether the server runs.

        Returns
        -------
        ServerStatus
            With ``running`` False if nothing, or something else, answers on the port.
        """
        found = self._identify()
        if found is None:
            return ServerStatus(False, None, self.port, self.uri, self.data_dir, None)  # noqa: FBT003 - a record
        return ServerStatus(True, found.pid, self.port, self.uri, self.data_dir, found.version)  # noqa: FBT003

    @property
    def _address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def _db_path(self) -> Path:
        return self.data_dir.resolve() / "db"

    @property
    def _log(self) -> Path:
        return self.data_dir.resolve() / "mongod.log"

    @contextlib.contextmanager
    def _client(self, seconds: float = 5.0, *, log_in: bool = True) -> Iterator[MongoClient[dict[str, Any]]]:
        from pymongo import MongoClient

        timeout = int(seconds * 1000)
        options: dict[str, Any] = {"serverSelectionTimeoutMS": timeout, "socketTimeoutMS": 4 * timeout}
        if log_in:
            options |= self.login
        client: MongoClient[dict[str, Any]] = MongoClient(HOST, self.port, directConnection=True, **options)
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

    def _identify(self) -> _Found | None:
        """Return what answers on the port if it serves our data folder."""
        from pymongo.errors import OperationFailure, PyMongoError

        for _ in range(_ATTEMPTS):  # the port of a killed server still listens for a moment
            if not listens(self.port):
                return None
            for log_in in (True, False) if self.login else (False,):
                try:
                    with self._client(seconds=1.0, log_in=log_in) as client:
                        options = client.admin.command("getCmdLineOpts")["parsed"]
                        if Path(options.get("storage", {}).get("dbPath", "")) != self._db_path:
                            return None
                        server = client.admin.command("serverStatus", repl=0, metrics=0, locks=0)
                        asks = "keyFile" in options.get("security", {})
                        return _Found(int(server["pid"]), str(server["version"]), asks)
                except OperationFailure:
                    continue
                except PyMongoError:
                    break
            else:
                return None  # a mongod with users of its own is not ours
        return None

    def _launch(self, mongod: Path, *, ask_for_password: bool = True) -> None:
        if listens(self.port):
            owner = read_int(self._db_path / "mongod.lock")
            if owner is not None and is_alive(owner):
                return  # ours, but it does not know us: whoever started it died too early, or the password is lost
            msg = f"port {self.port} is used by another program; set FUSE_FLOWS_DB_PORT to a free port"
            raise DatabaseError(msg)
        self._db_path.mkdir(mode=0o700, exist_ok=True)
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.old"))
        try:
            done = subprocess.run(  # noqa: S603 - the program was named by the user or comes with our extra
                [*self._command(mongod), *(["--keyFile", str(key_file(self.data_dir))] if ask_for_password else [])],
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

    def _wrong_password(self) -> str:
        return (
            f"the embedded MongoDB in {self.data_dir} refuses the password in {password_file(self.data_dir)}; "
            "put the file back that belongs to these data"
        )

    def _give_password(self, mongod: Path, running: _Found | None) -> None:
        """Make the user in data that have none, through a server that asks for no password, and stop that server."""
        make_secrets(self.data_dir)
        if running is None:
            self._launch(mongod, ask_for_password=False)
        with self._client(log_in=False) as client:
            become_primary(client, self.name, self._address)
            create_user(client, self.data_dir)
        found = self._identify()
        if found is not None:
            self._shut_down(found)

    def _give_access(self) -> None:
        """Make the user in new data: as long as there is none, whoever comes over the loopback may make the first."""
        from pymongo.errors import OperationFailure, PyMongoError

        try:
            with self._client() as client:
                client.admin.command("ping")
        except OperationFailure:
            pass
        except PyMongoError as error:
            raise DatabaseError(f"mongod on port {self.port} does not answer ({error})") from error
        else:
            return
        with self._client(log_in=False) as client:
            try:
                found_replica_set(client, self.name, self._address)
                wait_for_primary(client, self._address)
                create_user(client, self.data_dir)
            except OperationFailure as error:
                raise DatabaseError(self._wrong_password()) from error


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
