"""Copies of one crystal among the structures that a user brings."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fuse_flows.structures.neighbours import neighbour_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

_SYMPREC = 0.01
_VOLUME = 0.05
"""Largest relative difference of the volumes of structures that are compared at all."""
_RELATIVE, _ABSOLUTE = 0.1, 0.03
"""Largest difference of their surroundings; see :func:`_surroundings`."""
_REACH = 2.5


class _Known(NamedTuple):
    """A structure in its reduced cell, with what is cheap to compare."""

    structure: Structure
    volume: float
    surroundings: NDArray[np.float64]


class TwinFinder:
    """Remembers structures of one composition and finds copies of them, in whatever cell.

    Only structures with equal numbers of atoms in the primitive cell and about equal volumes per atom and surroundings
    of the elements are given to pymatgen's ``StructureMatcher``.
    """

    def __init__(self) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self._matcher = StructureMatcher()
        self._bins: dict[int, list[_Known]] = defaultdict(list)

    def has_twin(self, structure: Structure) -> bool:
        """Tell whether a structure is a copy of one seen before; one that is not is remembered.

        Parameters
        ----------
        structure
            Ordered structure.

        Returns
        -------
        bool
            True for a copy.
        """
        reduced = _reduced(structure)
        new = _Known(reduced, reduced.volume / len(reduced), _surroundings(reduced))
        alike = self._bins[len(reduced)]
        for known in alike:
            if (
                abs(math.log(known.volume / new.volume)) < _VOLUME
                and np.allclose(known.surroundings, new.surroundings, rtol=_RELATIVE, atol=_ABSOLUTE)
                and self._matcher.fit(known.structure, reduced, skip_structure_reduction=True)
            ):
                return True
        alike.append(new)
        return False


def _surroundings(structure: Structure) -> NDArray[np.float64]:
    """Return how much of each element is near each element: Gaussians of the distances, per atom, for all pairs.

    Distances are taken in units of the cube root of the volume per atom, so a strained copy has equal surroundings.
    """
    unit = (structure.volume / len(structure)) ** (1 / 3)
    first, second, distance = neighbour_pairs(structure.lattice.matrix, structure.frac_coords, _REACH * unit)
    elements, kind = np.unique(np.array(structure.atomic_numbers), return_inverse=True)
    sums = np.zeros((len(elements), len(elements)))
    np.add.at(sums, (kind[first], kind[second]), np.exp(-((distance / unit) ** 2)))
    return sums / len(structure)


def _reduced(structure: Structure) -> Structure:
    """Return the primitive cell with the shortest vectors; the structure itself where none is found."""
    import spglib
    from pymatgen.core import Element, Lattice, Structure

    cell = (structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure])
    found = spglib.find_primitive(cell, symprec=_SYMPREC)
    lattice, coords, numbers = cell if found is None else found
    plain = Structure(Lattice(lattice), [Element.from_Z(int(number)) for number in numbers], coords)
    try:
        return plain.get_reduced_structure("niggli")
    except (ValueError, RuntimeError):
        return plain
