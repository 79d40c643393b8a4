"""What a user asks the database: candidates, the best of them, the state of a search, and which searches there are."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from fuse_flows.config import DuplicatesConfig, parse_formula
from fuse_flows.errors import ConfigError, DatabaseError
from fuse_flows.relax.result import Outcome
from fuse_flows.search.visited import Minimum, VisitedMinima
from fuse_flows.store.setup import clusters_of_population, enthalpies
from fuse_flows.store.tallies import sums_of_searches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fuse_flows.store.connection import Connection

_SEARCH_ID = "metadata.search_id"
_PLACE = ("walker", "step", "index")
_RANKED = ("candidate_id", "search_id", *_PLACE, "outcome", "enthalpy_per_atom", "space_group_number", "cluster_id")
_FIRST_BATCH, _LARGEST_BATCH = 16, 512


@dataclass(frozen=True)
class SearchSummary:
    """A search that the database knows.

    Parameters
    ----------
    search_id
        Its name.
    formula
        Its formula unit.
    n_candidates
        Candidates stored so far.
    updated
        When it was added or last stored something, as an ISO time.
    """

    search_id: str
    formula: str
    n_candidates: int
    updated: str


def candidates(connection: Connection, search_id: str, **conditions: Any) -> list[dict[str, Any]]:
    """Return the candidates of a search in the order in which they were judged.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    **conditions
        Fields of a candidate with the value, or MongoDB condition, that they must fulfil.

    Returns
    -------
    list of dict
        :class:`.CandidateDoc` documents, by walker, step and index.
    """
    fields = _fields_of(conditions)
    shown = None if fields is None else {"candidate_id", "search_id", *_PLACE} | fields
    ranked = _read(connection, [search_id], conditions, [{"$sort": dict.fromkeys(_PLACE, 1)}], fields=shown)
    return list(_whole(connection, [search_id], ranked))


def candidate_rows(
    connection: Connection, search_id: str, fields: Iterable[str], conditions: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return some fields of the candidates of a search, in the order of :func:`candidates`; no structure is sent.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    fields
        Fields of a candidate.
    conditions
        As in :func:`candidates`.

    Returns
    -------
    list of dict
        One per candidate.
    """
    shown = dict.fromkeys((*_PLACE, *fields), 1)
    stages: list[dict[str, Any]] = [{"$project": shown}, {"$sort": dict.fromkeys(_PLACE, 1)}]
    asked = _fields_of(conditions or {})
    needed = None if asked is None else {"candidate_id", *(name.split(".")[0] for name in shown)} | asked
    return list(_read(connection, [search_id], conditions or {}, stages, fields=needed))


def best_candidates(
    connection: Connection,
    search_id_or_formula: str,
    top: int | None = 10,
    *,
    unique: bool = False,
    within: float | None = None,
    space_group: int | None = None,
) -> list[dict[str, Any]]:
    """Return the converged candidates of lowest enthalpy, which is the energy without a pressure.

    Parameters
    ----------
    connection
        The database.
    search_id_or_formula
        One search, or a formula for all its searches.
    top
        How many; None for all.
    unique
        Only the lowest of every cluster of copies; it gets the number of members as ``copies``. Clusters of walkers
        that did not know of one another, or of several searches of a formula, are compared here.
    within
        Only those at most so much above the lowest of all, eV/atom.
    space_group
        Only those of this space group, by its number; with ``unique`` the lowest of the cluster decides.

    Returns
    -------
    list of dict
        :class:`.CandidateDoc` documents, by enthalpy per atom; the earlier one first where they are equal.
    """
    ids = _ids_of(connection, search_id_or_formula)
    order = {"enthalpy_per_atom": 1, "step": 1, "index": 1, "walker": 1, "search_id": 1}
    successes = [outcome.value for outcome in Outcome if outcome.is_success]
    conditions: dict[str, Any] = {"outcome": {"$in": successes}, "enthalpy_per_atom": {"$ne": None}}
    limit = math.inf
    if within is not None:
        lowest = best_candidates(connection, search_id_or_formula, 1)
        limit = lowest[0]["enthalpy_per_atom"] + within if lowest else -math.inf
    stages: list[dict[str, Any]] = [{"$sort": order}]
    if unique:
        cluster = {"$ifNull": ["$cluster_id", "$candidate_id"]}
        stages += [
            {"$group": {"_id": cluster, "lowest": {"$first": "$$ROOT"}, "copies": {"$sum": 1}}},
            {"$replaceWith": {"$mergeObjects": ["$lowest", {"copies": "$copies"}]}},
            {
                "$match": {"enthalpy_per_atom": {"$lte": limit + DuplicatesConfig().energy_tolerance}}
            },  # copies lie so near
            {"$sort": order},
        ]
        ranked = list(_read(connection, ids, conditions, stages, fields=_RANKED))
        walkers = {(row["search_id"], row["walker"]) for row in ranked}
        if len(walkers) > 1 or any(row.get("cluster_id") is None for row in ranked):
            found = _merged(_whole(connection, ids, ranked), top if space_group is None else None)
        else:
            found = ranked  # all were compared when they were judged: only those asked for need be read
        near = [doc for doc in found if doc["enthalpy_per_atom"] <= limit]
        near = [doc for doc in near if space_group in {None, doc["space_group_number"]}][:top]
        return near if found is not ranked else list(_whole(connection, ids, near))
    conditions["enthalpy_per_atom"]["$lte"] = limit
    if space_group is not None:
        conditions["space_group_number"] = space_group
    stages += [] if top is None else [{"$limit": top}]
    return list(_whole(connection, ids, _read(connection, ids, conditions, stages, fields=_RANKED)))


def latest_step(
    connection: Connection, search_id: str, walker: int | None = None, fields: Sequence[str] = ("output",)
) -> dict[str, Any] | None:
    """Return the newest document of a walk in the JobStore.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    walker
        One of its walkers; None for the one that has come farthest.
    fields
        What is read of it beside ``uuid`` and ``index``; ``output`` is the whole :class:`.StepDoc`.

    Returns
    -------
    dict or None
        None before the walk has begun.
    """
    query: dict[str, Any] = {_SEARCH_ID: search_id, "output.state": {"$exists": True}, "output.step": {"$exists": True}}
    if walker is not None:
        query["output.walker"] = walker
    shown = dict.fromkeys(("uuid", "index", *fields), 1)
    return connection.outputs.find_one(query, shown, sort=[("output.step", -1)])


def latest_state(connection: Connection, search_id: str, walker: int | None = None) -> dict[str, Any] | None:
    """Return the state that a search has reached: ``output.state`` of :func:`latest_step`, or None."""
    found = latest_step(connection, search_id, walker)
    return None if found is None else found["output"]["state"]


def search_ids(connection: Connection) -> list[SearchSummary]:
    """Return every search that the LaunchPad or the JobStore knows.

    Parameters
    ----------
    connection
        The database.

    Returns
    -------
    list of SearchSummary
        The one that was active last first.
    """
    return summaries(connection, known_searches(connection))


def summaries(connection: Connection, search_ids: Sequence[str]) -> list[SearchSummary]:
    """Return what is known of searches without reading their configurations; see :func:`search_ids`."""
    if not search_ids:
        return []
    done = sums_of_searches(connection, search_ids)
    found = [_summary(connection, name, sum(done[name].outcomes.values())) for name in search_ids]
    return sorted(found, key=lambda summary: (summary.updated, summary.search_id), reverse=True)


def find_search(connection: Connection, text: str) -> str:
    """Find the search that a user means.

    Parameters
    ----------
    connection
        The database.
    text
        A search id, the beginning of exactly one, or a formula, in any order of its elements, for its newest search.

    Returns
    -------
    str
        The search id.

    Raises
    ------
    DatabaseError
        If no search, or more than one, is meant.
    """
    known = known_searches(connection)
    if text in known:
        return text
    of_formula = [name for name in known if _formula_of(name) == text] or _of_same_atoms(known, text)
    if of_formula:
        return max((_summary(connection, name, 0) for name in of_formula), key=lambda found: found.updated).search_id
    begin = [name for name in known if text and name.startswith(text)]
    if len(begin) == 1:
        return begin[0]
    if begin:
        raise DatabaseError(f"search: {text!r} is the beginning of {', '.join(begin)}; write more of it")
    some = f"it knows {', '.join(known[:5])}" if known else "it knows none yet"
    raise DatabaseError(f"search: {text!r} is neither a search nor a formula of {connection.uri}; {some}")


def _read(
    connection: Connection,
    ids: Iterable[str],
    conditions: dict[str, Any],
    stages: list[dict[str, Any]],
    *,
    fields: Iterable[str] | None = None,
    jobs: list[Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Run stages over the candidates of searches, the same as in the view; the searches are found by index.

    With ``fields``, those that conditions and stages need, MongoDB carries no structures along, and each candidate has
    the ``_id`` of its document as ``job``. With ``jobs`` only these documents are read.
    """
    ids = list(ids)
    query = {_SEARCH_ID: {"$in": ids}, "output.kind": "start", "output.clusters": {"$type": "object"}}
    begun = connection.outputs.find(query, {"output.clusters": 1})
    pairs = [{"k": member, "v": first} for doc in begun for member, first in doc["output"]["clusters"].items()]
    candidate: Any = "$output.candidates"
    pipeline: list[dict[str, Any]] = [
        {"$match": {_SEARCH_ID: {"$in": ids}} if jobs is None else {"_id": {"$in": jobs}}}
    ]
    if fields is not None:
        needed = {*fields, "energy", "energy_per_atom"}  # of older documents they are the enthalpies
        pipeline.append({"$project": {f"output.candidates.{name}": 1 for name in sorted(needed)}})
        candidate = {"$mergeObjects": [candidate, {"job": "$_id"}]}
    pipeline += [
        {"$unwind": "$output.candidates"},
        {"$replaceWith": candidate},
        {"$set": clusters_of_population("$", {"$literal": pairs}) | enthalpies("$")},
        {"$match": conditions},
        *stages,
    ]
    yield from connection.outputs.aggregate(pipeline, allowDiskUse=True)


def _whole(connection: Connection, ids: list[str], ranked: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Read the whole documents of candidates, in their order and as far as they are asked for; ``copies`` stay."""
    rows, size = iter(ranked), _FIRST_BATCH
    while batch := list(islice(rows, size)):
        jobs = [row["job"] for row in batch if "job" in row]
        if not jobs:
            yield from batch  # they are whole
            continue
        chosen: dict[str, Any] = {"candidate_id": {"$in": [row["candidate_id"] for row in batch]}}
        whole = _read(connection, ids, chosen, [], jobs=jobs)
        found = {(doc["search_id"], doc["candidate_id"]): doc for doc in whole}
        for row in batch:
            document = found.get((row["search_id"], row["candidate_id"]))
            if document is not None:
                yield document | ({"copies": row["copies"]} if "copies" in row else {})
        size = min(2 * size, _LARGEST_BATCH)


def _fields_of(conditions: dict[str, Any]) -> set[str] | None:
    """Return the fields of a candidate that conditions ask about; None if that cannot be told."""
    fields: set[str] = set()
    for key, value in conditions.items():
        if not key.startswith("$"):
            fields.add(key.split(".")[0])
            continue
        parts = [_fields_of(part) for part in value] if key in {"$and", "$or", "$nor"} else [None]
        for part in parts:
            if part is None:
                return None
            fields |= part
    return fields


def _merged(lowest: Iterable[dict[str, Any]], top: int | None) -> list[dict[str, Any]]:
    """Return the first ``top`` clusters, those merged that are copies of one another; the lowest must come first."""
    tolerances = DuplicatesConfig()
    visited = VisitedMinima(tolerances)
    merged: dict[str, dict[str, Any]] = {}
    for candidate in lowest:
        minimum = Minimum.from_candidate(candidate)
        if len(merged) == top:
            highest = list(merged.values())[-1]["enthalpy_per_atom"]
            if minimum is None or minimum.energy_per_atom > highest + tolerances.energy_tolerance:
                break
        known = None if minimum is None else visited.find(minimum)
        if known is not None:
            merged[known.candidate_id]["copies"] += candidate["copies"]
        elif top is None or len(merged) < top:
            merged[candidate["candidate_id"]] = candidate
            if minimum is not None:
                visited.cluster_of(minimum)
    return list(merged.values())


def known_searches(connection: Connection) -> list[str]:
    """Return the names of all searches, submitted or begun; both collections answer from an index."""
    names: set[str] = set()
    for collection in (connection.outputs, connection.launchpad.workflows):
        names.update(name for name in collection.distinct(_SEARCH_ID) if isinstance(name, str))
    return sorted(names)


def _ids_of(connection: Connection, text: str) -> list[str]:
    """Return one search, or all those of a formula."""
    query = {_SEARCH_ID: {"$regex": f"^{re.escape(text)}(-[0-9a-f]+)?$"}}
    return [name for name in connection.outputs.distinct(_SEARCH_ID, query) if isinstance(name, str)]


def _summary(connection: Connection, search_id: str, n_candidates: int) -> SearchSummary:
    query = {_SEARCH_ID: search_id}
    output = connection.outputs.find_one(query, {"completed_at": 1}, sort=[("output.step", -1)])
    workflow = output or connection.launchpad.workflows.find_one(query, {"updated_on": 1}, sort=[("_id", -1)])
    updated = output["completed_at"] if output else _local(workflow["updated_on"]) if workflow else ""
    return SearchSummary(search_id, _formula_of(search_id), n_candidates, str(updated))


def _local(moment: datetime) -> str:
    """Return a time of FireWorks (UTC) as jobflow writes it (ISO, of this place), so that the two can be compared."""
    return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None).isoformat()


def _of_same_atoms(names: list[str], text: str) -> list[str]:
    """Return the searches of a formula, in whatever order its elements and for how many units it was written."""
    try:
        atoms = parse_formula(text)
        same = {formula for formula in map(_formula_of, names) if parse_formula(formula) == atoms}
    except ConfigError:  # it is no formula
        return []
    return [name for name in names if _formula_of(name) in same]


def _formula_of(search_id: str) -> str:
    """Return the formula with which the name of a search begins."""
    return search_id.rsplit("-", 1)[0]
