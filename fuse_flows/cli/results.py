"""The command that shows the results of a search."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from fuse_flows.cli.console import console, table
from fuse_flows.cli.options import HullFile, LaunchPadFile, Mixed, SearchName, SpaceGroup, Within

if TYPE_CHECKING:
    from pathlib import Path

    from fuse_flows.store.connection import Connection

TOP = 10
MOST_ROWS = 200
"""Rows of a table that was not asked to have more: nobody reads thousands, and rich takes a millisecond for each."""


def results(
    search: SearchName,
    top: Annotated[
        int | None,
        typer.Option(min=1, help=f"How many; default: {TOP}; with --within {MOST_ROWS} in a table, else all of them."),
    ] = None,
    *,
    unique: Annotated[
        bool,
        typer.Option("--unique/--all", help="One row per minimum with the number of its copies, or every candidate."),
    ] = True,
    within: Within = None,
    space_group: SpaceGroup = None,
    outcome: Annotated[
        str | None, typer.Option(help="Candidates whose relaxation ended so, such as not-converged, with the reason.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The candidate documents as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The table as CSV.")] = False,
    hull: HullFile = None,
    mixed: Mixed = False,
    launchpad: LaunchPadFile = None,
) -> None:
    """Show the best structures of a search, or the candidates that failed in some way."""
    from fuse_flows.analysis.tables import best_rows, failed_rows
    from fuse_flows.errors import ConfigError
    from fuse_flows.relax.hull import read_references
    from fuse_flows.store.connection import connect
    from fuse_flows.store.pools import pool_summary
    from fuse_flows.store.search import Search
    from fuse_flows.store.selection import outcome_of

    if as_json and as_csv:
        raise ConfigError("json", "cannot be combined with csv; leave one of them out")
    lowest = None
    ended = None if outcome is None else outcome_of(outcome)
    failed = ended is not None and not ended.is_success
    if failed and (within is not None or space_group is not None):
        raise ConfigError(
            "outcome", f"{ended} has neither energy nor space group; leave out --within and --space-group"
        )
    found = Search(search, connect(launchpad))
    shortened = within is not None and top is None and not (as_json or as_csv)
    number = top or (TOP if within is None else MOST_ROWS + 1 if shortened else None)
    if failed:
        chosen = found.candidates(documents=True, outcome=outcome)[:number]
    else:
        choose = found.unique if unique else found.best
        lowest = next((doc["enthalpy_per_atom"] for doc in found.best(1)), None)
        chosen = choose(number if ended is None else None, within=within, space_group=space_group)
        if ended is not None:
            chosen = [doc for doc in chosen if doc["outcome"] == ended][:number]
        if hull is not None:
            chosen = found.above_hull(chosen, read_references(hull, mixed=mixed))
    if as_json:
        typer.echo(json.dumps(chosen, indent=1))
    elif as_csv:
        _write_csv(failed_rows(chosen) if failed else best_rows(chosen, lowest))
    elif failed or (ended is not None and not chosen):
        _print_failed(failed_rows(chosen), f"{found.search_id} with the outcome {ended}")
    else:
        _print_best(chosen[:MOST_ROWS] if shortened else chosen, found.search_id, lowest, unique=unique)
        if shortened and len(chosen) > MOST_ROWS:
            console.print(
                f"and more than these {MOST_ROWS}: --top shows as many as you like, --csv or --json all of them"
            )
        print_fallback(pool_summary(found.connection, found.search_id))


def show_and_write(connection: Connection, search_id: str, folder: Path) -> None:
    """Print the best structures and write them, the energies and the picture into a folder.

    Parameters
    ----------
    connection
        The database.
    search_id
        The search.
    folder
        Where the files go.
    """
    from fuse_flows.analysis.export import write_results
    from fuse_flows.store.pools import pool_summary
    from fuse_flows.store.queries import best_candidates, candidates
    from fuse_flows.store.searches import search_document

    search = search_document(connection, search_id)
    best = best_candidates(connection, search_id, TOP, unique=True)
    console.print(f"{search.status}: {search.stop_reason or 'more to do'}; {counts_in_words(search.outcomes)}")
    _print_best(best, search_id)
    if not best and search.outcomes:
        most = max(search.outcomes, key=lambda name: search.outcomes[name]).lower().replace("_", "-")
        console.print(f"the reasons: fuse-flows results {search_id} --outcome {most}", soft_wrap=True)
    print_fallback(pool_summary(connection, search_id))
    write_results(folder, candidates(connection, search_id), best, title=search_id)
    console.print(f"wrote {len(best)} CIF files, energies.csv and energies.png into {folder}")


def _write_csv(rows: list[dict[str, Any]]) -> None:
    import csv
    import sys

    writer = csv.DictWriter(sys.stdout, list(rows[0]) if rows else ["candidate_id"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _print_failed(found: list[dict[str, Any]], what: str) -> None:
    if not found:
        console.print(f"there is no candidate of {what}")
        return
    rows = table("candidate", "walker", "step", "origin", "tier", "last eV/atom", "reason")
    for row in found:
        energy = "" if row["enthalpy_per_atom"] is None else f"{row['enthalpy_per_atom']:.4f}"
        texts = (row["candidate_id"], str(row["walker"]), str(row["step"]), row["origin"], row["tier"], energy)
        rows.add_row(*map(escape, (*texts, row["reason"])))
    console.print(rows)


def _print_best(
    best: list[dict[str, Any]], search_id: str, lowest: float | None = None, *, unique: bool = True
) -> None:
    from fuse_flows.analysis.tables import best_rows

    if not best and lowest is not None:
        console.print(f"no structure of {search_id} that relaxed successfully passes these filters")
        return
    if not best:
        console.print(f"no structure of {search_id} has relaxed successfully yet")
        return
    found = best_rows(best, lowest)
    columns = ("rank", "eV/atom", "+meV", "f.u.", "atoms", "space group", "g/cm3", "origin", "step", "candidate")
    hull = ["eV/atom above hull"] if "hull_level" in found[0] else []
    rows = table(*columns, *(["copies"] if unique else []), *hull)
    if found[0]["pressure"]:
        console.print(f"enthalpies at {found[0]['pressure']:g} GPa")
    for row in found:
        rows.add_row(
            str(row["rank"]),
            f"{row['enthalpy_per_atom']:.4f}",
            f"{row['above_best_mev']:.1f}",
            str(row["formula_units"]),
            str(row["n_atoms"]),
            f"{row['space_group']} ({row['space_group_number']})",
            f"{row['density']:.2f}",
            escape(row["origin"]),
            str(row["step"]),
            row["candidate_id"],
            *([str(row["copies"])] if unique else []),
            *([f"{row['e_above_hull']:+.4f}"] if hull else []),
        )
    console.print(rows)
    if hull:
        console.print(f"hull: energies of {found[0]['hull_level']}", markup=False)


def generation_lines(summaries: list[dict[str, Any]]) -> list[str]:
    """Say what came of generating structures, one line for each number of formula units.

    Parameters
    ----------
    summaries
        :class:`.GenerationSummary` documents as plain values.

    Returns
    -------
    list of str
        The lines.
    """
    return [
        f"{summary['formula_units']} f.u.: {summary['kept']} kept of {summary['evaluated']} evaluated; "
        + (summary["reason"] or f"rejected: {counts_in_words(summary['rejected'])}")
        for summary in summaries
    ]


def print_fallback(pool: dict[str, Any] | None) -> None:
    """Say that the random assembler took the place of a generator, if it did."""
    if pool is not None and "fallback" in pool:
        console.print(f"nothing was generated, so the random assembler made the first population: {pool['fallback']}")


def counts_in_words(numbers: dict[str, int]) -> str:
    """Return counts by name in words, such as "CONVERGED 3, FAILED 1"."""
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items())) or "none"
