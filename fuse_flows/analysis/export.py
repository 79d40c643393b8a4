"""Results as files: the best structures as CIF, all energies as CSV, and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.analysis.costs import cost_figure, moves_figure
from fuse_flows.analysis.formats import cif_of, file_stem
from fuse_flows.analysis.pictures import energy_figure, volume_figure, walkers_figure
from fuse_flows.analysis.tables import candidate_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from fuse_flows.store.search import Search


def write_results(
    folder: Path, candidates: Sequence[dict[str, Any]], best: Sequence[dict[str, Any]], title: str = ""
) -> list[Path]:
    """Write the results of a search into a folder.

    Parameters
    ----------
    folder
        Created if it does not exist; files of an earlier call are overwritten.
    candidates
        All candidate documents.
    best
        The candidates to write as CIF, best first.
    title
        Title of the picture.

    Returns
    -------
    list of pathlib.Path
        ``energies.csv``, ``energies.png`` and ``best/NN_<formula>_<space group number>_<candidate id>.cif``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frame = candidate_frame(candidates)
    table, picture = folder / "energies.csv", folder / "energies.png"
    frame.to_csv(table, index=False)
    energy_figure(frame, title).savefig(picture, dpi=150)
    return [table, picture, *write_cifs(folder / "best", best)]


def write_cifs(folder: Path, best: Sequence[dict[str, Any]]) -> list[Path]:
    """Write candidates as CIF files in P1, so that each is exactly the structure its energy belongs to.

    Parameters
    ----------
    folder
        Its CIF files are replaced.
    best
        Candidate documents, best first.

    Returns
    -------
    list of pathlib.Path
        One file per candidate, named by rank.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.cif"):
        old.unlink()
    paths = []
    for rank, doc in enumerate(best, start=1):
        paths.append(folder / f"{file_stem(rank, doc)}.cif")
        paths[-1].write_text(cif_of(doc), encoding="utf-8")
    return paths


def search_figures(search: Search) -> dict[str, tuple[str, Figure]]:
    """Draw all pictures of a search.

    Parameters
    ----------
    search
        The search.

    Returns
    -------
    dict
        Name of the file to what the picture shows and the figure.
    """
    frame, name = search.candidates(), search.search_id
    return {
        "energies": ("Energy, source and temperature of every structure; accepted moves", energy_figure(frame, name)),
        "volumes": ("Energy against volume and density", volume_figure(frame, name)),
        "walkers": ("Lowest energy of the walkers", walkers_figure(frame, name)),
        "moves": ("Moves accepted, proposed and failed", moves_figure(search.moves(), name)),
        "costs": ("Seconds and steps of the tiers", cost_figure(search.tiers(), name)),
    }


def write_pictures(folder: Path, search: Search, suffixes: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Write all pictures of a search.

    Parameters
    ----------
    folder
        Created if it does not exist; pictures of the same names are replaced.
    search
        The search.
    suffixes
        Formats.

    Returns
    -------
    list of pathlib.Path
        ``energies``, ``volumes``, ``walkers``, ``moves`` and ``costs`` in each format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (_, figure) in search_figures(search).items():
        for suffix in suffixes:
            paths.append(folder / f"{name}.{suffix}")
            figure.savefig(paths[-1], dpi=150)
    return paths
