"""Which database a search lives in: the LaunchPad of FireWorks and the JobStore of jobflow, found and connected."""

from __future__ import annotations

import contextlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError
from fuse_flows.settings import settings
from fuse_flows.store.access import USER, write_private
from fuse_flows.store.jobstore import (
    configured_jobstore,
    jobflow_file,
    jobstore_from_launchpad,
    jobstore_spec,
    one_line,
)
from fuse_flows.store.mongod import listens
from fuse_flows.store.server import EmbeddedServer, embedded_server

if TYPE_CHECKING:
    from fireworks import LaunchPad
    from jobflow import JobStore
    from pymongo.collection import Collection
    from pymongo.database import Database

CANDIDATES_VIEW = "fuse_candidates"

_PING_SECONDS = 5.0


@dataclass(frozen=True)
class Connection:
    """A connected LaunchPad with its JobStore.

    Parameters
    ----------
    launchpad
        Where FireWorks keeps the workflows.
    jobstore
        Where jobflow keeps the outputs; connected.
    launchpad_source
        Which file, or the embedded server, decided on the LaunchPad.
    jobstore_source
        Which file decided on the JobStore, or that it was derived from the LaunchPad.
    uri
        Where the LaunchPad is, without the password.
    """

    launchpad: LaunchPad = field(repr=False)  # FireWorks shows the password
    jobstore: JobStore = field(repr=False)
    launchpad_source: str
    jobstore_source: str
    uri: str

    @property
    def database(self) -> Database[dict[str, Any]]:
        """Database of the LaunchPad."""
        return self.launchpad.db

    @property
    def outputs(self) -> Collection[dict[str, Any]]:
        """Collection with one document per finished job."""
        return self.jobstore._collection  # noqa: SLF001 - maggma has no public name for it

    @property
    def candidates(self) -> Collection[dict[str, Any]]:
        """View with one document per candidate; see :mod:`fuse_flows.store.setup`."""
        return self.outputs.database[CANDIDATES_VIEW]

    def close(self) -> None:
        """Close the clients behind LaunchPad and JobStore."""
        import pymongo

        stores = self.jobstore.additional_stores.values()
        collections = [getattr(store, "_files_collection", None) for store in stores]
        clients = [collection.database.client for collection in [*collections, self.outputs] if collection is not None]
        for client in [*clients, self.launchpad.connection]:
            with pymongo.timeout(1.0):  # it says goodbye to the server, which may be gone
                client.close()


def connect(launchpad_file: Path | None = None, *, start: bool = True) -> Connection:
    """Find and connect the LaunchPad and the JobStore.

    The LaunchPad is the first of: the given file, the file named by ``FUSE_FLOWS_LAUNCHPAD``, the file that FireWorks
    is configured with, the embedded MongoDB. The JobStore is the one that jobflow is configured with; otherwise it
    lies in the LaunchPad's own database.

    Parameters
    ----------
    launchpad_file
        A ``my_launchpad.yaml``.
    start
        Start the embedded MongoDB if it is needed and does not run.

    Returns
    -------
    Connection
        Both answer.

    Raises
    ------
    DatabaseError
        If a file or a database cannot be used; one line that names the file and the fix.
    MissingExtraError
        If the embedded MongoDB is needed and there is no mongod.
    """
    file, why = _launchpad_file(launchpad_file)
    server = embedded_server()
    if file is None:
        _provide(server, start=start)
        return connect_server(server)
    values = _read_values(file, why)
    if _is_local(values, server.port):
        if not listens(server.port):
            _provide(server, start=start)
        values = _with_login(values, server)
    return _connection(_make_launchpad(values, file, why), f"{file} ({why})")


def connect_server(server: EmbeddedServer) -> Connection:
    """Connect to a running embedded server.

    Parameters
    ----------
    server
        The server.

    Returns
    -------
    Connection
        To its database.

    Raises
    ------
    DatabaseError
        If it does not answer.
    """
    _import_fireworks()
    from fireworks import LaunchPad

    launchpad = LaunchPad(**server.launchpad_values(), strm_lvl="WARNING")
    return _connection(launchpad, f"embedded MongoDB in {server.data_dir}")


def write_launchpad_file(target: Connection | EmbeddedServer, path: Path) -> None:
    """Write a ``my_launchpad.yaml`` for ``lpad -l`` and ``rlaunch -l``, readable by its owner only.

    Parameters
    ----------
    target
        The connection, or the embedded server, that it shall lead to.
    path
        The file; it is replaced.
    """
    if isinstance(target, EmbeddedServer):
        values = target.launchpad_values()
    else:
        values = {key: value for key, value in target.launchpad.to_dict().items() if value is not None}
    values |= {"strm_lvl": "INFO", "user_indices": ["spec.search_id"], "wf_user_indices": ["metadata.search_id"]}
    _write_private(path, values)


def write_jobflow_file(connection: Connection, path: Path) -> None:
    """Write a jobflow configuration (``JOBFLOW_CONFIG_FILE``) for the derived JobStore, readable by its owner only.

    Parameters
    ----------
    connection
        The connection whose LaunchPad's database holds the outputs.
    path
        The file; it is replaced.
    """
    _write_private(path, {"JOB_STORE": jobstore_spec(connection.launchpad)})


def _launchpad_file(explicit: Path | None) -> tuple[Path | None, str]:
    """Return the LaunchPad file that counts, and why; None for the embedded MongoDB."""
    if explicit is not None:
        return Path(explicit), "given"
    configured = settings().launchpad
    if configured is not None:
        return configured, "FUSE_FLOWS_LAUNCHPAD"
    _import_fireworks()
    from fireworks import fw_config

    if fw_config.LAUNCHPAD_LOC:
        return Path(fw_config.LAUNCHPAD_LOC), "configuration of FireWorks"
    return None, ""


def _import_fireworks() -> None:
    """Import FireWorks, which reports on several configuration files to stdout, where our output belongs."""
    with contextlib.redirect_stdout(sys.stderr):
        import fireworks  # noqa: F401


def _read_values(file: Path, why: str) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatabaseError(f"{file} ({why}) does not exist; name an existing my_launchpad.yaml") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unusable(file, why, one_line(error)) from error
    if not isinstance(values, dict):
        raise _unusable(file, why, "it holds no keys")
    return values


def _make_launchpad(values: dict[str, Any], file: Path, why: str) -> LaunchPad:
    _import_fireworks()
    from fireworks import LaunchPad
    from pymongo.errors import PyMongoError

    try:
        return LaunchPad.from_dict({"host": None, **values, "strm_lvl": "WARNING"})
    except (OSError, TypeError, ValueError, PyMongoError) as error:
        raise _unusable(file, why, one_line(error)) from error


def _unusable(file: Path, why: str, reason: str) -> DatabaseError:
    return DatabaseError(f"{file} ({why}) cannot be used as a my_launchpad.yaml: {reason}")


def _with_login(values: dict[str, Any], server: EmbeddedServer) -> dict[str, Any]:
    """Put user and password into a file that leads to the embedded server and names no user of its own."""
    login = server.login
    if not login or not server.status().running or values.get("username") not in (None, USER):
        return values
    if not values.get("uri_mode"):
        return values | {"username": USER, "password": login["password"], "authsource": login["authSource"]}
    if "@" in str(values["host"]):
        return values
    return values | {"mongoclient_kwargs": (values.get("mongoclient_kwargs") or {}) | login}


def _provide(server: EmbeddedServer, *, start: bool) -> None:
    if start:
        server.start()
    elif not server.status().running:
        msg = f"the embedded MongoDB in {server.data_dir} does not run on port {server.port}; run: fuse-flows db start"
        raise DatabaseError(msg)


def _connection(launchpad: LaunchPad, source: str) -> Connection:
    uri = _display(launchpad)
    _check(launchpad.fw_id_assigner, f"the LaunchPad at {uri} (from {source})")
    jobstore = configured_jobstore()
    if jobstore is None:
        return Connection(launchpad, jobstore_from_launchpad(launchpad), source, "database of the LaunchPad", uri)
    jobstore.connect()
    file = jobflow_file()
    _check(jobstore._collection, f"the JobStore of {file}")  # noqa: SLF001 - maggma has no public name for it
    return Connection(launchpad, jobstore, source, file, uri)


def _check(collection: Collection[dict[str, Any]], what: str) -> None:
    """Read from a collection, or say within seconds why that is impossible."""
    import pymongo
    from pymongo.errors import OperationFailure, PyMongoError

    try:
        with pymongo.timeout(_PING_SECONDS):
            collection.find_one({}, {"_id": 1})
    except OperationFailure as error:
        msg = f"{what} refuses to be read ({one_line(error)}); correct user, password and authsource there"
        raise DatabaseError(msg) from error
    except PyMongoError as error:
        msg = f"{what} does not answer ({one_line(error)}); start that MongoDB, or correct host and port there"
        raise DatabaseError(msg) from error


def _is_local(values: dict[str, Any], port: int) -> bool:
    """Tell whether the values of a LaunchPad lead to a port of this machine's loopback."""
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    nodes = [(values.get("host") or "localhost", values.get("port") or 27017)]
    if values.get("uri_mode"):
        if str(values.get("host")).startswith("mongodb+srv:"):
            return False
        try:
            nodes = parse_uri(str(values.get("host")))["nodelist"]
        except (PyMongoError, ValueError):
            return False
    return nodes in ([("127.0.0.1", port)], [("localhost", port)])


def _display(launchpad: LaunchPad) -> str:
    if launchpad.uri_mode:
        return (
            re.sub(r"//([^:/@]+):[^/]*@", r"//\1:***@", launchpad.host).split("?")[0].rstrip("/") + f"/{launchpad.name}"
        )
    user = f"{launchpad.username}@" if launchpad.username else ""
    return f"mongodb://{user}{launchpad.host}:{launchpad.port}/{launchpad.name}"


def _write_private(path: Path, values: dict[str, Any]) -> None:
    import yaml

    write_private(path, yaml.safe_dump(values, sort_keys=False))
