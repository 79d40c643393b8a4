"""Cells with energies, forces and virials from a better method than pair potentials, in one small file.

The file is a compressed ``.npz`` without pickled objects. Numbers are rounded: fractional coordinates to 1/65536, cells
and energies to single precision, forces and virials to half precision: far below what pair potentials can tell.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_STEPS = 65536
_KEYS = ("sizes", "ways", "numbers", "frac", "cells", "energies", "forces", "virials", "about")


@dataclass(frozen=True)
class LabelledCells:
    """Cells in flat arrays.

    Attributes
    ----------
    offsets
        Shape (n + 1,): atoms of cell s are ``offsets[s]:offsets[s + 1]``.
    ways
        Cells of the same number have the same atoms and lie on one way downhill, shape (n,).
    numbers
        Atomic numbers, shape (atoms,).
    frac
        Fractional coordinates, shape (atoms, 3).
    cells
        Lattices in angstrom, shape (n, 3, 3).
    energies
        Total energies in eV, shape (n,).
    forces
        eV/A, shape (atoms, 3).
    virials
        Derivatives of the energy with respect to strain in eV, shape (n, 3, 3).
    about
        Where the labels come from.
    """

    offsets: NDArray[np.int64]
    ways: NDArray[np.int64]
    numbers: NDArray[np.int64]
    frac: NDArray[np.float64]
    cells: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64]
    about: str = ""

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Atoms per cell, shape (n,)."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, rows: Sequence[tuple[Any, ...]], about: str = "") -> LabelledCells:
        """Make a set of rows (way, symbols, cell, frac, energy, forces, virial)."""
        ways, symbols, cells, frac, energies, forces, virials = zip(*rows, strict=True)
        return cls(
            offsets=np.concatenate([[0], np.cumsum([len(s) for s in symbols])]).astype(np.int64),
            ways=np.array(ways, dtype=np.int64),
            numbers=np.array([atomic_numbers[el] for s in symbols for el in s], dtype=np.int64),
            frac=np.concatenate(frac).astype(np.float64),
            cells=np.array(cells, dtype=np.float64),
            energies=np.array(energies, dtype=np.float64),
            forces=np.concatenate(forces).astype(np.float64),
            virials=np.array(virials, dtype=np.float64),
            about=about,
        )

    def save(self, path: Path | str) -> Path:
        """Write the cells to one compressed file and return its path."""
        file = Path(path)
        np.savez_compressed(
            file,
            sizes=self.sizes.astype(np.uint16),
            ways=self.ways.astype(np.int32),
            numbers=self.numbers.astype(np.uint8),
            frac=np.round(self.frac % 1.0 * _STEPS).astype(np.int64).astype(np.uint16),
            cells=self.cells.astype(np.float32),
            energies=self.energies.astype(np.float32),
            forces=self.forces.astype(np.float16),
            virials=self.virials.astype(np.float16),
            about=np.array(self.about),
        )
        return file


def load_labels(path: Path | str) -> LabelledCells:
    """Load labelled cells.

    Parameters
    ----------
    path
        A file written by :meth:`LabelledCells.save`.

    Returns
    -------
    LabelledCells
        The cells.

    Raises
    ------
    ConfigError
        If there is no such file or it holds no labelled cells.
    """
    file = Path(path)
    try:
        with np.load(file, allow_pickle=False) as stored:
            sizes, ways, numbers, frac, cells, energies, forces, virials, about = (stored[key] for key in _KEYS)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError("labels", f"{file} holds no labelled cells ({error!r})") from error
    return LabelledCells(
        offsets=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
        ways=ways.astype(np.int64),
        numbers=numbers.astype(np.int64),
        frac=frac.astype(np.float64) / _STEPS,
        cells=cells.astype(np.float64),
        energies=energies.astype(np.float64),
        forces=forces.astype(np.float64),
        virials=virials.astype(np.float64),
        about=str(about),
    )
