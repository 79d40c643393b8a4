"""Reading the minima that a walker has visited from the JobStore, and keeping them in the process.

What a step knows are the first population and all steps before it, whichever process took them: a process keeps only
what it has *read*, and throws that away unless the newest document it read is still the one that is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jobflow import CURRENT_JOB

from fuse_flows.search.visited import Minimum, VisitedMinima
from fuse_flows.search.walkers import is_meeting, last_meeting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fuse_flows.config import SearchConfig
    from fuse_flows.search.state import SearchState

_MEMBER_FIELDS = (
    "candidate_id",
    "cluster_id",
    "energy_per_atom",
    "enthalpy_per_atom",
    "fingerprint",
    "structure.lattice.matrix",
    "structure.sites.abc",
    "structure.sites.species.element",
)


@dataclass
class _Known:
    """What this process has read about one walker."""

    newest: Any = None
    step: int = -1
    identifiers: set[str] = field(default_factory=set)
    minima: VisitedMinima | None = None

    def forget(self, config: SearchConfig) -> None:
        """Forget everything."""
        self.newest, self.step = None, -1
        self.identifiers.clear()
        self.minima = VisitedMinima(config.duplicates)

    def add(self, minimum: Minimum) -> None:
        """Keep a minimum unless it is known."""
        if self.minima is not None and minimum.candidate_id not in self.identifiers:
            self.identifiers.add(minimum.candidate_id)
            self.minima.add(minimum)


@lru_cache(maxsize=4)
def _known(search_id: str, walker: int) -> _Known:  # noqa: ARG001 - the key of the cache
    return _Known()


def read_visited(config: SearchConfig, state: SearchState) -> VisitedMinima:
    """Return the minima that a walker knows: its own up to its state, and those it was told when the walkers met.

    Parameters
    ----------
    config
        The search.
    state
        Where the walker stands.

    Returns
    -------
    VisitedMinima
        One representative of each cluster, in the order in which the walker learned of them; the caller may add to it.
    """
    known = _known(config.search_id, state.walker)
    documents = _read_steps(config.search_id, state.walker, known.step, state.step) if known.step >= 0 else []
    if known.newest is None or known.newest not in [document["_id"] for document in documents]:
        known.forget(config)
        documents = _read_steps(config.search_id, state.walker, 0, state.step)
    for document in documents:
        step = document["output"]["step"]
        if document["_id"] == known.newest:
            continue
        _learn(known, config, state.walker, document)
        if is_meeting(config, step):
            _learn_from_others(known, config, state.walker, step)
        known.newest, known.step = document["_id"], step
    return VisitedMinima(config.duplicates, before=known.minima)


def minima_of(candidates: Iterable[Mapping[str, Any]]) -> list[Minimum]:
    """Return the candidates that are minima: those whose relaxation succeeded.

    Parameters
    ----------
    candidates
        :class:`.CandidateDoc` documents as plain values.

    Returns
    -------
    list of Minimum
        In the same order.
    """
    minima = (Minimum.from_candidate(candidate) for candidate in candidates)
    return [minimum for minimum in minima if minimum is not None]


def cluster_fields(candidate: Mapping[str, Any], visited: VisitedMinima) -> dict[str, Any]:
    """Compare a candidate with the visited minima, and add it to them if it is new.

    Parameters
    ----------
    candidate
        A :class:`.CandidateDoc` as plain values.
    visited
        The minima visited before it.

    Returns
    -------
    dict
        Its ``cluster_id`` and ``is_duplicate``; nothing if its relaxation failed.
    """
    fields: dict[str, Any] = {}
    for minimum in minima_of([candidate]):
        cluster = visited.cluster_of(minimum)
        fields = {"cluster_id": cluster, "is_duplicate": cluster != minimum.candidate_id}
    return fields


def _remember(
    known: _Known, candidates: Iterable[Mapping[str, Any]], clusters: Mapping[str, str] | None = None
) -> None:
    """Keep the first candidate of every cluster."""
    first = [
        candidate
        for candidate in candidates
        if candidate["candidate_id"]
        == (candidate["cluster_id"] if clusters is None else clusters.get(candidate["candidate_id"]))
    ]
    for minimum in minima_of(first):
        known.add(minimum)


def _learn(known: _Known, config: SearchConfig, walker: int, document: Mapping[str, Any]) -> None:
    """Keep what a job of a walk found; the document that begins the walk stands for the first population."""
    clusters = document["output"].get("clusters")
    if clusters:
        _remember(known, _read_population(config.search_id, walker), clusters)
    _remember(known, document["output"].get("candidates", ()))


def _learn_from_others(known: _Known, config: SearchConfig, walker: int, step: int) -> None:
    """Keep what the other walkers found since the meeting before the one at a step."""
    before = last_meeting(config, step - 1)
    for other in range(config.walkers.number):
        if other != walker:
            for document in _read_steps(config.search_id, other, before + 1 if before else 0, step):
                _learn(known, config, other, document)


def _read_steps(search_id: str, walker: int, first: int, last: int) -> list[dict[str, Any]]:
    """Read what the jobs of a walker stored for steps of a range; answered from an index."""
    criteria = {
        "metadata.search_id": search_id,
        "output.step": {"$gte": first, "$lte": last},
        "output.walker": walker,
    }
    return _query(criteria, ["output.step", "output.clusters"], sort={"output.step": 1})


def _read_population(search_id: str, walker: int) -> list[dict[str, Any]]:
    """Read the first population in the order of its members."""
    criteria = {"metadata.search_id": search_id, "output.kind": "population", "output.walker": walker}
    documents = _query(criteria, ["output.candidates.index"])
    members = [member for document in documents for member in document["output"]["candidates"]]
    return sorted(members, key=lambda member: member["index"])


def _query(criteria: dict[str, Any], properties: list[str], **options: Any) -> list[dict[str, Any]]:
    fields = [*properties, *(f"output.candidates.{name}" for name in _MEMBER_FIELDS)]
    return list(CURRENT_JOB.store.query(criteria, fields, **options))
