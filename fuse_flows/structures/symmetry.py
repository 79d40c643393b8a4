"""Other cells of the same crystal: the standard ones of spglib and the Niggli-reduced one (FUSE2 paper, Section 2.2).

They are taken before a relaxation, which then keeps no symmetry: small cells relax faster, and cells that are neither
flat nor oblique are cut into better sub-modules. What cannot be standardised stays as it is, with a note that says so.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from fuse_flows.config import SymmetryConfig

_SHEARED = 10.0
"""Product of the edges over the volume: 1 for right angles, 3.7 for the most oblique
rhombohedron that is assembled."""

_MAX_DENSITY_CHANGE = 0.05
"""A standard cell that is denser or less dense by more than this share is another crystal."""


@dataclass(frozen=True)
class ChosenCell:
    """A cell of a crystal and how it was chosen.

    Parameters
    ----------
    structure
        The crystal in that cell.
    note
        What was taken, in one of a few fixed phrases that can be counted; empty if nothing was asked for.
    """

    structure: Structure
    note: str


class _Cell(NamedTuple):
    """A crystal in the convention of spglib: vectors as rows (angstrom), fractional positions, atomic numbers."""

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]


def choose_cell(structure: Structure, settings: SymmetryConfig, max_atoms: int) -> ChosenCell:
    """Return a crystal in the cell that the search wants to relax.

    Parameters
    ----------
    structure
        Ordered structure.
    settings
        Which cell is wanted.
    max_atoms
        Largest number of atoms. A conventional cell that is larger gives way to the primitive one.

    Returns
    -------
    ChosenCell
        The structure itself where nothing was asked for, or where nothing can be done.
    """
    cell = _to_cell(structure)
    notes, found = [], cell
    if settings.standardise != "none":
        found, note = _standardised(found, settings, max_atoms)
        notes.append(note)
    if settings.reduce == "niggli":
        found, note = _niggli_reduced(found)
        notes.append(note)
    return ChosenCell(structure if found is cell else _to_structure(found), ", ".join(notes))


def unsheared(structure: Structure) -> Structure:
    """Return the same crystal in a cell of short edges if relaxation has sheared its cell beyond use.

    A soft crystal may slide along its planes until the edges of the cell are many times longer than the cell is wide;
    sub-modules of such a cell are splinters, and a grid over it is millions of points.

    Parameters
    ----------
    structure
        Ordered structure.

    Returns
    -------
    Structure
        The structure itself, unless the product of its edges exceeds its volume by more than a factor of ten; then
        with the edges that the LLL algorithm finds for the same lattice.
    """
    from pymatgen.core import Structure

    lattice = structure.lattice
    if math.prod(lattice.abc) <= _SHEARED * lattice.volume:
        return structure
    reduced = lattice.get_lll_reduced_lattice()
    coords = reduced.get_fractional_coords(structure.cart_coords)
    return Structure(reduced, structure.species, coords, to_unit_cell=True)


def exactly_symmetric(structure: Structure, symprec: float | None) -> Structure:
    """Return a crystal whose symmetry holds to the last digits, in the same cell and with the atoms in the same order.

    What a potential has relaxed is symmetric to some 0.01 A; electronic structure codes look for symmetry to 1e-5 A and
    less, and compute all k-points where they find none.

    Parameters
    ----------
    structure
        Ordered structure.
    symprec
        Deviations from symmetry that are to vanish, angstrom; None to leave it as it is.

    Returns
    -------
    pymatgen.core.Structure
        With its site properties; the structure itself where spglib finds no symmetry, or another crystal.
    """
    if symprec is None:
        return structure
    from ase import Atoms
    from ase.spacegroup.symmetrize import refine_symmetry
    from pymatgen.core import Structure

    _silence_spglib()
    cell = _to_cell(structure)
    atoms = Atoms(cell.numbers, cell=cell.lattice, scaled_positions=cell.positions, pbc=True)
    try:
        refine_symmetry(atoms, symprec=symprec)
    except Exception:  # noqa: BLE001 - of any kind, by version of spglib; none may stop a search
        return structure
    found = _Cell(atoms.cell.array, atoms.get_scaled_positions(wrap=False), cell.numbers)
    if not _is_same_crystal(cell, found):
        return structure
    return Structure(found.lattice, structure.species, found.positions, site_properties=structure.site_properties)


def _standardised(cell: _Cell, settings: SymmetryConfig, max_atoms: int) -> tuple[_Cell, str]:
    """Return the wanted standard cell if it fits, else the primitive one, else the cell as it is."""
    conventional = settings.standardise == "conventional"
    for primitive in (False, True) if conventional else (True,):
        standard = _standard_cell(cell, settings.symprec, primitive=primitive)
        if isinstance(standard, str):
            return cell, f"unchanged ({standard})"
        if len(standard.numbers) <= max_atoms:
            late = " (conventional too large)" if primitive and conventional else ""
            return standard, ("primitive" if primitive else "conventional") + late
    return cell, "unchanged (too large)"


def _standard_cell(cell: _Cell, symprec: float, *, primitive: bool) -> _Cell | str:
    """Ask spglib for a standard cell, idealised; or say why there is none."""
    import spglib

    _silence_spglib()
    try:
        found = spglib.standardize_cell(cell, to_primitive=primitive, no_idealize=False, symprec=symprec)
    except Exception:  # noqa: BLE001 - None or an exception of any kind, by version; neither may stop a search
        found = None
    if found is None:
        return "spglib failed"
    standard = _Cell(np.asarray(found[0]), np.asarray(found[1]), np.asarray(found[2], dtype=np.int64))
    return standard if _is_same_crystal(cell, standard) else "spglib changed the crystal"


def _is_same_crystal(one: _Cell, other: _Cell) -> bool:
    """Tell whether two cells agree in composition and, nearly, in density."""
    if not len(other.numbers) or not all(np.isfinite(array).all() for array in other):
        return False
    size = int(max(one.numbers.max(), other.numbers.max())) + 1
    counts = [np.bincount(cell.numbers, minlength=size) for cell in (one, other)]
    per_atom = [abs(np.linalg.det(cell.lattice)) / len(cell.numbers) for cell in (one, other)]
    same_composition = np.array_equal(counts[0] * len(other.numbers), counts[1] * len(one.numbers))
    return same_composition and bool(abs(per_atom[1] / per_atom[0] - 1) < _MAX_DENSITY_CHANGE)


def _niggli_reduced(cell: _Cell) -> tuple[_Cell, str]:
    """Return the same atoms in the Niggli-reduced cell of the same lattice, neither rotated nor moved."""
    import spglib

    _silence_spglib()
    try:
        reduced = spglib.niggli_reduce(cell.lattice)
    except Exception:  # noqa: BLE001 - as above
        reduced = None
    if reduced is None:
        return cell, "not reduced (spglib failed)"
    exact = reduced @ np.linalg.inv(cell.lattice)
    change = np.round(exact)
    determinant = round(float(np.linalg.det(change)))
    if abs(determinant) != 1 or not np.allclose(exact, change, atol=1e-3):
        return cell, "not reduced (spglib changed the lattice)"
    change *= determinant  # keeps the handedness
    positions = cell.positions @ np.round(np.linalg.inv(change))
    return _Cell(change @ cell.lattice, positions - np.floor(positions), cell.numbers), "niggli"


def _to_cell(structure: Structure) -> _Cell:
    return _Cell(structure.lattice.matrix, structure.frac_coords, np.array([site.specie.Z for site in structure]))


def _to_structure(cell: _Cell) -> Structure:
    from pymatgen.core import Element, Lattice, Structure

    species = [Element.from_Z(int(z)) for z in cell.numbers]
    return Structure(Lattice(cell.lattice), species, cell.positions)


def _silence_spglib() -> None:
    """Keep it from reporting every tolerance that it has to try to stderr."""
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
