"""The report of a search: one page that needs nothing but a browser.

Everything that comes from the database is text to be escaped: the template engine escapes all it prints, data for the
script travel as JSON, and the page forbids its browser to run any script but the two it was written with and to load
anything from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import fuse_flows
from fuse_flows.analysis.export import search_figures
from fuse_flows.analysis.formats import cif_of, file_stem, structure_of
from fuse_flows.analysis.powder import powder_figure, powder_pattern
from fuse_flows.analysis.tables import best_rows
from fuse_flows.store.queries import candidate_rows
from fuse_flows.store.searches import search_document
from fuse_flows.structures.primitive import SYMPREC_LOOSE

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from jinja2 import Environment
    from matplotlib.figure import Figure
    from pymatgen.core import Structure

    from fuse_flows.relax.hull import ReferenceEntries
    from fuse_flows.store.search import Search

ROWS = 50
"""Rows of the table of minima."""
_DATA = files("fuse_flows") / "data"
_BOUNDARY = 1e-3  # atoms this near to a face of the cell, in fractions of the edge, are drawn on the opposite one, too


def write_report(file: Path, search: Search, top: int = 8, hull: ReferenceEntries | None = None) -> Path:
    """Write the report of a search.

    Parameters
    ----------
    file
        The page; it is replaced.
    search
        The search.
    top
        How many minima are shown in three dimensions and with their powder patterns.
    hull
        Reference entries; with them the table has the energy above their hull.

    Returns
    -------
    pathlib.Path
        The page.
    """
    text = report_html(search, top, hull)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8", newline="\n")
    return file


def report_html(search: Search, top: int = 8, hull: ReferenceEntries | None = None) -> str:
    """Return the report of a search as an HTML page without references to anything outside.

    Parameters
    ----------
    search
        The search.
    top
        How many minima are shown in three dimensions and with their powder patterns.
    hull
        Reference entries; with them the table has the energy above their hull.

    Returns
    -------
    str
        The page, 0.6 MB and about 50 kB for each structure shown.
    """
    minima = search.unique() if hull is None else search.above_hull(search.unique(), hull)
    rows = best_rows(minima[:ROWS])
    shown = [_shown(doc) for doc in minima[:top]]
    tiers = search.tiers()
    viewer, script = _text("3dmol/3Dmol-min.js"), _text("report/report.js")
    found = candidate_rows(search.connection, search.search_id, ["fuse_flows_version"])
    return (
        _environment()
        .from_string(_text("report/report.html.j2"))
        .render(
            policy=_policy(viewer, script),
            style=_text("report/report.css"),
            viewer=viewer,
            script=script,
            licence=_text("3dmol/LICENSE"),
            search=search_document(search.connection, search.search_id),
            configuration=search.config.to_yaml(),
            version=fuse_flows.__version__,
            versions=sorted({row["fuse_flows_version"] for row in found}),
            span=search.span(),
            symprec=SYMPREC_LOOSE,
            n_minima=len(minima),
            rows=rows,
            cards=[
                _card(rank, doc, cells) for rank, (doc, cells) in enumerate(zip(minima, shown, strict=False), start=1)
            ],
            structures=[{name: _drawn(cell) for name, cell in cells.items()} for cells in shown],
            pictures=[{"title": title, "source": svg_uri(made)} for title, made in search_figures(search).values()],
            tiers=_tier_rows(tiers),
            seconds=float(tiers["seconds"].sum()),
        )
    )


def svg_uri(figure: Figure) -> str:
    """Return a figure as the address of an SVG image that holds itself; no script in it can run.

    Parameters
    ----------
    figure
        The figure.

    Returns
    -------
    str
        A ``data:`` address.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", dpi=150, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.getvalue()).decode()}"


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def _text(name: str) -> str:
    return (_DATA / name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """Return the Content-Security-Policy: these scripts, images within the page, and nothing else."""
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    others = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {others}"


def _shown(doc: dict[str, Any]) -> dict[str, Structure]:
    """Return the cells in which a candidate is shown: as it was relaxed and, where symmetry is found, standard."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    structure = structure_of(doc)
    try:
        conventional = SpacegroupAnalyzer(structure, symprec=SYMPREC_LOOSE).get_conventional_standard_structure()
    except SymmetryUndeterminedError:
        return {"relaxed": structure}
    return {"relaxed": structure, "conventional": conventional}


def _card(rank: int, doc: dict[str, Any], cells: dict[str, Structure]) -> dict[str, Any]:
    """Return what the page says of one of the best structures."""
    cif = cif_of(doc)
    return {
        "row": doc,
        "name": file_stem(rank, doc),
        "has_conventional": "conventional" in cells,
        "cell": cells["relaxed"].lattice.parameters,
        "cif": cif,
        "cif_base64": base64.b64encode(cif.encode()).decode(),
        "powder": svg_uri(powder_figure(powder_pattern(cells.get("conventional", cells["relaxed"])))),
    }


def _drawn(cell: Structure) -> dict[str, Any]:
    """Return a cell as the viewer takes it: lattice (A), and atoms with their images on opposite faces as XYZ file."""
    import numpy as np

    lines = []
    for site in cell:
        inside = np.mod(site.frac_coords, 1.0)
        inside[inside > 1.0 - _BOUNDARY] -= 1.0
        shifts = [(0, 1) if abs(value) < _BOUNDARY else (0,) for value in inside]
        for shift in np.stack(np.meshgrid(*shifts, indexing="ij"), axis=-1).reshape(-1, 3):
            place = cell.lattice.get_cartesian_coords(inside + shift)
            lines.append(f"{site.specie.symbol} " + " ".join(f"{value:.4f}" for value in place))
    return {"lattice": cell.lattice.matrix.round(6).tolist(), "xyz": "\n".join([str(len(lines)), "", *lines])}


def _tier_rows(tiers: pd.DataFrame) -> list[dict[str, Any]]:
    """Return structures, steps and seconds by tier, version and outcome."""
    keys = ["tier", "calculator", "calculator_version", "outcome"]
    found = tiers.groupby(keys, sort=True).agg(
        structures=("seconds", "size"), steps=("steps", "sum"), seconds=("seconds", "sum")
    )
    return found.reset_index().to_dict("records")
