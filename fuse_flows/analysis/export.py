"""Results as files: the best structures as CIF, all energies as CSV, and the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.analysis.pictures import energy_figure
from fuse_flows.analysis.tables import candidate_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifWriter

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.cif"):
        old.unlink()
    paths = []
    for rank, doc in enumerate(best, start=1):
        name = f"{rank:02d}_{doc['formula']}_{doc['space_group_number']}_{doc['candidate_id']}.cif"
        structure = Structure.from_dict(doc["structure"])
        paths.append(folder / name)
        CifWriter(structure).write_file(paths[-1])
    return paths
