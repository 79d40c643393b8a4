"""Sets of known crystals as flat arrays: reading them, weighing them, and splitting them by composition."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections import Counter
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

Split = Literal["train", "tune", "test"]

# A compound that holds one of these is described by the potentials "with anions", any other one by those "without".
ANIONS = frozenset({"N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I"})
_PARTS = 10
_HEADERS = {b"\xfd7zXZ": lzma.open}


def formula_key(symbols: Iterable[str]) -> str:
    """Return a reduced formula that does not depend on order or multiplicity, such as ``O3 Sr1 Ti1``.

    Parameters
    ----------
    symbols
        Element symbols, one per atom.
    """
    counts = Counter(symbols)
    divisor = gcd(*counts.values())
    return " ".join(f"{symbol}{counts[symbol] // divisor}" for symbol in sorted(counts))


def split_of(symbols: Iterable[str]) -> Split:
    """Say to which part of the data a composition belongs: 80 % train, 10 % tune, 10 % test.

    All structures of one reduced formula lie in the same part, so what is measured on "test" is measured on
    compositions that neither the derivation nor the choice of its settings has seen.

    Parameters
    ----------
    symbols
        Element symbols, one per atom.
    """
    digest = hashlib.sha256(formula_key(symbols).encode()).digest()
    part = int.from_bytes(digest[:8], "big") % _PARTS
    return "test" if part == 0 else "tune" if part == 1 else "train"


def has_anions(symbols: Iterable[str]) -> bool:
    """Say whether a compound holds one of the elements N, O, F, S, Cl, Se, Br, Te, I."""
    return not ANIONS.isdisjoint(symbols)


@dataclass(frozen=True)
class CrystalSet:
    """Many ordered crystals in flat arrays.

    Attributes
    ----------
    offsets
        Shape (n + 1,): atoms of crystal s are ``offsets[s]:offsets[s + 1]``.
    numbers
        Atomic numbers, shape (atoms,).
    frac
        Fractional coordinates, shape (atoms, 3).
    cells
        Lattices in angstrom, rows are vectors, shape (n, 3, 3).
    formulas
        Reduced formulas (:func:`formula_key`), one per crystal.
    names
        Identifiers, one per crystal.
    """

    offsets: NDArray[np.int64]
    numbers: NDArray[np.int64]
    frac: NDArray[np.float64]
    cells: NDArray[np.float64]
    formulas: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.formulas)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Atoms per crystal, shape (n,)."""
        return np.diff(self.offsets)

    def symbols(self, index: int) -> list[str]:
        """Return the element symbols of one crystal."""
        numbers = self.numbers[self.offsets[index] : self.offsets[index + 1]]
        return [str(chemical_symbols[int(number)]) for number in numbers]

    def composition_weights(self) -> NDArray[np.float64]:
        """Return one weight per crystal, shape (n,): 1 over the number of crystals of the same reduced formula.

        Otherwise the many polymorphs of SiO2 and the like would outweigh everything else.
        """
        counts = Counter(self.formulas)
        return np.array([1.0 / counts[formula] for formula in self.formulas])

    def anion_flags(self) -> NDArray[np.bool_]:
        """Say of each crystal whether it holds anions (:func:`has_anions`), shape (n,)."""
        return np.array([has_anions(self.symbols(i)) for i in range(len(self))], dtype=bool)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> CrystalSet:
        """Return the crystals with these indices, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        sizes = self.sizes[chosen]
        atoms = np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen] or [chosen])
        return CrystalSet(
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            numbers=self.numbers[atoms],
            frac=self.frac[atoms],
            cells=self.cells[chosen],
            formulas=tuple(self.formulas[i] for i in chosen),
            names=tuple(self.names[i] for i in chosen),
        )


def read_crystals(
    source: Path | str,
    *,
    parts: Sequence[Split] = ("train",),
    max_atoms: int = 200,
    min_dist: float = 1.0,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> CrystalSet:
    """Read ordered crystals from a file of JSON lines (may be ``.xz``) or a folder of CIF files.

    Parameters
    ----------
    source
        A file with one JSON object per line (keys ``lattice``, ``species``, ``frac_coords``; ``id`` and ``min_dist``
        are used if there), or a folder of CIF files.
    parts
        The parts of :func:`split_of` that are kept.
    max_atoms
        Larger cells are left out.
    min_dist
        Cells with a contact below this (angstrom) are left out, where the file says so (``min_dist``).
    limit
        Stop after so many crystals were kept.
    progress
        Called with the number of crystals read so far, now and then.

    Returns
    -------
    CrystalSet
        The crystals in the order of the file.

    Raises
    ------
    ConfigError
        If there is no such file or folder, if a line cannot be read, or if nothing was left.
    """
    path = Path(source)
    if not path.exists():
        raise ConfigError("data", f"there is no file or folder {path}")
    numbers, frac, cells, formulas, names = [], [], [], [], []
    for count, record in enumerate(_records_of_folder(path) if path.is_dir() else _records_of_file(path)):
        if progress is not None and count % 500 == 0:
            progress(count)
        symbols = record["species"]
        if len(symbols) > max_atoms or record.get("min_dist", min_dist) < min_dist or split_of(symbols) not in parts:
            continue
        numbers.append([atomic_numbers[symbol] for symbol in symbols])
        frac.append(np.asarray(record["frac_coords"], dtype=float))
        cells.append(np.asarray(record["lattice"], dtype=float))
        formulas.append(formula_key(symbols))
        names.append(str(record.get("id", count)))
        if limit is not None and len(names) >= limit:
            break
    if not names:
        raise ConfigError("data", f"{path} holds no ordered crystal that can be used (at most {max_atoms} atoms)")
    return CrystalSet(
        offsets=np.concatenate([[0], np.cumsum([len(n) for n in numbers])]).astype(np.int64),
        numbers=np.concatenate([np.asarray(n, dtype=np.int64) for n in numbers]),
        frac=np.concatenate(frac),
        cells=np.stack(cells),
        formulas=tuple(formulas),
        names=tuple(names),
    )


def _records_of_file(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file of JSON lines; a compressed one is recognised by its first bytes."""
    with path.open("rb") as raw:
        start = raw.read(5)
    opener = _HEADERS.get(start)
    with cast("IO[str]", opener(path, "rt") if opener else path.open(encoding="utf-8")) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                yield {"lattice": record["lattice"], "species": record["species"], **record}
            except (ValueError, TypeError, KeyError) as error:
                msg = f"line {number} of {path} is no JSON object with lattice, species and frac_coords ({error!r})"
                raise ConfigError("data", msg) from error


def _records_of_folder(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the ordered structures of a folder of CIF files, in the order of their names."""
    from pymatgen.core import Structure

    for file in sorted(path.glob("*.cif")):
        try:
            structure = Structure.from_file(file)
        except (ValueError, KeyError, AssertionError) as error:
            raise ConfigError("data", f"{file} cannot be read ({error}); take it away") from error
        if structure.is_ordered:
            primitive = structure.get_primitive_structure()
            yield {
                "id": file.stem,
                "lattice": primitive.lattice.matrix.tolist(),
                "species": [
                    site.specie.element.symbol if hasattr(site.specie, "element") else site.specie.symbol
                    for site in primitive
                ],
                "frac_coords": primitive.frac_coords.tolist(),
            }
