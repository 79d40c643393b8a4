"""The pool of a search as it lies in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuse_flows.store.connection import Connection


def pool_summary(connection: Connection, search_id: str) -> dict[str, Any] | None:
    """Return what is known of a pool without its structures.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.

    Returns
    -------
    dict or None
        ``n_members``, and ``skipped`` and ``dropped`` by reason; if structures were generated also ``generated`` (what
        came of each number of formula units) and, if nothing came of any, ``fallback``. None without a pool, or before
        it is stored.
    """
    stages: list[dict[str, Any]] = [
        {"$match": {"metadata.search_id": search_id, "output.kind": "pool"}},
        {"$limit": 1},
        {
            "$project": {
                "_id": 0,
                "n_members": {"$size": "$output.members"},
                "skipped": "$output.skipped",
                "dropped": "$output.dropped",
                "generated": "$output.generated",
                "fallback": "$output.fallback",
            }
        },
    ]
    found = next(iter(connection.outputs.aggregate(stages)), None)
    if found is None:
        return None
    return {key: value for key, value in found.items() if value or key not in {"generated", "fallback"}}
