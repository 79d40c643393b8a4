"""Generated structures as files: CIFs that a search, or anything else, can read, and a table."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fuse_flows.generators.pool import PoolMember

TABLE = "energies.csv"
_SYMPREC = 0.01


def write_members(folder: Path, members: Sequence[PoolMember], formula: str, atoms_per_unit: int) -> list[Path]:
    """Write members of a pool as CIF files in P1, named by rank, and a table of them.

    Parameters
    ----------
    folder
        Created if it does not exist.
    members
        The members, best first.
    formula
        Formula unit, for the names of the files.
    atoms_per_unit
        Atoms of one formula unit.

    Returns
    -------
    list of pathlib.Path
        The CIF files, in the order of the members; beside them lies ``energies.csv``.

    Raises
    ------
    ConfigError
        If the folder holds CIF files already, or cannot be written to.
    """
    from pymatgen.io.cif import CifWriter

    files: list[Path] = []
    rows: list[dict[str, Any]] = []
    digits = len(str(len(members)))
    prepare(folder)
    for rank, member in enumerate(members, start=1):
        structure = member.to_structure()
        units = len(member) // atoms_per_unit
        files.append(folder / f"{rank:0{digits}d}_{formula}_{units}.cif")
        CifWriter(structure).write_file(files[-1])
        rows.append(
            {
                "file": files[-1].name,
                "formula_units": units,
                "n_atoms": len(member),
                "predicted_energy_per_atom": member.energy_per_atom,
                "volume_per_atom": round(structure.volume / len(member), 4),
                "space_group_number": structure.get_space_group_info(symprec=_SYMPREC)[1],
                "name": member.name,
            }
        )
    if rows:
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return files


def prepare(folder: Path) -> None:
    """Create a folder for generated structures.

    Raises
    ------
    ConfigError
        If it cannot be created, or holds CIF files, which would be mixed up with the new ones.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.glob("*.cif"))
    except OSError as error:
        raise ConfigError("output", f"{folder} cannot be created ({error.strerror})") from error
    if taken:
        raise ConfigError("output", f"{folder} holds CIF files already; name another folder")
