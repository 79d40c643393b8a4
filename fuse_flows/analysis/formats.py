"""Structures of candidates in the formats that other programs read.

Every format holds each structure in the cell that its energy belongs to, without symmetry applied, to 1e-8 A or better.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError
from fuse_flows.relax.hull import LEVEL, level_of_tier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms
    from pymatgen.core import Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    from fuse_flows.config import TierConfig


class StructureFormat(StrEnum):
    """How structures are written."""

    CIF = "cif"
    POSCAR = "poscar"
    EXTXYZ = "extxyz"
    ASE = "ase"
    JSON = "json"

    @property
    def is_folder(self) -> bool:
        """Whether there is one file per structure."""
        return self in {StructureFormat.CIF, StructureFormat.POSCAR}

    @property
    def suffix(self) -> str:
        """End of the file's name; empty for a folder."""
        return {"cif": "", "poscar": "", "extxyz": ".extxyz", "ase": ".db", "json": ".json"}[self.value]


def write_structures(
    target: Path, candidates: Sequence[dict[str, Any]], file_format: StructureFormat, tier: TierConfig | None = None
) -> list[Path]:
    """Write the structures of candidates.

    Parameters
    ----------
    target
        A folder for CIF and POSCAR, a file for the others. The folder may be there if it is empty.
    candidates
        Candidate documents with a structure and an energy.
    file_format
        ``cif`` and ``poscar``: one file each, ``NN_<formula>_<space group number>_<candidate id>``. ``extxyz`` and
        ``ase``: one file, or SQLite database, with energy (eV) and origin of each. ``json``: a list of
        pymatgen's ComputedStructureEntry, for :func:`monty.serialization.loadfn` and its phase diagrams.
    tier
        Last tier of the search; entries of ``json`` then name its level and can serve as references of a hull.

    Returns
    -------
    list of pathlib.Path
        The files.

    Raises
    ------
    ConfigError
        If the target is there already.
    """
    if target.exists() and not (file_format.is_folder and target.is_dir() and not any(target.iterdir())):
        raise ConfigError("output", f"{target} exists; name another one, or remove it")
    if file_format.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return [_write_one(target, rank, doc, file_format) for rank, doc in enumerate(candidates, start=1)]
    target.parent.mkdir(parents=True, exist_ok=True)
    if file_format is StructureFormat.EXTXYZ:
        from ase.io import write

        write(target, [atoms_of(doc) for doc in candidates], format="extxyz")
    elif file_format is StructureFormat.ASE:
        _write_database(target, candidates)
    else:
        target.write_text(json.dumps([entry_of(doc, tier).as_dict() for doc in candidates]), encoding="utf-8")
    return [target]


def file_stem(rank: int, doc: dict[str, Any]) -> str:
    """Return the name of a candidate's file without its end; only letters, digits, ``_``, ``-`` and ``.``.

    Parameters
    ----------
    rank
        Its rank, counted from 1.
    doc
        Candidate document.

    Returns
    -------
    str
        ``NN_<formula>_<space group number>_<candidate id>``.
    """
    name = f"{rank:02d}_{doc['formula']}_{doc['space_group_number']}_{doc['candidate_id']}"
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)


def structure_of(doc: dict[str, Any]) -> Structure:
    """Return the relaxed structure of a candidate document."""
    from pymatgen.core import Structure

    return Structure.from_dict(doc["structure"])


def atoms_of(doc: dict[str, Any]) -> Atoms:
    """Return a candidate as Atoms of ASE.

    Parameters
    ----------
    doc
        Candidate document.

    Returns
    -------
    ase.Atoms
        With its energy as the result of a calculator, and its origin in ``info``.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    structure = structure_of(doc)
    atoms = Atoms(
        numbers=[site.specie.Z for site in structure],
        scaled_positions=structure.frac_coords,
        cell=structure.lattice.matrix,
        pbc=True,
        info=_facts(doc),
    )
    atoms.calc = SinglePointCalculator(atoms, energy=doc["energy"])
    return atoms


def entry_of(doc: dict[str, Any], tier: TierConfig | None = None) -> ComputedStructureEntry:
    """Return a candidate as an entry of pymatgen, the input of its phase diagrams.

    Parameters
    ----------
    doc
        Candidate document.
    tier
        What relaxed it last; None if that is not known.

    Returns
    -------
    pymatgen.entries.computed_entries.ComputedStructureEntry
        With the energy in eV, the calculator of the last tier and, with ``tier``, its level of theory as parameters,
        and its origin as data. Under pressure there is no level: entries of such a level have enthalpies.
    """
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    level = {} if tier is None or doc.get("pressure") else {LEVEL: level_of_tier(tier)}
    return ComputedStructureEntry(
        structure_of(doc),
        doc["energy"],
        entry_id=doc["candidate_id"],
        parameters={"calculator": doc["tiers"][-1]["calculator"]} | level,
        data=_facts(doc),
    )


def _facts(doc: dict[str, Any]) -> dict[str, str | int | float]:
    """Return what travels with a structure.

    ``candidate`` is the identifier after the name of the search: extended XYZ and ASE's databases take a text that
    looks like a number for one, and 16 hexadecimal digits now and then do.
    """
    facts: dict[str, str | int | float] = {"candidate": f"{doc['search_id']}/{doc['candidate_id']}"}
    if doc.get("pressure"):
        facts |= {"pressure": doc["pressure"], "enthalpy_per_atom": doc["enthalpy_per_atom"]}
    names = ("walker", "step", "source", "move", "space_group_number", "copies")
    return facts | {name: doc[name] for name in names if doc.get(name) is not None}


def _write_one(folder: Path, rank: int, doc: dict[str, Any], file_format: StructureFormat) -> Path:
    path = folder / f"{file_stem(rank, doc)}{'.cif' if file_format is StructureFormat.CIF else '.vasp'}"
    path.write_text(cif_of(doc) if file_format is StructureFormat.CIF else _poscar_of(doc), encoding="utf-8")
    return path


def cif_of(doc: dict[str, Any]) -> str:
    """Return a candidate as a CIF file in P1, so that it is exactly the structure its energy belongs to."""
    from pymatgen.io.cif import CifWriter

    return str(CifWriter(structure_of(doc), significant_figures=12))


def _poscar_of(doc: dict[str, Any]) -> str:
    from pymatgen.io.vasp import Poscar

    comment = " ".join(f"{name}={value}" for name, value in _facts(doc).items())
    structure = structure_of(doc).get_sorted_structure()  # one block per element
    return Poscar(structure, comment=re.sub(r"\s+", " ", comment)).get_str(significant_figures=14)


def _write_database(file: Path, candidates: Sequence[dict[str, Any]]) -> None:
    from ase.db import connect

    with connect(file, type="db") as database:
        for doc in candidates:
            atoms = atoms_of(doc)
            atoms.info = {}  # what a query shall find stands in columns
            database.write(atoms, key_value_pairs=_facts(doc) | {"energy_per_atom": doc["energy_per_atom"]})
