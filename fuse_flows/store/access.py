"""Who may use the embedded MongoDB: one user whose generated password lies in a file that only its owner can read.

Members of a replica set that asks for passwords must share a key file, also when there is only one of them.
"""

from __future__ import annotations

import base64
import os
import secrets
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo import MongoClient

USER = "fuse_flows"
AUTH_SOURCE = "admin"
# enough for any number of databases and for the server itself, but not for making users or changing their rights
ROLES = ("readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterAdmin")

_USER_EXISTS = 51003


def password_file(data_dir: Path) -> Path:
    """Return the file that holds the password of the embedded server.

    Parameters
    ----------
    data_dir
        Folder of the server.
    """
    return data_dir / "password"


def key_file(data_dir: Path) -> Path:
    """Return the file that mongod wants for a replica set with passwords.

    Parameters
    ----------
    data_dir
        Folder of the server.
    """
    return data_dir.resolve() / "keyfile"


def has_password(data_dir: Path) -> bool:
    """Tell whether a password was made for a data folder.

    Parameters
    ----------
    data_dir
        Folder of the server.
    """
    return password_file(data_dir).exists()


def login(data_dir: Path) -> dict[str, str]:
    """Return user, password and database of the user.

    Parameters
    ----------
    data_dir
        Folder of the server.

    Returns
    -------
    dict
        Keywords of :class:`pymongo.MongoClient`; empty if no password was made yet.

    Raises
    ------
    DatabaseError
        If the password cannot be read.
    """
    file = password_file(data_dir)
    try:
        password = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"{file} cannot be read ({error}); it holds the password of the embedded MongoDB and must be yours"
        raise DatabaseError(msg) from error
    return {"username": USER, "password": password, "authSource": AUTH_SOURCE}


def make_secrets(data_dir: Path) -> None:
    """Write a key file and a password where they are missing, both with mode 600.

    Parameters
    ----------
    data_dir
        Folder of the server.
    """
    for file, secret in (
        (key_file(data_dir), base64.b64encode(secrets.token_bytes(96)).decode("ascii")),
        (password_file(data_dir), secrets.token_urlsafe(32)),
    ):
        if file.exists():
            file.chmod(0o600)
        else:
            write_private(file, secret + "\n")


def create_user(client: MongoClient[dict[str, Any]], data_dir: Path) -> None:
    """Make the user, unless it exists.

    Parameters
    ----------
    client
        A client that may: of a server that asks for no password, or over the loopback while there is no user at all.
    data_dir
        Folder of the server.
    """
    from pymongo.errors import OperationFailure

    password = login(data_dir)["password"]
    try:
        client.admin.command("createUser", USER, pwd=password, roles=list(ROLES))
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
        client.admin.command("updateUser", USER, pwd=password, roles=list(ROLES))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whatever was there before; never readable by others in between.

    Parameters
    ----------
    path
        The file; it is replaced in one step.
    text
        Its content.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
    new.replace(path)
