"""A key of a relaxed crystal that does not depend on the choice of its cell, and that cell reduced for comparisons."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from fuse_flows.structures.neighbours import neighbour_pairs
from fuse_flows.structures.primitive import SYMPREC_LOOSE, primitive_cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from pymatgen.core import Structure

_REACH = 2.5  # of (V/N)^(1/3): about 65 neighbours of every atom


class Cell(NamedTuple):
    """A crystal in little memory.

    Parameters
    ----------
    lattice
        (3, 3) rows are the lattice vectors, angstrom.
    frac_coords
        (n, 3) fractional coordinates.
    numbers
        (n,) atomic numbers.
    """

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    numbers: NDArray[np.int64]

    @classmethod
    def from_structure(cls, structure: Structure) -> Self:
        """Take an ordered structure."""
        numbers = np.array([site.specie.Z for site in structure])
        return cls(np.array(structure.lattice.matrix), np.array(structure.frac_coords), numbers)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take an ordered structure as a dictionary (pymatgen); a good deal faster than by way of the structure."""
        from pymatgen.core import Element

        sites = values["sites"]
        numbers = np.array([Element(site["species"][0]["element"]).Z for site in sites])
        coords = np.array([site["abc"] for site in sites], dtype=float)
        return cls(np.array(values["lattice"]["matrix"], dtype=float), coords, numbers)

    @property
    def volume_per_atom(self) -> float:
        """Volume in cubic angstrom per atom."""
        return float(abs(np.linalg.det(self.lattice)) / len(self.numbers))


class Fingerprint(NamedTuple):
    """Key of a relaxed crystal; copies of one minimum have equal keys, or keys that differ by one in a bin.

    Parameters
    ----------
    atoms
        Atoms of the primitive cell at the loose tolerance.
    energy_bin
        Energy per atom in multiples of the energy tolerance, rounded down.
    volume_bin
        Logarithm of the volume per atom in multiples of that of one plus the volume tolerance, rounded down.
    space_group
        Number of the space group at the loose tolerance, 0 if unknown. For the reader: relaxations leave copies of one
        minimum in different space groups, so no match depends on it.
    """

    atoms: int
    energy_bin: int
    volume_bin: int
    space_group: int = 0

    def __str__(self) -> str:
        """Return the form that is stored: ``atoms/energy bin/volume bin/space group``."""
        return "/".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the form that is stored."""
        return cls(*map(int, text.split("/")))


def energy_bin(energy_per_atom: float, tolerance: float) -> int:
    """Return the bin of an energy; energies (eV/atom) closer than the tolerance are at most one bin apart."""
    return math.floor(energy_per_atom / tolerance)


def volume_bin(volume_per_atom: float, tolerance: float) -> int:
    """Return the bin of a volume; volumes closer than the relative tolerance are at most one bin apart."""
    return math.floor(math.log(volume_per_atom) / math.log1p(tolerance))


def fingerprint(
    cell: Cell, energy_per_atom: float, energy_tolerance: float, volume_tolerance: float, space_group: int = 0
) -> Fingerprint:
    """Return the key of a relaxed crystal.

    Parameters
    ----------
    cell
        The crystal in any cell.
    energy_per_atom
        eV/atom.
    energy_tolerance
        Width of the bins of energy, eV/atom.
    volume_tolerance
        Width of the bins of volume, relative.
    space_group
        Number of its space group, if known.

    Returns
    -------
    Fingerprint
        The same for every cell of the crystal.
    """
    return Fingerprint(
        atoms=len(primitive(cell).numbers),
        energy_bin=energy_bin(energy_per_atom, energy_tolerance),
        volume_bin=volume_bin(cell.volume_per_atom, volume_tolerance),
        space_group=space_group,
    )


def primitive(cell: Cell, tolerance: float = SYMPREC_LOOSE) -> Cell:
    """Reduce a crystal to a primitive cell; see :func:`.primitive_cell`.

    Parameters
    ----------
    cell
        The crystal in any cell.
    tolerance
        Tolerance for positions, angstrom.

    Returns
    -------
    Cell
        A primitive cell.
    """
    return Cell(*primitive_cell(*cell, tolerance=tolerance))


def surroundings(cell: Cell) -> NDArray[np.float64]:
    """Describe how densely each species is surrounded by each, by numbers that change little where atoms move little.

    Parameters
    ----------
    cell
        The crystal in any cell.

    Returns
    -------
    numpy.ndarray
        One number for each pair of species: the sum over neighbours at a distance r (within a reach R, in proportion
        to the cube root of the volume per atom) of (1 - r / R) squared, per atom of the crystal. Copies of one minimum,
        relaxed with CHGNet, agree within 1 %.
    """
    reach = _REACH * cell.volume_per_atom ** (1 / 3)
    first, second, distance = neighbour_pairs(cell.lattice, cell.frac_coords, reach)
    species, kind = np.unique(cell.numbers, return_inverse=True)
    n = len(species)
    sums = np.bincount(kind[first] * n + kind[second], weights=(1 - distance / reach) ** 2, minlength=n * n)
    return sums.reshape(n, n)[np.triu_indices(n)] / len(cell.numbers)


def reduced_structure(cell: Cell, tolerance: float = SYMPREC_LOOSE) -> Structure:
    """Reduce a crystal to the Niggli form of its primitive cell, ready for a StructureMatcher.

    A StructureMatcher can do that itself, but its own search for the primitive cell misses some that are noisy, and
    what is reduced once can be compared many times.

    Parameters
    ----------
    cell
        The crystal in any cell.
    tolerance
        Tolerance for positions, angstrom.

    Returns
    -------
    pymatgen.core.Structure
        Atoms sorted by species.
    """
    import spglib
    from pymatgen.core import Structure

    small = primitive(cell, tolerance)
    niggli = spglib.niggli_reduce(small.lattice)
    lattice = small.lattice if niggli is None else np.asarray(niggli)
    coords = small.frac_coords @ small.lattice @ np.linalg.inv(lattice)
    order = np.argsort(small.numbers, kind="stable")
    return Structure(lattice, small.numbers[order], coords[order], to_unit_cell=True)
