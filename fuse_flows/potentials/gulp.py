"""Pair potentials in the files of GULP: a ``.lib`` with all pairs, or a folder of ``A-B.POT`` files.

The folder may be flat or hold a folder for each pair (``SR-TI/SR-TI.POT``), the layout that the library of statistical
proxy potentials has (Antypov et al., ChemPhysChem 2024, 10.1002/cphc.202400254) and FUSE2 expects.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.gulp_format import PairTable, format_spline, parse_splines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Pair = tuple[str, str]

#: Largest grid that tables of different spacings are brought to.
_MOST_POINTS = 20001


def read_gulp_library(
    path: str | Path, elements: Iterable[str] | None = None
) -> tuple[np.ndarray, dict[Pair, np.ndarray]]:
    """Read pair potentials from a GULP library.

    Tables that share one uniform grid are returned as they are. Others are brought to one by cubic splines through
    their points (GULP's own default, the rational spline, passes through the same points): from the smallest
    distance of any table to the largest, at the finest spacing. Below its first point a table goes on as a straight
    line that never falls inwards, above its last point it is zero. Nothing is tapered; what ``cutp`` does in GULP is
    not part of a library.

    Parameters
    ----------
    path
        A file with spline sections, or a folder of ``A-B.POT`` files, each in a folder of the same name or not.
    elements
        Symbols; all pairs of these must be there, and only these are read. None: everything is read.

    Returns
    -------
    r : numpy.ndarray
        (n_grid,) uniform grid, A.
    values : dict
        Sorted pair of symbols to (n_grid,) energies, eV; each pair counts once.

    Raises
    ------
    ConfigError
        If a pair is missing, stands in two places with different numbers, or a file is malformed; the message names
        the file and, where there is one, the line.
    """
    path = Path(path).expanduser()
    wanted = None if elements is None else _pairs(elements)
    tables = _read_folder(path, wanted) if path.is_dir() else _read_file(path, wanted)
    r = _common_grid(list(tables.values()))
    return r, {pair: _on_grid(table, r) for pair, table in sorted(tables.items())}


def write_gulp_library(path: str | Path, r: np.ndarray, values: Mapping[Pair, np.ndarray]) -> None:
    """Write pair potentials as GULP's cubic splines, each pair once.

    Parameters
    ----------
    path
        A name with an ending such as ``spp.lib`` becomes one file; any other a folder with ``A-B/A-B.POT`` in upper
        case. Files that are there are replaced.
    r
        (n_grid,) uniform grid, A.
    values
        Pair of symbols to (n_grid,) energies, eV.

    Raises
    ------
    ConfigError
        If a table does not fit the grid, is not finite, or a pair is given in both orders.
    """
    path = Path(path).expanduser()
    sections: dict[Pair, str] = {}
    for pair, energies in sorted(values.items()):
        if np.shape(energies) != np.shape(r) or not np.isfinite(energies).all():
            raise ConfigError("library", f"the table of {'-'.join(pair)} must be {np.shape(r)} finite numbers")
        if pair[::-1] in sections and pair not in sections:
            raise ConfigError("library", f"{'-'.join(pair)} is given in both orders; give each pair once")
        sections[pair] = format_spline(pair, r, energies)
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(sections.values()), encoding="utf-8")
        return
    for pair, section in sections.items():
        name = "-".join(pair).upper()
        (path / name).mkdir(parents=True, exist_ok=True)
        (path / name / f"{name}.POT").write_text(section, encoding="utf-8")


def _pairs(elements: Iterable[str]) -> list[Pair]:
    return [(a, b) for a, b in combinations_with_replacement(sorted(set(elements)), 2)]


def _read_file(path: Path, wanted: list[Pair] | None) -> dict[Pair, PairTable]:
    if not path.exists():
        raise ConfigError("library", f"{path} does not exist; give a .lib file or a folder of A-B.POT files")
    tables = _once(parse_splines(path))
    missing = [] if wanted is None else ["-".join(pair) for pair in wanted if pair not in tables]
    if missing:
        raise ConfigError("library", f"{path} has no table of {', '.join(missing)}")
    return tables if wanted is None else {pair: tables[pair] for pair in wanted}


def _read_folder(path: Path, wanted: list[Pair] | None) -> dict[Pair, PairTable]:
    files = _pot_files(path)
    if not files:
        raise ConfigError("library", f"{path} holds no file A-B.POT, neither itself nor in folders A-B")
    missing = [] if wanted is None else [pair for pair in wanted if pair not in files]
    if missing:
        names = ", ".join("-".join(pair).upper() for pair in missing)
        example = f"{names.split(',')[0]}.POT"
        raise ConfigError("library", f"{path} lacks the pair files of {names} (looked for {example} in either order)")
    tables: list[PairTable] = []
    for pair in files if wanted is None else wanted:
        for file in files[pair]:
            found = parse_splines(file)
            strangers = {table.pair for table in found} - {pair}
            if strangers:
                names = ", ".join("-".join(stranger) for stranger in sorted(strangers))
                raise ConfigError("library", f"{file} holds a table of {names}, which its name does not say")
            tables += found
    return _once(tables)


def _pot_files(folder: Path) -> dict[Pair, list[Path]]:
    """Pair files by sorted pair, both orders and both layouts, whatever the case of their names."""
    from pymatgen.core import Element

    files: dict[Pair, list[Path]] = {}
    for file in sorted([*folder.glob("*.*"), *folder.glob("*/*.*")]):
        symbols = [symbol.capitalize() for symbol in file.stem.split("-")]
        nested = file.parent != folder
        if file.suffix.upper() != ".POT" or (nested and file.parent.name.upper() != file.stem.upper()):
            continue
        if len(symbols) == 2 and all(Element.is_valid_symbol(symbol) for symbol in symbols):
            files.setdefault((min(symbols), max(symbols)), []).append(file)
    return files


def _once(tables: list[PairTable]) -> dict[Pair, PairTable]:
    """Tables by pair; a pair that occurs again must agree, and still counts once."""
    by_pair: dict[Pair, PairTable] = {}
    for table in tables:
        first = by_pair.setdefault(table.pair, table)
        if not table.agrees(first):
            msg = f"{'-'.join(table.pair)} has different tables at {first.source} and {table.source}; remove one"
            raise ConfigError("library", msg)
    return by_pair


def _common_grid(tables: list[PairTable]) -> np.ndarray:
    """Take the grid that all share, or one that is fine and long enough for all."""
    first = tables[0].distances
    if all(t.distances.shape == first.shape and np.abs(t.distances - first).max() < 1e-7 for t in tables):
        r = np.linspace(first[0], first[-1], len(first))
        if np.abs(r - first).max() < 1e-6:
            return r
    start = min(float(t.distances[0]) for t in tables)
    stop = max(float(t.distances[-1]) for t in tables)
    step = min(float(np.median(np.diff(t.distances))) for t in tables)
    n = min(round((stop - start) / step) + 1, _MOST_POINTS)
    return np.linspace(start, stop, n)


def _on_grid(table: PairTable, r: np.ndarray) -> np.ndarray:
    """Bring a table to a grid; the same numbers if it lies on it already."""
    from scipy.interpolate import CubicSpline

    distances, energies = table.distances, table.energies
    if len(distances) == len(r) and np.abs(distances - r).max() < 1e-6:
        return energies.copy()
    spline = CubicSpline(distances, energies)
    slope = min(float(spline(distances[0], 1)), 0.0)
    result = np.where(r < distances[0], energies[0] + slope * (r - distances[0]), spline(r))
    return np.where(r > distances[-1] + 1e-9, 0.0, result)
