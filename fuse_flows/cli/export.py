"""Commands that take a search elsewhere: files of structures, pictures, archives, reports."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuse_flows.cli.console import console
from fuse_flows.cli.options import HullFile, LaunchPadFile, Mixed, SearchName, SpaceGroup, Within

if TYPE_CHECKING:
    from fuse_flows.store.search import Search


class ExportFormat(StrEnum):
    """What can be written; the values up to ``json`` are those of :class:`.StructureFormat`."""

    CIF = "cif"
    POSCAR = "poscar"
    EXTXYZ = "extxyz"
    ASE = "ase"
    JSON = "json"
    PICTURES = "pictures"
    ARCHIVE = "archive"


def export(
    search: SearchName,
    file_format: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            "-f",
            help="cif, poscar: a folder; extxyz, ase (database), json (pymatgen entries): a file with all structures; "
            "pictures: a folder of SVG and PNG; archive: the whole search, for 'fuse-flows import'.",
        ),
    ] = ExportFormat.CIF,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; default: the search id in this folder.")
    ] = None,
    *,
    top: Annotated[int | None, typer.Option(min=1, help="How many of the lowest; default: all.")] = None,
    unique: Annotated[bool, typer.Option("--unique/--all", help="Each minimum once, or every candidate.")] = True,
    within: Within = None,
    space_group: SpaceGroup = None,
    candidate: Annotated[list[str] | None, typer.Option(help="Only this candidate; may be given again.")] = None,
    launchpad: LaunchPadFile = None,
) -> None:
    """Write structures, pictures, or the whole search into files."""
    from fuse_flows.analysis.export import write_pictures
    from fuse_flows.analysis.formats import StructureFormat, write_structures
    from fuse_flows.errors import ConfigError
    from fuse_flows.store.archive import write_archive
    from fuse_flows.store.connection import connect
    from fuse_flows.store.search import Search

    found = Search(search, connect(launchpad))
    if file_format in {ExportFormat.PICTURES, ExportFormat.ARCHIVE}:
        if any(value is not None for value in (top, within, space_group, candidate)):
            raise ConfigError("format", f"{file_format} takes the whole search; leave out what chooses structures")
        suffix = "-pictures" if file_format is ExportFormat.PICTURES else ".fuse.zip"
        target = output or Path(f"{found.search_id}{suffix}")
        if file_format is ExportFormat.PICTURES:
            console.print(f"wrote {len(write_pictures(target, found))} pictures into {target}")
            return
        if target.exists():
            raise ConfigError("output", f"{target} exists; name another one, or remove it")
        target.parent.mkdir(parents=True, exist_ok=True)
        console.print(f"wrote {write_archive(found.connection, found.search_id, target)} documents into {target}")
        return
    chosen = _chosen(found, top, candidate, unique=unique, within=within, space_group=space_group)
    structures = StructureFormat(file_format.value)
    target = output or Path(f"{found.search_id}{structures.suffix or f'-{structures}'}")
    tier = found.config.tiers[-1] if structures is StructureFormat.JSON else None
    write_structures(target, chosen, structures, tier)
    console.print(f"wrote {len(chosen)} structures into {target}")


def import_archive(
    file: Annotated[Path, typer.Argument(help="A file that 'fuse-flows export -f archive' wrote.")],
    launchpad: LaunchPadFile = None,
) -> None:
    """Read a search that was exported elsewhere into this database, where it can be queried and resumed."""
    from fuse_flows.store.archive import read_archive
    from fuse_flows.store.connection import connect

    done = read_archive(connect(launchpad), file)
    console.print(f"{done.search_id}: {done.written} documents are new, {done.known} were there already")


def report(
    search: SearchName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page; default: the search id in this folder.")
    ] = None,
    *,
    top: Annotated[int, typer.Option(min=0, help="Minima shown in three dimensions and as powder patterns.")] = 8,
    hull: HullFile = None,
    mixed: Mixed = False,
    launchpad: LaunchPadFile = None,
) -> None:
    """Write one page about a search: summary, structures, pictures, what was run; it needs nothing but a browser."""
    from fuse_flows.analysis.report import write_report
    from fuse_flows.relax.hull import read_references
    from fuse_flows.store.connection import connect
    from fuse_flows.store.search import Search

    found = Search(search, connect(launchpad))
    target = output or Path(f"{found.search_id}.html")
    references = None if hull is None else read_references(hull, mixed=mixed)
    console.print(f"wrote {write_report(target, found, top, references)}")


def _chosen(
    search: Search, top: int | None, candidates: list[str] | None, *, unique: bool, **limits: Any
) -> list[dict[str, Any]]:
    """Return the candidates that shall be written: those that are named, or the lowest."""
    from fuse_flows.errors import ConfigError

    if not candidates:
        return search.unique(top, **limits) if unique else search.best(top, **limits)
    if top is not None or any(value is not None for value in limits.values()):
        raise ConfigError("candidate", "cannot be combined with top, within or space-group; leave one of them out")
    found = [search.document(name) for name in candidates]
    for doc in found:
        if doc["energy"] is None:
            raise ConfigError("candidate", f"{doc['candidate_id']} has no energy ({doc['outcome']}); choose another")
    return found
