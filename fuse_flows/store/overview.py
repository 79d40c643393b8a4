"""What somebody who watches searches wants to know of each, from a few indexed reads, none of them of a candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuse_flows.store.lost import suspicious_jobs
from fuse_flows.store.priorities import priorities_of_searches
from fuse_flows.store.queries import known_searches, summaries
from fuse_flows.store.searches import search_document, search_documents
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
    document = search_document(connection, search_id)
    return _overviews(connection, {search_id: document})[0]


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
    before = dict(known or {})
    names = known_searches(connection)
    documents = search_documents(connection, [name for name in names if name not in before])
    found = [*before.values(), *_overviews(connection, documents)]
    lost = [name for name in names if name not in before and name not in documents]
    found.sort(key=lambda one: (one.document.last_stored, one.document.search_id), reverse=True)
    return found, summaries(connection, lost)


def _overviews(connection: Connection, documents: Mapping[str, SearchDoc]) -> list[Overview]:
    from fireworks.fw_config import RUN_EXPIRATION_SECS

    priorities = priorities_of_searches(connection.launchpad, list(documents))
    rates = per_hour(connection, [name for name, document in documents.items() if document.status not in _OVER])
    found = []
    for name, document in documents.items():
        running, lost = document.jobs.get("RUNNING", 0), 0
        if running:
            lost = len(suspicious_jobs(connection.launchpad, name, lost_after=RUN_EXPIRATION_SECS))
        found.append(Overview(document, min(lost, running), rates.get(name, 0.0), priorities[name]))
    return found
