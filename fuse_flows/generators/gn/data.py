"""Crystals with formation energies: read, split, and made into graphs."""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from ase.data import atomic_numbers

from fuse_flows.errors import ConfigError
from fuse_flows.generators.base import Cell
from fuse_flows.generators.gn.graphs import CUTOFF, GraphSet, build_graphs
from fuse_flows.potentials.crystals import split_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from fuse_flows.potentials.crystals import Split

    Indices = NDArray[np.int64]

_XZ = b"\xfd7zXZ"
#: Highest formation energy to be learnt, eV/atom: above it, a cell is just bad.
CEILING = 3.0
_ELEMENTS = 119


@dataclass(frozen=True)
class LabelledSet:
    """Crystals with formation energies.

    Attributes
    ----------
    graphs
        Their graphs.
    composition
        Fraction of each atomic number, shape (n, 119).
    energies
        Formation energies, eV/atom, shape (n,).
    weights
        Weights in the loss, shape (n,).
    parts
        The part of :func:`~fuse_flows.potentials.crystals.split_of` that each belongs to.
    names
        Identifiers.
    off_equilibrium
        Shape (n,): whether the crystal comes from a set of compressed, hot or random cells.
    """

    graphs: GraphSet
    composition: NDArray[np.float32]
    energies: NDArray[np.float32]
    weights: NDArray[np.float32]
    parts: NDArray[np.str_]
    names: tuple[str, ...]
    off_equilibrium: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)

    def indices(self, part: Split, *, off_equilibrium: bool | None = False, edges: int | None = None) -> Indices:
        """Return the indices of the usable crystals of one part.

        Parameters
        ----------
        part
            The part.
        off_equilibrium
            Only those (True), all but those (False), or both (None).
        edges
            Leave out larger graphs.
        """
        chosen = (self.parts == part) & self.graphs.fine
        if off_equilibrium is not None:
            chosen &= self.off_equilibrium == off_equilibrium
        if edges is not None:
            chosen &= self.graphs.sizes <= edges
        return np.flatnonzero(chosen)

    def elements(self, chosen: Indices) -> list[int]:
        """Return the atomic numbers that occur among some crystals."""
        return [int(z) for z in np.flatnonzero(self.composition[chosen].any(axis=0))]


def composition_of(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the fraction of each atomic number in a cell, shape (119,)."""
    return (np.bincount(numbers, minlength=_ELEMENTS) / len(numbers)).astype(np.float32)


def read_labelled(
    files: Sequence[Path],
    off_equilibrium: Sequence[Path] = (),
    *,
    cutoff: float = CUTOFF,
    off_weight: float = 0.5,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> LabelledSet:
    """Read crystals with formation energies from files of JSON lines (may be ``.xz``).

    Parameters
    ----------
    files
        Files with ``lattice``, ``species``, ``frac_coords`` and ``formation_energy_per_atom`` (eV/atom) per line;
        ``id`` is used if there, and lines whose energy is null are left out.
    off_equilibrium
        Files of the same kind with compressed, hot or random cells: they are learnt, too, but not counted in errors.
    cutoff
        Longest edge, A.
    off_weight
        Weight of the off-equilibrium cells in the loss.
    limit
        Read at most so many crystals of each file.
    progress
        Called with the number of crystals read so far, now and then.

    Returns
    -------
    LabelledSet
        Energies are cut at :data:`CEILING`.

    Raises
    ------
    ConfigError
        If a file is missing or a line lacks what is needed.
    """
    rows: list[tuple[str, float, bool]] = []
    parts: list[str] = []
    compositions: list[NDArray[np.float32]] = []

    def cells() -> Iterator[Cell]:
        for path in (*files, *off_equilibrium):
            off = path not in files
            for number, (symbols, cell, energy, name) in enumerate(_labelled(Path(path))):
                if limit is not None and number >= limit:
                    break
                rows.append((name, min(energy, CEILING), off))
                parts.append(split_of(symbols))
                compositions.append(composition_of(cell.numbers))
                yield cell

    graphs = build_graphs(cells(), cutoff=cutoff, progress=progress)
    off = np.array([row[2] for row in rows], dtype=bool)
    return LabelledSet(
        graphs=graphs,
        composition=np.stack(compositions) if rows else np.zeros((0, _ELEMENTS), np.float32),
        energies=np.array([row[1] for row in rows], dtype=np.float32),
        weights=np.where(off, off_weight, 1.0).astype(np.float32),
        parts=np.array(parts),
        names=tuple(row[0] for row in rows),
        off_equilibrium=off,
    )


def _labelled(path: Path) -> Iterator[tuple[list[str], Cell, float, str]]:
    """Yield symbols, cell, energy and name of each line."""
    if not path.is_file():
        raise ConfigError("data", f"there is no file {path}; give files of JSON lines")
    with path.open("rb") as raw:
        packed = raw.read(5) == _XZ
    with cast("IO[str]", lzma.open(path, "rt") if packed else path.open(encoding="utf-8")) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record: dict[str, Any] = json.loads(line)
                symbols = record["species"]
                cell = Cell(
                    np.asarray(record["lattice"], dtype=np.float64).reshape(3, 3),
                    np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64),
                    np.asarray(record["frac_coords"], dtype=np.float64).reshape(len(symbols), 3),
                )
                if (energy := record["formation_energy_per_atom"]) is None:
                    continue
                energy = float(energy)
            except (ValueError, TypeError, KeyError) as error:
                keys = "lattice, species, frac_coords and formation_energy_per_atom"
                raise ConfigError(
                    "data", f"line {number} of {path} is no JSON object with {keys} ({error!r})"
                ) from error
            yield symbols, cell, energy, str(record.get("id", number))
