"""Input, output and restart files of GULP; pure functions between text and numbers."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.relax.gulp_stages import GulpStage

#: Names of the files of a run in its scratch folder.
RESTART, POTENTIALS = "temp.res", "spp.lib"

_VALUE = r"=\s*([-+.\deE]+|\*+)"
_FINAL_ENERGY = re.compile(rf"^\s*Final (?:energy|enthalpy)\s*{_VALUE}\s*eV", re.MULTILINE)
_LATTICE_ENERGY = re.compile(
    rf"^\s*(?:Total lattice (?:energy|enthalpy)|Primitive unit cell)\s*{_VALUE}\s*eV", re.MULTILINE
)
_ENTHALPY = re.compile(r"^\s*(?:Total lattice|Final) enthalpy\s*[:=]", re.MULTILINE)
_GNORM = re.compile(rf"^\s*Final Gnorm\s*{_VALUE}", re.MULTILINE)
_CYCLE = re.compile(r"^\s*Cycle:\s*(\d+)\s+Energy:", re.MULTILINE)
_VERSION = re.compile(r"Version\s*=\s*([\d.]+)")
_ERROR = re.compile(r"^\W*ERROR\s*:\s*(.+?)[\s!*]*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d+/\d+|[-+]?(?:\d+\.\d*|\.\d+)(?:[eEdD][-+]?\d+)?|[-+]?\d+")

#: How GULP says that an optimisation ended otherwise.
_ENDINGS = (
    "CPU limit has been exceeded",
    "Too many failed attempts to optimise",
    "Maximum number of function calls has been reached",
    "Conditions for a minimum have not been satisfied",
)
NO_LOWER_POINT = _ENDINGS[3]
OUT_OF_TIME = _ENDINGS[0]


class Output(NamedTuple):
    """What the output of one run says.

    Parameters
    ----------
    is_gulp
        Whether it was written by the General Utility Lattice Program; the same name is used by a tool for JavaScript.
    energy
        Total energy of the last structure, eV; None if there is none, or GULP had no room to print it.
    is_enthalpy
        Whether p V is in it: GULP says so in words, and only with a pressure.
    overflow
        Whether the last energy was too large to be printed.
    achieved
        Whether an optimisation reached its tolerances.
    ending
        How else the optimisation ended, in GULP's words; empty if it did not.
    gnorm
        Norm of the gradient per variable at the end of an optimisation.
    cycles
        Steps of the optimiser.
    version
        Version of GULP.
    error
        First error that GULP reports; empty if none.
    """

    is_gulp: bool
    energy: float | None
    is_enthalpy: bool
    overflow: bool
    achieved: bool
    ending: str
    gnorm: float | None
    cycles: int
    version: str
    error: str


def write_input(
    stage: GulpStage, lattice: np.ndarray, frac_coords: np.ndarray, symbols: Sequence[str], options: Sequence[str] = ()
) -> str:
    """Write the input of one stage; the potentials are in a file beside it.

    Parameters
    ----------
    stage
        Keywords and options.
    lattice
        (3, 3) rows are the lattice vectors, A.
    frac_coords
        (n, 3) fractional coordinates.
    symbols
        (n,) symbols of the elements.
    options
        Lines that every stage gets.

    Returns
    -------
    str
        The input, no line longer than 80 characters apart from the user's own.
    """
    lines = [" ".join(stage.keywords), "title", "fuse_flows", "end", "vectors"]
    lines += ["".join(f"{x:18.10f}" for x in vector) for vector in lattice]
    lines += ["fractional"]
    lines += [
        f"{symbol:<2} core" + "".join(f"{x:16.10f}" for x in xyz)
        for symbol, xyz in zip(symbols, frac_coords, strict=True)
    ]
    lines += [f"include {POTENTIALS}", *options, *stage.options, f"dump {RESTART}"]
    return "\n".join(lines) + "\n"


def parse_output(text: str) -> Output:
    """Read what GULP wrote to its standard output.

    The energy is the final energy of an optimisation or, of a single point, the total lattice energy, whatever its
    sign. Energies in other units than eV (keywords ``kcal``, ``kjmol``) are not read.

    Parameters
    ----------
    text
        The whole output of one run.

    Returns
    -------
    Output
        What it says.
    """
    energies = _FINAL_ENERGY.findall(text) or _LATTICE_ENERGY.findall(text)
    energy = _number(energies[-1]) if energies else None
    version, gnorms = _VERSION.search(text), _GNORM.findall(text)
    errors = [message for message in _ERROR.findall(text) if message]
    return Output(
        is_gulp="GENERAL UTILITY LATTICE PROGRAM" in text,
        energy=energy,
        is_enthalpy=_ENTHALPY.search(text) is not None,
        overflow=bool(energies) and energy is None,
        achieved="**** Optimisation achieved ****" in text,
        ending=next((ending for ending in _ENDINGS if ending in text), ""),
        gnorm=_number(gnorms[-1]) if gnorms else None,
        cycles=max(map(int, _CYCLE.findall(text)), default=0),
        version=version.group(1) if version else "",
        error=errors[0] if errors else "",
    )


def parse_restart(text: str, symbols: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the structure from a file that GULP wrote with ``dump``.

    Parameters
    ----------
    text
        Contents of the file; coordinates may be fractions such as ``1/3``, shells are passed over.
    symbols
        (n,) symbols of the elements, in the order of the input.

    Returns
    -------
    lattice : numpy.ndarray
        (3, 3) rows are the lattice vectors, A.
    frac_coords : numpy.ndarray
        (n, 3) fractional coordinates.

    Raises
    ------
    ValueError
        If cell or atoms are missing, or the atoms are not those of the input.
    """
    text = re.sub(r"^title\b.*?^end\b", "", text, flags=re.DOTALL | re.MULTILINE | re.IGNORECASE)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    lattice = _restart_cell(lines)
    names: list[str] = []
    coords: list[list[float]] = []
    start = _find(lines, "frac")
    for line in lines[start + 1 :]:
        label, _, rest = line.strip().partition(" ")
        kind, _, numbers = rest.strip().partition(" ")
        if not kind.lower().startswith(("cor", "she")):
            break
        if kind.lower().startswith("cor"):
            names.append(label)
            coords.append(_numbers(numbers)[:3])
    if names != list(symbols) or any(len(xyz) != 3 for xyz in coords):
        raise ValueError(f"{RESTART} does not hold the atoms of the input")
    return lattice, np.array(coords)


def _restart_cell(lines: list[str]) -> np.ndarray:
    """Rows of lattice vectors from ``vectors``, or from ``cell`` in the usual orientation."""
    heads = [line.split()[0].lower()[:4] for line in lines]
    if "vect" in heads:
        start = heads.index("vect") + 1
        rows = [_numbers(line) for line in lines[start : start + 3]]
        if [len(row) for row in rows] == [3, 3, 3]:
            return np.array(rows)
    elif "cell" in heads:
        from pymatgen.core import Lattice

        numbers = _numbers(lines[min(heads.index("cell") + 1, len(lines) - 1)])
        if len(numbers) >= 6:
            return np.array(Lattice.from_parameters(*numbers[:6]).matrix)
    raise ValueError(f"{RESTART} holds no cell")


def _find(lines: list[str], head: str) -> int:
    for number, line in enumerate(lines):
        if line.lower().startswith(head):
            return number
    raise ValueError(f"{RESTART} holds no fractional coordinates")


def _numbers(text: str) -> list[float]:
    """All numbers of a line, also those that touch for want of room."""
    words = (word.lower().replace("d", "e") for word in _NUMBER.findall(text))
    return [float(Fraction(word)) if "/" in word else float(word) for word in words]


def _number(word: str) -> float | None:
    """Read a number; None for the stars Fortran prints where one does not fit."""
    try:
        return float(word)
    except ValueError:
        return None
