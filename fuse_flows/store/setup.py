"""Indexes, and the view that shows one document per candidate; all made once, none ever harms what is there.

The view. A JobStore document holds the candidates of one job in ``output.candidates``. The plain view over it
(``$unwind``, ``$replaceWith``) would read the whole collection for every query: MongoDB 6.0 moves a ``$match`` neither
in front of ``$replaceWith`` nor through a renamed dotted path. So the view starts from the *names* of the searches,
which a DISTINCT_SCAN reads from the index alone, joins the documents of each, and projects the fields of a candidate
one by one: a condition on ``search_id`` (equality, ``$in``, range or ``^``-regex) then acts before the join and is
served by the index. Conditions on other fields alone read every candidate, but no document of other jobs.

The first population is stored before anybody compares its members; their clusters lie in the document that begins the
walk (``output.clusters``), which the view joins once per search and puts where a candidate has none of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.errors import DatabaseError
from fuse_flows.store.connection import CANDIDATES_VIEW, Connection
from fuse_flows.store.once import ONCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fireworks import LaunchPad
    from pymongo.database import Database

TALLIES = "search_kind_ended_tally"
"""The index that answers how many candidates there are, and when they were made, without reading any."""

_NAMESPACE_EXISTS = 48
_SEARCH_ID = "metadata.search_id"


def ensure_indexes(connection: Connection) -> None:
    """Make the indexes and the view that are missing.

    Parameters
    ----------
    connection
        LaunchPad and JobStore. A new LaunchPad is made ready for use as well; nothing is ever reset.

    Raises
    ------
    DatabaseError
        If an index cannot be made, for want of rights or because what is stored contradicts it.
    """
    from pymongo.errors import OperationFailure

    try:
        _prepare_launchpad(connection.launchpad)
        _index_outputs(connection)
        _make_view(connection.outputs.database, connection.outputs.name)
    except OperationFailure as error:
        reason = " ".join(str(error).split(", full error")[0].split())
        msg = f"the indexes at {connection.uri} cannot be made ({reason}); use a user with the role dbOwner once"
        raise DatabaseError(msg) from error


def candidates_pipeline(outputs: str, fields: Iterable[str]) -> list[dict[str, Any]]:
    """Return the pipeline of the view of candidates; see the head of this module.

    Parameters
    ----------
    outputs
        Name of the JobStore's collection.
    fields
        Fields of a candidate that are shown, beside ``search_id``.

    Returns
    -------
    list
        Stages of an aggregation over ``outputs``.
    """
    shown: dict[str, Any] = {field: f"$job.output.candidates.{field}" for field in fields if field != "search_id"}
    pairs = {"$reduce": {"input": "$start.members", "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
    filled = clusters_of_population("$job.output.candidates.", pairs)
    filled |= enthalpies("$job.output.candidates.")
    shown |= {field: expression for field, expression in filled.items() if field in shown}
    return [
        {"$match": {_SEARCH_ID: {"$gte": ""}}},
        {"$sort": {_SEARCH_ID: 1}},
        {"$group": {"_id": f"${_SEARCH_ID}"}},
        {
            "$lookup": {
                "from": outputs,
                "localField": "_id",
                "foreignField": _SEARCH_ID,
                "pipeline": [
                    {"$match": {"output.kind": "start", "output.clusters": {"$type": "object"}}},
                    {"$project": {"_id": 0, "members": {"$objectToArray": "$output.clusters"}}},
                ],
                "as": "start",
            }
        },
        {"$lookup": {"from": outputs, "localField": "_id", "foreignField": _SEARCH_ID, "as": "job"}},
        {"$unwind": "$job"},
        {"$unwind": "$job.output.candidates"},
        {"$project": {"_id": 0, "search_id": "$_id", **shown}},
    ]


def enthalpies(member: str) -> dict[str, Any]:
    """Return the expressions that give candidates from before there was pressure an enthalpy: their energy.

    Parameters
    ----------
    member
        Beginning of the paths to the fields of a candidate.

    Returns
    -------
    dict
        ``enthalpy`` and ``enthalpy_per_atom``; those that have one keep it.
    """
    pairs = {"enthalpy": "energy", "enthalpy_per_atom": "energy_per_atom"}
    return {field: {"$ifNull": [f"{member}{field}", f"{member}{energy}"]} for field, energy in pairs.items()}


def clusters_of_population(member: str, pairs: Any) -> dict[str, Any]:
    """Return the expressions that give members of the first population the clusters stored where the walk begins.

    Parameters
    ----------
    member
        Beginning of the paths to the fields of a candidate.
    pairs
        Expression for a list of pairs: ``k``, a candidate, and ``v``, the first candidate of its cluster.

    Returns
    -------
    dict
        ``cluster_id`` and ``is_duplicate``; later candidates keep what they have.
    """
    mine = {"$filter": {"input": pairs, "cond": {"$eq": ["$$this.k", f"{member}candidate_id"]}}}
    cluster = {"$first": {"$map": {"input": mine, "in": "$$this.v"}}}
    first = {"$cond": [{"$eq": [f"{member}step", 0]}, cluster, "$$REMOVE"]}
    copied = {"$cond": [{"$gt": [first, None]}, {"$ne": [first, f"{member}candidate_id"]}, "$$REMOVE"]}
    return {
        field: {"$ifNull": [f"{member}{field}", found, f"{member}{field}"]}  # null stays null, missing stays missing
        for field, found in (("cluster_id", first), ("is_duplicate", copied))
    }


def _prepare_launchpad(launchpad: LaunchPad) -> None:
    """Make a LaunchPad usable and indexed without touching its workflows."""
    _number_ids(launchpad)
    if "fw_id_1" not in launchpad.fireworks.index_information():
        launchpad.tuneup()
    launchpad.workflows.create_index(ONCE, unique=True, partialFilterExpression={ONCE: {"$exists": True}})
    launchpad.workflows.create_index(_SEARCH_ID)
    launchpad.fireworks.create_index([("spec.search_id", 1), ("state", 1)])


def _number_ids(launchpad: LaunchPad) -> None:
    """Make the counter of ids, which otherwise only ``lpad reset`` makes (and that deletes everything)."""
    from pymongo.errors import DuplicateKeyError

    if launchpad.fw_id_assigner.find_one({}) is not None:
        return
    last_fw = launchpad.fireworks.find_one({}, {"fw_id": 1}, sort=[("fw_id", -1)]) or {"fw_id": 0}
    last_launch = launchpad.launches.find_one({}, {"launch_id": 1}, sort=[("launch_id", -1)]) or {"launch_id": 0}
    following = {"next_fw_id": last_fw["fw_id"] + 1, "next_launch_id": last_launch["launch_id"] + 1}
    try:
        # the _id that FireWorks gives it: two processes cannot both insert one
        launchpad.fw_id_assigner.insert_one({"_id": -1, **following})
    except DuplicateKeyError:
        return


def _index_outputs(connection: Connection) -> None:
    """Make the indexes of the JobStore, which makes none itself."""
    outputs = connection.outputs
    outputs.create_index([("uuid", 1), ("index", 1)], unique=True)
    outputs.create_index([(_SEARCH_ID, 1), ("output.kind", 1), ("output.ended", 1), ("output.tally", 1)], name=TALLIES)
    outputs.create_index([(_SEARCH_ID, 1), ("output.step", -1)])
    outputs.create_index([(_SEARCH_ID, 1), ("output.walker", 1), ("output.step", -1)])
    ended = "output.state.stop_reason"
    outputs.create_index([(_SEARCH_ID, 1), (ended, 1)], partialFilterExpression={ended: {"$type": "string"}})
    for store in connection.jobstore.additional_stores.values():
        files = getattr(store, "_files_collection", None)  # a GridFS
        if files is not None:
            files.create_index("metadata.blob_uuid")
            files.create_index([("metadata.job_uuid", 1), ("metadata.job_index", 1)])


def _make_view(database: Database[dict[str, Any]], outputs: str) -> None:
    """Make the view, or bring it up to date with the fields of a candidate."""
    from pymongo.errors import OperationFailure

    from fuse_flows.schemas.candidate import CandidateDoc

    pipeline = candidates_pipeline(outputs, CandidateDoc.model_fields)
    found = next(iter(database.list_collections(filter={"name": CANDIDATES_VIEW})), None)
    if found is None:
        try:
            database.command("create", CANDIDATES_VIEW, viewOn=outputs, pipeline=pipeline)
        except OperationFailure as error:
            if error.code != _NAMESPACE_EXISTS:
                raise
        return
    if found["type"] != "view":
        msg = f"{CANDIDATES_VIEW} in database {database.name} is a collection, not our view; rename it"
        raise DatabaseError(msg)
    if found["options"].get("viewOn") != outputs or found["options"].get("pipeline") != pipeline:
        database.command("collMod", CANDIDATES_VIEW, viewOn=outputs, pipeline=pipeline)
