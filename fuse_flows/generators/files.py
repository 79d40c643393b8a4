"""Structures that a user brings in a folder: read, checked and counted; the files are never changed."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.generators.pool import PoolMember, dump_members, median_volume, pool_digest
from fuse_flows.generators.twins import TwinFinder
from fuse_flows.structures.composition import CompositionError, FormulaUnit
from fuse_flows.structures.neighbours import shortest_distance

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure

    from fuse_flows.config import SearchConfig

FIELD = "pool.structures"
MAX_BYTES = 1_000_000
"""Largest pool: it is the argument of one job, and lies in the file for ``lpad add``."""


class SkipReason(StrEnum):
    """Why a file, or a structure in it, does not become a member of the pool."""

    UNKNOWN_FORMAT = "unknown format"
    UNREADABLE = "unreadable"
    PARTIAL_OCCUPANCY = "partial occupancy"
    WRONG_COMPOSITION = "wrong composition"
    TOO_LARGE = "too large"
    TOO_CLOSE = "contact too short"
    DUPLICATE = "duplicate"


@dataclass(frozen=True)
class FilePool:
    """What a folder gave.

    Parameters
    ----------
    members
        The accepted structures, by name of the file.
    skipped
        How many structures (or files, where there is no structure to be had) were left out, by reason.
    n_files
        Files in the folder.
    """

    members: tuple[PoolMember, ...] = ()
    skipped: dict[SkipReason, int] = field(default_factory=dict)
    n_files: int = 0

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(self.skipped.items()))
        return f"accepted {len(self.members)} structures from {self.n_files} files; skipped: {reasons or 'none'}"


def read_pool(config: SearchConfig) -> tuple[SearchConfig, FilePool]:
    """Read the folder of a search; done once, on the machine that submits it.

    Parameters
    ----------
    config
        The search; ``pool.structures`` names the folder.

    Returns
    -------
    config
        The search with ``pool.digest`` set, by which other structures make another search. If there is no folder, or
        nothing in it can serve, it is a search without a pool.
    pool
        What the folder gave.

    Raises
    ------
    ConfigError
        If the folder cannot be read, holds no file, holds too much, or is no longer what ``pool.digest`` says.
    """
    if config.pool.structures is None:
        if config.pool.digest is not None:
            raise ConfigError(FIELD, "is missing, but pool.digest is there; name the folder or leave out both")
        return config, FilePool()
    folder = Path(config.pool.structures)
    pool = read_folder(folder, config)
    size = len(dump_members(pool.members))
    if size > MAX_BYTES:
        msg = f"{folder}: {len(pool.members)} structures of {size / 1e6:.1f} MB were accepted, but a pool of at most "
        raise ConfigError(FIELD, f"{msg}{MAX_BYTES / 1e6:.0f} MB can travel with the search; bring fewer files")
    digest = pool_digest(pool.members) if pool.members else None
    if config.pool.digest not in (None, digest):
        msg = f"{folder} no longer holds the structures of pool.digest {config.pool.digest}; leave pool.digest out to "
        raise ConfigError(FIELD, f"{msg}begin another search")
    update = {
        "digest": digest,
        "volume": median_volume(pool.members) if config.pool.generate is None else None,
        "structures": config.pool.structures if pool.members else None,
    }
    return config.model_copy(update={"pool": config.pool.model_copy(update=update)}), pool


def read_folder(folder: Path, config: SearchConfig) -> FilePool:
    """Read every CIF, POSCAR and extended XYZ file of a folder, in the order of their names.

    Parameters
    ----------
    folder
        The folder; folders in it and hidden files are left alone.
    config
        Formula, ``max_atoms`` and ``checks.min_distance`` count.

    Returns
    -------
    FilePool
        The accepted structures, and the number of the others by reason.

    Raises
    ------
    ConfigError
        If the folder cannot be read or holds no file.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise ConfigError(FIELD, f"{folder} cannot be read as a folder ({error.strerror})") from error
    if not files:
        raise ConfigError(FIELD, f"{folder} holds no files; put CIF, POSCAR or extended XYZ files there")
    skipped: Counter[SkipReason] = Counter()
    members: list[PoolMember] = []
    twins = TwinFinder()
    formula_unit = FormulaUnit.from_config(config)
    for path in files:
        structures = read_file(path)
        if isinstance(structures, SkipReason):
            skipped[structures] += 1
            continue
        for place, structure in enumerate(structures, start=1):
            reason = refusal(structure, formula_unit, config)
            if reason is None and twins.has_twin(structure):
                reason = SkipReason.DUPLICATE
            if reason is not None:
                skipped[reason] += 1
                continue
            name = path.name if len(structures) == 1 else f"{path.name}#{place}"
            members.append(PoolMember.from_structure(name, structure))
    return FilePool(tuple(members), dict(skipped), len(files))


def read_file(path: Path) -> list[Structure] | SkipReason:
    """Read all structures of one file.

    Parameters
    ----------
    path
        ``*.cif``; ``POSCAR*``, ``CONTCAR*``, ``*.vasp`` or ``*.poscar``; ``*.xyz`` or ``*.extxyz``.

    Returns
    -------
    list of Structure or SkipReason
        The structures, at least one; or why there is none.
    """
    reader = _reader_of(path)
    if reader is None:
        return SkipReason.UNKNOWN_FORMAT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structures = reader(path)
        if structures and all(np.isfinite(s.frac_coords).all() and s.volume > 0 for s in structures):
            return structures
    except Exception:  # noqa: BLE001, S110 - parsers raise anything; what they cannot read is counted
        pass
    return SkipReason.UNREADABLE


def refusal(structure: Structure, formula_unit: FormulaUnit, config: SearchConfig) -> SkipReason | None:
    """Say why a structure cannot serve in a search.

    Parameters
    ----------
    structure
        The structure as it was read.
    formula_unit
        Formula unit of the search.
    config
        The search.

    Returns
    -------
    SkipReason or None
        None if it can.
    """
    from pymatgen.core import Element

    if not structure.is_ordered:
        return SkipReason.PARTIAL_OCCUPANCY
    elements = [getattr(site.specie, "element", site.specie) for site in structure]
    if not all(isinstance(element, Element) for element in elements):
        return SkipReason.WRONG_COMPOSITION
    try:
        formula_unit.count_in([element.Z for element in elements])
    except CompositionError:
        return SkipReason.WRONG_COMPOSITION
    if len(structure) > config.max_atoms:
        return SkipReason.TOO_LARGE
    if shortest_distance(structure.lattice.matrix, structure.frac_coords) < config.checks.min_distance:
        return SkipReason.TOO_CLOSE
    return None


def _reader_of(path: Path) -> Callable[[Path], list[Structure]] | None:
    """Choose by the name of the file."""
    suffix, stem = path.suffix.lower(), path.name.upper()
    if suffix == ".cif":
        return _read_cif
    if suffix in (".xyz", ".extxyz"):
        return _read_extxyz
    if suffix in (".vasp", ".poscar") or stem.startswith(("POSCAR", "CONTCAR")):
        return _read_poscar
    return None


def _read_cif(path: Path) -> list[Structure]:
    from pymatgen.io.cif import CifParser

    return CifParser(path).parse_structures(primitive=False, on_error="raise")


def _read_poscar(path: Path) -> list[Structure]:
    from pymatgen.io.vasp import Poscar

    return [Poscar.from_file(path, check_for_potcar=False).structure]


def _read_extxyz(path: Path) -> list[Structure]:
    from ase.io import read
    from pymatgen.core import Element, Lattice, Structure

    frames = read(path, index=":", format="extxyz")
    if not all(atoms.pbc.all() for atoms in frames):
        raise ValueError("a structure without a periodic cell")
    return [
        Structure(
            Lattice(atoms.cell.array),
            [Element.from_Z(int(number)) for number in atoms.numbers],
            atoms.get_scaled_positions(),
        )
        for atoms in frames
    ]
