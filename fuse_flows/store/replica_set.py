"""A replica set of one member: founded, moved to another port, and ready for writes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo import MongoClient

_ALREADY_INITIALISED = 23


def found_replica_set(client: MongoClient[dict[str, Any]], name: str, address: str) -> None:
    """Make a mongod the only member of a replica set, unless it is in one.

    Parameters
    ----------
    client
        A direct connection.
    name
        Name of the replica set.
    address
        Host and port of the mongod, as its clients see it.
    """
    from pymongo.errors import OperationFailure

    try:
        client.admin.command("replSetInitiate", {"_id": name, "members": [{"_id": 0, "host": address}]})
    except OperationFailure as error:
        if error.code != _ALREADY_INITIALISED:
            raise


def become_primary(client: MongoClient[dict[str, Any]], name: str, address: str) -> None:
    """Make a mongod the primary of its own replica set, also after its port has changed.

    Parameters
    ----------
    client
        A direct connection that may do that.
    name
        Name of the replica set.
    address
        Host and port of the mongod, as its clients see it.

    Raises
    ------
    DatabaseError
        If it does not answer, refuses, or does not become primary.
    """
    from pymongo.errors import OperationFailure, PyMongoError

    try:
        config = client.local["system.replset"].find_one({})
        if config is None:
            found_replica_set(client, name, address)
        elif config["members"][0]["host"] != address:
            config["members"][0]["host"] = address
            config["version"] += 1
            client.admin.command("replSetReconfig", config, force=True)
    except OperationFailure as error:
        raise DatabaseError(f"the replica set of mongod at {address} cannot be set up ({error})") from error
    except PyMongoError as error:
        raise DatabaseError(f"mongod at {address} does not answer ({error})") from error
    wait_for_primary(client, address)


def wait_for_primary(client: MongoClient[dict[str, Any]], address: str) -> None:
    """Wait until a mongod takes writes.

    Parameters
    ----------
    client
        A direct connection.
    address
        Host and port of the mongod.

    Raises
    ------
    DatabaseError
        If it does not become primary.
    """
    wait_until(
        lambda: client.admin.command("hello").get("isWritablePrimary"),
        f"mongod at {address} does not become primary; see its log",
    )


def wait_until(condition: Callable[[], Any], message: str, seconds: float = 60.0) -> None:
    """Wait for a condition.

    Parameters
    ----------
    condition
        Asked until it is true.
    message
        What is raised if it never is.
    seconds
        How long to wait.

    Raises
    ------
    DatabaseError
        With the message.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DatabaseError(message)
        time.sleep(0.02)
