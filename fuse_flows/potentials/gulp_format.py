"""The spline section of GULP's potential files: one table of energies over distances for each pair of elements."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

#: Energies of tables that are said to be the same differ by less than this, eV.
AGREEMENT = 1e-6

#: What one eV is in the units of a section.
_PER_EV = {"kcal": 23.060548, "kjmol": 96.485332}

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")

#: Words of a spline section that restrict it to bonds or molecules, which a crystal of single atoms does not have.
_MOLECULAR = frozenset({"intra", "bond", "x12", "x13", "x14", "mol", "o14", "g14"})


@dataclass(frozen=True)
class PairTable:
    """Energies of one pair of elements as they stand in a file.

    Parameters
    ----------
    pair
        Symbols of the two elements, sorted.
    distances
        (n,) strictly rising, A.
    energies
        (n,) eV.
    source
        File and line of the header.
    """

    pair: tuple[str, str]
    distances: np.ndarray
    energies: np.ndarray
    source: str

    def agrees(self, other: PairTable) -> bool:
        """Whether another table holds the same numbers, to 1e-6 A and eV."""
        return self.distances.shape == other.distances.shape and bool(
            np.abs(self.distances - other.distances).max() <= AGREEMENT
            and np.abs(self.energies - other.energies).max() <= AGREEMENT
        )


@dataclass
class _Section:
    """What the line that opens a section says."""

    per_ev: float = 1.0
    reverse: bool = False


@dataclass
class _Open:
    """A table that is being read."""

    pair: tuple[str, str]
    line: int
    r_min: float
    r_max: float
    rows: list[tuple[float, float]] = field(default_factory=list)


class _Parser:
    """Reads a file line by line; every complaint names the file and the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0
        self.section: _Section | None = None
        self.table: _Open | None = None
        self.tables: list[PairTable] = []

    def read(self, text: str) -> list[PairTable]:
        for self.line, raw in enumerate(text.splitlines(), start=1):
            words = raw.partition("#")[0].split()
            if not words:
                continue
            if _NUMBER.fullmatch(words[0]):
                self._row(words)
            elif words[0].lower().startswith("spli"):  # GULP, too, looks at the first four letters only
                self._close()
                self.section = self._options([word.lower() for word in words[1:]])
            else:
                self._header(words)
        self._close()
        if not self.tables:
            self._fail("holds no spline section; it must begin with a line 'spline cubic'", 1)
        return self.tables

    def _options(self, words: list[str]) -> _Section:
        section = _Section()
        for word in words:
            if word in _PER_EV:
                section.per_ev = _PER_EV[word]
            elif word == "reverse":
                section.reverse = True
            elif word in _MOLECULAR:
                self._fail(f"{word!r} limits the potential to molecules or bonds, which is not supported")
            elif word not in {"cubic", "rational", "inter", "ev"}:
                self._fail(f"{word!r} is no unit or option of a spline section; use kcal, kjmol or none of them for eV")
        return section

    def _header(self, words: list[str]) -> None:
        if self.section is None:
            self._fail(f"{words[0]!r} is not understood; only spline sections can be read")
        self._close()
        symbols, rest = self._atoms(words)
        if not all(_NUMBER.fullmatch(word) for word in rest):
            self._fail("the header of a table must be: atom1 [core] atom2 [core] [shift] [rmin] rmax")
        shift, r_min, r_max = self._limits([_float(word) for word in rest])
        if shift:
            self._fail(f"a shift of {shift:g} is not supported; add it to the energies and write 0")
        if not 0 <= r_min < r_max:
            self._fail(f"the limits {r_min:g} and {r_max:g} A leave no distance")
        pair = (min(symbols), max(symbols))
        self.table = _Open(pair, self.line, r_min, r_max)

    def _atoms(self, words: list[str]) -> tuple[list[str], list[str]]:
        """Split a header into its two symbols and what follows."""
        from pymatgen.core import Element

        symbols: list[str] = []
        rest = list(words)
        for _ in range(2):
            if not rest:
                self._fail("the header of a table must name two elements")
            symbol = rest.pop(0).capitalize()
            if not Element.is_valid_symbol(symbol):
                self._fail(f"{words[0]!r} opens no table: {symbol!r} is no element and no spline section")
            symbols.append(symbol)
            if rest and rest[0].lower().startswith("she"):
                self._fail("shells are not supported; only potentials between cores can be read")
            if rest and rest[0].lower().startswith("cor"):
                rest.pop(0)
        return symbols, rest

    def _limits(self, numbers: list[float]) -> tuple[float, float, float]:
        """Shift, r_min and r_max; a fourth number is GULP's flag for fitting."""
        if len(numbers) == 1:
            return 0.0, 0.0, numbers[0]
        if len(numbers) == 2 and numbers[0] == 0:
            return 0.0, 0.0, numbers[1]
        if len(numbers) == 2:
            self._fail("two numbers may be a shift or a lower limit and rmax; write all three: shift rmin rmax")
        if len(numbers) not in {3, 4}:
            self._fail("the header of a table must end with: [shift] [rmin] rmax")
        return numbers[0], numbers[1], numbers[2]

    def _row(self, words: list[str]) -> None:
        if self.table is None or self.section is None:
            self._fail("numbers without a header; it must name two elements and rmax")
        if len(words) != 2 or not _NUMBER.fullmatch(words[1]):
            order = "distance energy" if self.section.reverse else "energy distance"
            self._fail(f"a line of a table must hold two numbers: {order}")
        energy, distance = _float(words[0]), _float(words[1])
        if self.section.reverse:
            energy, distance = distance, energy
        before = self.table.rows[-1][0] if self.table.rows else -np.inf
        if distance <= before:
            self._fail(f"the distance {distance:g} A does not rise above {before:g} A of the line before")
        self.table.rows.append((distance, energy / self.section.per_ev))

    def _close(self) -> None:
        """Check and keep the table that ends here."""
        if self.table is None:
            return
        table, self.table = self.table, None
        distances, energies = np.array(table.rows, dtype=float).reshape(-1, 2).T
        slack = 1e-9
        inside = (distances > 0) & (distances >= table.r_min - slack) & (distances <= table.r_max + slack)
        if inside.sum() < 4:
            pair = "-".join(table.pair)
            self._fail(
                f"the table of {pair} has {inside.sum()} points between its limits; at least 4 are needed", table.line
            )
        self.tables.append(PairTable(table.pair, distances[inside], energies[inside], f"{self.path}:{table.line}"))

    def _fail(self, message: str, line: int | None = None) -> NoReturn:
        raise ConfigError("library", f"{self.path}:{line or self.line}: {message}")


def parse_splines(path: Path) -> list[PairTable]:
    """Read the spline sections of a GULP library or of one ``A-B.POT`` file.

    A section is ``spline [cubic] [reverse] [inter] [kcal|kjmol]``, then for each pair a line
    ``atom1 [core] atom2 [core] [shift] [rmin] rmax`` and lines ``energy distance`` (``distance energy`` with
    ``reverse``). Energies are in eV unless a unit is named; points outside the limits, and one at distance
    zero, are left out.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list of PairTable
        In the order of the file; a pair may occur twice.

    Raises
    ------
    ConfigError
        Naming the file and the line: unknown option or unit, anything but a spline section, distances that do not
        rise, lines that are not two numbers, fewer than four points.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("library", f"{path} cannot be read ({error})") from error
    return _Parser(path).read(text)


def format_spline(pair: tuple[str, str], distances: np.ndarray, energies: np.ndarray) -> str:
    """Write one table as a section of its own.

    Parameters
    ----------
    pair
        Symbols of the two elements.
    distances
        (n,) A.
    energies
        (n,) eV.

    Returns
    -------
    str
        The section, ten decimals, no line longer than 80 characters.
    """
    header = f"{pair[0]} core {pair[1]} core 0.0 0.0 {distances[-1]:.10f}"
    rows = (f"{energy:24.10f} {distance:18.10f}" for energy, distance in zip(energies, distances, strict=True))
    return "\n".join(["spline cubic", header, *rows]) + "\n"


def _float(word: str) -> float:
    """Read a number, with Fortran's exponents, too."""
    return float(word.lower().replace("d", "e"))
