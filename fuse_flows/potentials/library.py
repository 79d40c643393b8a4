"""The library of statistical proxy potentials: one file, every pair of its elements.

The file is a compressed ``.npz`` without pickled objects: ``symbols``; ``coefficients`` (float32, shape (2, pairs, 73):
with and without anions, pairs in the order (0, 0), (0, 1), ... of the symbols, splines of ``splines.py``); ``crystals``
(how many are behind each pair, shape (2, pairs)); ``provenance`` (JSON: source, licence, settings, version).
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.crystals import has_anions
from fuse_flows.potentials.splines import COEFFICIENTS, R_FIRST, R_LAST, values_at
from fuse_flows.potentials.statistics import SURROUNDINGS, channel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_FIELD = "spp_library"
_KEYS = ("symbols", "coefficients", "crystals", "provenance")
GRID_STEP = 0.05
SHIPPED = "data/spp_library.npz"


@dataclass(frozen=True)
class SppLibrary:
    """Pair potentials of many elements.

    Attributes
    ----------
    symbols
        The elements.
    coefficients
        Splines in eV, shape (2 * pairs, 73), in the order of ``statistics.channel``.
    crystals
        Number of crystals behind each, shape (2 * pairs,); 0 where the potential is taken from related pairs only.
    provenance
        Source, licence, settings, versions.
    """

    symbols: tuple[str, ...]
    coefficients: NDArray[np.float32]
    crystals: NDArray[np.int64]
    provenance: dict[str, Any]

    def tables(self, symbols: Iterable[str]) -> tuple[NDArray[np.float64], dict[tuple[str, str], NDArray[np.float64]]]:
        """Return the potentials of a compound.

        Whether the compound holds anions (N, O, F, S, Cl, Se, Br, Te, I) decides between the two potentials of a pair,
        so all its elements are to be given.

        Parameters
        ----------
        symbols
            The elements of the compound.

        Returns
        -------
        r : numpy.ndarray
            0.5, 0.55, ... 11 A.
        values : dict
            V(r) in eV by pair of symbols in alphabetical order; 0 with zero slope at 11 A.

        Raises
        ------
        ConfigError
            If the library does not have an element.
        """
        elements = sorted(set(symbols))
        r = np.linspace(R_FIRST, R_LAST, round((R_LAST - R_FIRST) / GRID_STEP) + 1)
        return r, {
            (one, two): values_at(self.coefficients[self._channel(one, two, anions=has_anions(elements))], r)
            for k, one in enumerate(elements)
            for two in elements[k:]
        }

    def crystals_of(self, one: str, two: str, *, anions: bool) -> int:
        """Return how many crystals are behind the potential of two elements, with or without anions around."""
        return int(self.crystals[self._channel(one, two, anions=anions)])

    def _channel(self, one: str, two: str, *, anions: bool) -> int:
        lacking = sorted({one, two} - set(self.symbols))
        if lacking:
            message = (
                f"there is no statistical potential for {', '.join(lacking)}; give another library or another tier"
            )
            raise ConfigError(_FIELD, message)
        return int(channel(self.symbols.index(one), self.symbols.index(two), 0 if anions else 1, len(self.symbols)))

    def save(self, path: Path | str) -> Path:
        """Write the library to one compressed file and return its path (``.npz`` is added if it is not there)."""
        file = Path(path)
        file = file if file.suffix == ".npz" else file.with_name(file.name + ".npz")
        np.savez_compressed(
            file,
            symbols=np.array(self.symbols),
            coefficients=np.asarray(self.coefficients, dtype=np.float32).reshape(SURROUNDINGS, -1, COEFFICIENTS),
            crystals=np.asarray(self.crystals, dtype=np.int32).reshape(SURROUNDINGS, -1),
            provenance=np.array(json.dumps(self.provenance)),
        )
        return file


def load_library(path: Path | str | None = None) -> SppLibrary:
    """Load a library of potentials.

    Parameters
    ----------
    path
        A file written by ``fuse-flows spp derive``; None for the one that comes with the package (read once).

    Returns
    -------
    SppLibrary
        The library.

    Raises
    ------
    ConfigError
        If there is no such file or it is no library.
    """
    return _shipped() if path is None else _load(Path(path))


@cache
def _shipped() -> SppLibrary:
    with resources.as_file(resources.files("fuse_flows").joinpath(SHIPPED)) as file:
        return _load(file)


def _load(file: Path) -> SppLibrary:
    if not file.is_file():
        raise ConfigError(_FIELD, f"there is no file {file}; make one with: fuse-flows spp derive")
    try:
        with np.load(file, allow_pickle=False) as stored:
            symbols, coefficients, crystals, provenance = (stored[key] for key in _KEYS)
        library = SppLibrary(
            tuple(str(symbol) for symbol in symbols),
            coefficients.reshape(-1, COEFFICIENTS),
            crystals.reshape(-1).astype(np.int64),
            json.loads(str(provenance)),
        )
    except (OSError, KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ConfigError(
            _FIELD, f"{file} is no library of potentials ({error!r}); make one with: fuse-flows spp derive"
        ) from error
    n = len(library.symbols)
    channels = SURROUNDINGS * n * (n + 1) // 2
    if coefficients.shape[0] != SURROUNDINGS or not len(library.coefficients) == len(library.crystals) == channels:
        raise ConfigError(_FIELD, f"{file} is no library of potentials: {n} elements need {channels} potentials")
    return library
