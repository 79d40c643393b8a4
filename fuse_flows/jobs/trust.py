"""Which code a worker runs on behalf of the database: jobs of ours and of atomate2, never whatever a document names.

Documents hold plain values, read with BSON and JSON; nothing is unpickled. But a job names the function that it calls.
So our workers fetch only Fireworks whose every task is our own Firetask, and the Firetask calls only functions of
packages that are trusted. Plain ``rlaunch`` runs what the LaunchPad holds, whatever that is; only passwords help there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = "{{fuse_flows.jobs.firetask.SearchFiretask}}"
OWN_PACKAGES = ("fuse_flows", "atomate2")


def only_our_tasks() -> dict[str, Any]:
    """Return the condition under which our workers take a Firework: it has our tasks only, and nothing beside them."""
    return {
        "spec._tasks": {"$not": {"$elemMatch": {"_fw_name": {"$ne": TASK}}}},
        "spec._background_tasks": {"$exists": False},
    }


def check_function(function: Callable[..., Any]) -> None:
    """Refuse to call a function of a package that is not trusted.

    Parameters
    ----------
    function
        What a job wants to call: a function, or a method of a maker.

    Raises
    ------
    DatabaseError
        Naming the package, and the setting that would trust it.
    """
    owner = getattr(function, "__self__", None)
    where = function if owner is None else owner if isinstance(owner, type) else type(owner)
    package = str(getattr(where, "__module__", None)).split(".", maxsplit=1)[0]
    more = tuple(name.strip() for name in settings().trusted_packages.split(",") if name.strip())
    if package not in (*OWN_PACKAGES, *more):
        msg = f"a job asks for a function of {package}, which is not trusted; set FUSE_FLOWS_TRUSTED_PACKAGES={package}"
        raise DatabaseError(msg)
