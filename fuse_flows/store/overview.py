"""What somebody who watches searches wants to know of each; a few indexed reads per search, none of any candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuse_flows.errors import DatabaseError
from fuse_flows.store.lost import suspicious_jobs
from fuse_flows.store.priorities import priorities_of_searches, priority_of_search
from fuse_flows.store.queries import search_ids
from fuse_flows.store.searches import search_document
from fuse_flows.store.tallies import per_hour

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fuse_flows.schemas.step import SearchDoc
    from fuse_flows.store.connection import Connection
    from fuse_flows.store.queries import SearchSummary

_WAITING = ("WAITING", "READY", "RESERVED")
_OVER = ("finished", "stopped")


@dataclass(frozen=True)
class Overview:
    """A search that is being watched.

    Parameters
    ----------
    document
        The search at a glance.
    lost
        Jobs that seem to run, but whose worker is gone.
    per_hour
        Candidates per hour, in the last hour.
    priority
        Priority of its jobs; None for FireWorks' own.
    """

    document: SearchDoc
    lost: int
    per_hour: float
    priority: int | None

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs by what a user has to know of them: waiting, running, lost, failed, paused; only those there are."""
        found = self.document.jobs
        counts = {
            "waiting": sum(found.get(state, 0) for state in _WAITING),
            "running": max(0, found.get("RUNNING", 0) - self.lost),
            "lost": self.lost,
            "failed": found.get("FIZZLED", 0),
            "paused": found.get("PAUSED", 0),
        }
        return {name: number for name, number in counts.items() if number}

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself: finished, stopped, or nothing but failed jobs to go on with."""
        if self.document.status in _OVER:
            return True
        going = sum(self.document.jobs.get(state, 0) for state in ("READY", "RESERVED", "RUNNING"))
        return not going and bool(self.document.jobs.get("FIZZLED"))


def overview(connection: Connection, search_id: str) -> Overview:
    """Return a search that is being watched.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.

    Returns
    -------
    Overview
        As it stands now.

    Raises
    ------
    DatabaseError
        If its configuration is lost.
    """
    return _overview(connection, search_id, priority_of_search(connection.launchpad, search_id))


def _overview(connection: Connection, search_id: str, priority: int | None) -> Overview:
    from fireworks.fw_config import RUN_EXPIRATION_SECS

    document = search_document(connection, search_id)
    running, lost = document.jobs.get("RUNNING", 0), 0
    if running:
        lost = len(suspicious_jobs(connection.launchpad, search_id, lost_after=RUN_EXPIRATION_SECS))
    rate = 0.0 if document.status in _OVER else per_hour(connection, search_id)
    return Overview(document, min(lost, running), rate, priority)


def overviews(
    connection: Connection, known: Mapping[str, Overview] | None = None
) -> tuple[list[Overview], list[SearchSummary]]:
    """Return all searches, the one that was active last first.

    Parameters
    ----------
    connection
        The database.
    known
        Searches that were over when they were last looked at, and need not be looked at again.

    Returns
    -------
    overviews
        Those with a configuration.
    others
        Those whose configuration is lost.
    """
    found: list[Overview] = []
    others: list[SearchSummary] = []
    summaries = search_ids(connection)
    asked = [summary.search_id for summary in summaries if summary.search_id not in (known or {})]
    priorities = priorities_of_searches(connection.launchpad, asked)
    for summary in summaries:
        name = summary.search_id
        try:
            before = (known or {}).get(name)
            found.append(_overview(connection, name, priorities[name]) if before is None else before)
        except DatabaseError:
            others.append(summary)
    return found, others
