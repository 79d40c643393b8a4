"""The command about the convex hull: make references, and compare the compositions of several searches."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fuse_flows.cli.console import console, table
from fuse_flows.cli.options import LaunchPadFile, Mixed

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.hull import ReferenceEntries
    from fuse_flows.store.search import Search

DEFAULT_FILE = Path("hull_references.json")


def hull(
    searches: Annotated[
        list[str] | None, typer.Argument(metavar="[SEARCH]...", help="Search ids, their beginnings, or formulas.")
    ] = None,
    *,
    entries: Annotated[
        Path, typer.Option("--hull", help="Reference entries: read, or written with --references.")
    ] = DEFAULT_FILE,
    references: Annotated[
        Path | None, typer.Option(help="Folder of structure files that are relaxed and become reference entries.")
    ] = None,
    tier: Annotated[
        str, typer.Option(help="Calculator that relaxes them: that of the searches' last tier.")
    ] = "chgnet",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file whose last tier relaxes them, in place of --tier.")
    ] = None,
    materials_project: Annotated[
        bool, typer.Option("--materials-project", help="Entries of the Materials Project (mp-api, MP_API_KEY).")
    ] = False,
    mixed: Mixed = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the phase diagram of all compositions (.png, .svg).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The table as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The table as CSV.")] = False,
    launchpad: LaunchPadFile = None,
) -> None:
    """Show how far the best structures of several searches, one per composition, lie above the convex hull.

    The hull is made of reference entries (elements and competing phases) in a file, which --references makes with the
    same potential; searches of elements serve in their place. Entries of another level of theory are refused without
    --mixed.
    """
    from fuse_flows.errors import ConfigError

    if as_json and as_csv:
        raise ConfigError("json", "cannot be combined with csv; leave one of them out")
    if references is not None:
        make_references(references, _tier(tier, config), entries)
    if not searches:
        if references is None:
            raise ConfigError("search", "is missing; name the searches, or make entries with --references FOLDER")
        return
    from fuse_flows.analysis.hull import best_entries, hull_diagram, hull_figure, hull_rows, with_elements
    from fuse_flows.store.connection import connect
    from fuse_flows.store.search import Search

    connection = connect(launchpad)
    found = [Search(name, connection) for name in searches]
    best = best_entries(found)
    known = with_elements(_references(found, entries, materials_project=materials_project, mixed=mixed), best)
    rows = hull_rows(best, known)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif as_csv:
        _write_csv(rows)
    else:
        _print(rows)
    if picture is not None:
        try:
            hull_figure(hull_diagram(best, known), rows[0]["level"]).savefig(picture, dpi=150, bbox_inches="tight")
        except (OSError, ValueError) as error:
            raise ConfigError("picture", f"{picture} cannot be written ({error})") from error
        typer.echo(f"wrote {picture}", err=True)


def make_references(folder: Path, tier: TierConfig, output: Path) -> None:
    """Relax the structures of a folder, and write them as entries; those that the file has already are kept.

    Parameters
    ----------
    folder
        Files of structures.
    tier
        What relaxes them.
    output
        The file of entries.

    Raises
    ------
    ConfigError
        If the folder has no structure, or the file cannot be used.
    """
    from fuse_flows.relax.hull import ReferenceEntries, level_of, level_of_tier, read_references
    from fuse_flows.relax.references import relax_references

    known = read_references(output).entries if output.exists() else ()
    done = {str(entry.entry_id) for entry in known if level_of(entry) == level_of_tier(tier)}
    for name, structure in structures_of(folder):
        if name in done:
            continue
        made, failed = relax_references([(name, structure)], tier)
        known = (*known, *made)
        for entry in made:
            console.print(f"{name}: {escape(entry.composition.reduced_formula)} {entry.energy_per_atom:.5f} eV/atom")
        for result in failed.values():
            console.print(f"{name}: {result.outcome} {escape(result.reason)}; it is left out")
        if made:
            ReferenceEntries(known).write(output)
    console.print(f"{output} has {len(known)} entries")


def structures_of(folder: Path) -> list[tuple[str, Structure]]:
    """Read the ordered structures of a folder.

    Parameters
    ----------
    folder
        CIF, POSCAR and extended XYZ files, and what else pymatgen recognises by name.

    Returns
    -------
    list of tuple
        Name of the file (with the number where it holds several) and structure; files that cannot be read or are
        disordered are told and left out.

    Raises
    ------
    ConfigError
        If there is none.
    """
    from fuse_flows.errors import ConfigError

    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        structures = _structures_of_file(path)
        for place, structure in enumerate(structures, start=1):
            name = path.name if len(structures) == 1 else f"{path.name}#{place}"
            if structure.is_ordered:
                found.append((name, structure))
            else:
                console.print(f"{name} is disordered; it is left out")
    if not found:
        raise ConfigError("references", f"{folder} holds no structure that can be read; give a folder of CIF files")
    return found


def _structures_of_file(path: Path) -> list[Structure]:
    """Read a file as a search reads its pool, or as pymatgen does; none if it cannot be read, which is told."""
    from pymatgen.core import Structure

    from fuse_flows.generators.files import SkipReason, read_file

    found = read_file(path)
    if isinstance(found, list):
        return found
    reason = str(found)
    if found is SkipReason.UNKNOWN_FORMAT:
        try:
            return [Structure.from_file(path)]
        except Exception as error:  # noqa: BLE001 - parsers raise whatever they meet
            reason = " ".join(str(error).split())[:100]
    console.print(f"{path.name} cannot be read ({escape(reason)})")
    return []


def _tier(calculator: str, config: Path | None) -> TierConfig:
    """Return the tier that relaxes references, its options written out as in a search, so that the levels agree."""
    from fuse_flows.config import load_config
    from fuse_flows.relax.written import with_tiers_written_out

    tiers: dict[str, Any] = {"tiers": [{"calculator": calculator}]} if config is None else {}
    return with_tiers_written_out(load_config(config, formula="H", **tiers)).tiers[-1]


def _references(found: list[Search], entries: Path, *, materials_project: bool, mixed: bool) -> ReferenceEntries:
    """Return the entries that were asked for; none if there is no file and searches of all elements are named."""
    from fuse_flows.relax.hull import ReferenceEntries, fetch_references, read_references

    elements = {element for search in found for element in search.config.counts}
    if materials_project:
        return fetch_references(elements, mixed=mixed)
    searched = {element for search in found if len(search.config.counts) == 1 for element in search.config.counts}
    if entries == DEFAULT_FILE and not entries.exists() and searched == elements:
        return ReferenceEntries((), "the searches", mixed=mixed)
    return read_references(entries, mixed=mixed)


def _write_csv(rows: list[dict[str, Any]]) -> None:
    from fuse_flows.analysis.hull import HULL_COLUMNS

    writer = csv.DictWriter(sys.stdout, HULL_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        console.print("none of the searches has a structure with an energy yet")
        return
    console.print(f"energies in eV/atom, level: {rows[0]['level']}", markup=False)
    shown = table("formula", "eV/atom", "above hull", "above references", "space group", "atoms", "or", "candidate")
    for row in rows:
        numbers = (f"{row['energy_per_atom']:.4f}", f"{row['e_above_hull']:.4f}", f"{row['above_references']:+.4f}")
        texts = (str(row["space_group"]), str(row["n_atoms"]), row["decomposition"], row["candidate_id"])
        shown.add_row(row["formula"], *numbers, *map(escape, texts))
    console.print(shown)
