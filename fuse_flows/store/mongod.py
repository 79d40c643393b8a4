"""The mongod program: where it is, whether its port is taken, and what its files say."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fuse_flows.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from fuse_flows.settings import Settings

HOST = "127.0.0.1"


def find_mongod(config: Settings) -> Path:
    """Find the mongod program: ``FUSE_FLOWS_MONGOD``, then the PATH, then the wheel of the extra ``mongod``.

    Parameters
    ----------
    config
        The settings of this machine.

    Returns
    -------
    Path
        An executable file.

    Raises
    ------
    ConfigError
        If the settings name something that cannot be executed.
    MissingExtraError
        If there is none.
    """
    if config.mongod is not None:
        if not os.access(config.mongod, os.X_OK) or config.mongod.is_dir():
            raise ConfigError("FUSE_FLOWS_MONGOD", f"{config.mongod} is not a program; name the mongod to be used")
        return config.mongod
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    wheel = find_spec("fiftyone")  # located, not imported: the wheel of the extra holds the program and nothing else
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        mongod = Path(folder) / "db" / "bin" / "mongod"
        if os.access(mongod, os.X_OK):
            return mongod
    raise MissingExtraError("mongod", "mongod")


def listens(port: int) -> bool:
    """Tell whether anything answers on a port of the loopback.

    Parameters
    ----------
    port
        The port.

    Returns
    -------
    bool
        True if a connection is accepted.
    """
    try:
        with socket.create_connection((HOST, port), timeout=5):
            return True
    except OSError:
        return False


def read_int(path: Path) -> int | None:
    """Read a number from a file, such as the pid in ``mongod.lock``.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    int or None
        None if there is none.
    """
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def last_error(log: Path) -> str:
    """Return the last error in a log of mongod (one JSON object per line).

    Parameters
    ----------
    log
        The log.

    Returns
    -------
    str
        What went wrong, or that the log does not say.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
    except OSError:
        return "it left no log"
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("s") in {"E", "F"}:
                return f"{entry.get('msg', '')} {entry.get('attr', {}).get('error', '')}".strip()
    return "no error in its log"
