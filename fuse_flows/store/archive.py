"""A whole search as one file, to be kept or to be read into another database.

The file is a zip archive of text: ``manifest.json`` says what is inside, ``config.yaml`` is the configuration as
``fuse-flows run --config`` reads it, and ``documents.jsonl`` holds the documents of the JobStore, one per line, as
MongoDB's relaxed extended JSON. Nothing in it is executed on reading; every document is checked before any is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

import fuse_flows
from fuse_flows.errors import ConfigError, DatabaseError, first_refusal
from fuse_flows.schemas.candidate import CandidateDoc
from fuse_flows.schemas.pool import PoolDoc, RankingDoc
from fuse_flows.schemas.step import PopulationDoc, ProposalDoc, StepDoc
from fuse_flows.store.jobs import active_jobs
from fuse_flows.store.searches import search_config_of
from fuse_flows.store.setup import ensure_indexes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fuse_flows.schemas.base import Document
    from fuse_flows.store.connection import Connection

FORMAT = "fuse-flows search"
VERSION = 1
_MANIFEST, _CONFIG, _DOCUMENTS = "manifest.json", "config.yaml", "documents.jsonl"
_SCHEMAS: dict[str, type[Document]] = {
    "population": PopulationDoc,
    "proposal": ProposalDoc,
    "start": StepDoc,
    "steps": StepDoc,
    "pool": PoolDoc,
    "ranking": RankingDoc,
}
# Classes that documents may name; a reader that decodes them must not be led to import anything else.
_CLASSES = {"pymatgen.core.structure", "jobflow.core.schemas"}
_LARGEST_LINE = 256 * 1024**2  # bytes; MongoDB itself takes 16 MB per document


class Imported(NamedTuple):
    """What :func:`read_archive` did.

    Parameters
    ----------
    search_id
        The search.
    written
        Documents that were new.
    known
        Documents that the database had already.
    """

    search_id: str
    written: int
    known: int


def write_archive(connection: Connection, search_id: str, file: Path) -> int:
    """Write all documents of a search, and its configuration, into one file.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search; it may be running, the file then holds what was stored up to now.
    file
        A zip archive; it is replaced once the new one is complete.

    Returns
    -------
    int
        Documents written.

    Raises
    ------
    DatabaseError
        If the search has not begun its walk: it could not be gone on with.
    """
    from bson.json_util import RELAXED_JSON_OPTIONS, dumps

    query = {"metadata.search_id": search_id}
    if connection.outputs.count_documents(query | {"output.kind": "start"}, limit=1) == 0:
        raise DatabaseError(f"search: the first population of {search_id} is not complete; let it run a while first")
    config = search_config_of(connection, search_id)
    partial = file.with_name(f".{file.name}.partial")
    digest, number = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(_DOCUMENTS, "w", force_zip64=True) as lines:
                for document in connection.outputs.find(query, {"_id": 0}).sort([("uuid", 1), ("index", 1)]):
                    line = dumps(document, json_options=RELAXED_JSON_OPTIONS).encode() + b"\n"
                    digest.update(line)
                    lines.write(line)
                    number += 1
            archive.writestr(_CONFIG, config.to_yaml())
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "search_id": search_id,
                "formula": config.formula,
                "documents": number,
                "sha256": digest.hexdigest(),
                "fuse_flows": fuse_flows.__version__,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            archive.writestr(_MANIFEST, json.dumps(manifest, indent=1))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return number


def read_archive(connection: Connection, file: Path) -> Imported:
    """Read a search into a database, where it can be queried and gone on with.

    Parameters
    ----------
    connection
        The database. Documents of the search that it has already must be the same ones; a reading that was cut off is
        completed by another one.
    file
        A file of :func:`write_archive`.

    Returns
    -------
    Imported
        What was new.

    Raises
    ------
    ConfigError
        If the file is no such archive, is damaged, or holds what this version does not know.
    DatabaseError
        If the database holds another course of the same search, or works on it.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = _manifest(archive, file)
            search_id = manifest["search_id"]
            new, known = _compare(connection, archive, manifest, file)
            if new:
                ensure_indexes(connection)
            for document in _documents(archive, manifest, file):
                if (document["uuid"], document["index"]) in new:
                    connection.outputs.insert_one(document)
    except FileNotFoundError:
        raise ConfigError("archive", f"{file} does not exist; name a file that fuse-flows export wrote") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigError("archive", f"{file} cannot be read ({error}); export it once more") from error
    return Imported(search_id, len(new), known)


def _compare(
    connection: Connection, archive: zipfile.ZipFile, manifest: dict[str, Any], file: Path
) -> tuple[set[tuple[str, int]], int]:
    """Return which documents the database lacks, and how many it has; nothing is written."""
    search_id, new, known = manifest["search_id"], set(), 0
    for document in _documents(archive, manifest, file):
        key = {"uuid": document["uuid"], "index": document["index"]}
        stored = connection.outputs.find_one(key, {"output": 1})
        if stored is None:
            new.add((document["uuid"], document["index"]))
        elif stored["output"] == document["output"]:
            known += 1
        else:
            msg = f"the database has other results of {search_id}; read {file} into another one (-l)"
            raise DatabaseError(f"archive: {msg}")
    if new and active_jobs(connection, search_id):
        raise DatabaseError(f"archive: {search_id} is running; stop it first: fuse-flows stop {search_id}")
    return new, known


def _manifest(archive: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    """Return the manifest, or say what is wrong with the file."""
    if not {_MANIFEST, _CONFIG, _DOCUMENTS} <= set(archive.namelist()):
        raise ConfigError("archive", f"{file} is no archive of a search; write one with: fuse-flows export -f archive")
    try:
        manifest = json.loads(archive.read(_MANIFEST))
        good = manifest["format"] == FORMAT and isinstance(manifest["search_id"], str)
        version = manifest["version"]
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        raise ConfigError("archive", f"{file} has a damaged manifest; export it once more")
    if version != VERSION:
        raise ConfigError("archive", f"{file} has version {version}, this fuse-flows reads {VERSION}; update it")
    return manifest


def _documents(archive: zipfile.ZipFile, manifest: dict[str, Any], file: Path) -> Iterator[dict[str, Any]]:
    """Yield the checked documents; the file as a whole is checked when the last one has been read."""
    from bson.errors import BSONError
    from bson.json_util import RELAXED_JSON_OPTIONS, loads

    digest, number = hashlib.sha256(), 0
    with io.BufferedReader(archive.open(_DOCUMENTS)) as lines:  # type: ignore[type-var] # ZipExtFile reads as raw files do
        while line := lines.readline(_LARGEST_LINE):
            number += 1
            digest.update(line)
            try:
                document = loads(line, json_options=RELAXED_JSON_OPTIONS)
                _check(document, manifest["search_id"])
            except (ValueError, KeyError, TypeError, RecursionError, BSONError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ConfigError("archive", f"{file}: document {number} is not valid ({reason})") from error
            yield document
    if digest.hexdigest() != manifest["sha256"]:
        raise ConfigError("archive", f"{file} is damaged: its documents are not those that were written")


def _check(document: dict[str, Any], search_id: str) -> None:
    """Raise ValueError, KeyError or TypeError unless a document is an output of a job of the search."""
    if document["metadata"]["search_id"] != search_id or document["output"]["search_id"] != search_id:
        raise ValueError("it belongs to another search")
    if not (isinstance(document["uuid"], str) and isinstance(document["index"], int)):
        raise TypeError("it has no identifier")
    named = set(_classes(document))
    if not named <= _CLASSES:
        raise ValueError(f"it names classes of {', '.join(sorted(named - _CLASSES))}")
    schema = _SCHEMAS.get(document["output"]["kind"])
    if schema is None:  # of a kind that has no candidates
        return
    try:
        output = schema.model_validate(document["output"])
        relaxed = [output.relaxed] if isinstance(output, ProposalDoc) else getattr(output, "candidates", [])
        for candidate in relaxed:
            CandidateDoc.model_validate(candidate)
    except ValidationError as error:
        refusal = first_refusal(error)
        raise ValueError(f"{refusal.field()}: {refusal.message}") from None


def _classes(value: Any) -> Iterator[str]:
    """Yield the modules of the classes that a document names."""
    pending = [value]
    while pending:
        here = pending.pop()
        if isinstance(here, dict):
            if "@module" in here:
                yield str(here["@module"])
            pending.extend(here.values())
        elif isinstance(here, list):
            pending.extend(here)
