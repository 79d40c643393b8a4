"""Whether two structures of one cell are the same arrangement of atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.structures.blocks import BlockStructure


def same_arrangement(first: BlockStructure, second: BlockStructure, tolerance: float = 0.02) -> bool:
    """Tell whether a translation, or an inversion and a translation, takes one structure into the other.

    This finds what a move most often does without changing anything: exchanging like with like, shifting all atoms,
    exchanging the two atoms of a rocksalt cell. Other symmetries and other settings of the cell are not looked for.

    Parameters
    ----------
    first, second
        The structures.
    tolerance
        Largest distance of two atoms that count as coinciding, and largest difference of the lattice vectors,
        angstrom. At most half of the shortest contact.

    Returns
    -------
    bool
        True if they are the same.
    """
    numbers = np.sort(first.numbers)
    if not np.array_equal(numbers, np.sort(second.numbers)):
        return False
    if np.abs(first.lattice - second.lattice).max() > tolerance:
        return False
    species, counts = np.unique(numbers, return_counts=True)
    rarest = species[counts.argmin()]
    anchor = first.frac_coords[np.flatnonzero(first.numbers == rarest)[0]]
    alike = first.numbers[:, None] == second.numbers[None, :]
    return any(
        _coincide(sign * (first.frac_coords - anchor) + target, second, alike, tolerance)
        for target in second.frac_coords[second.numbers == rarest]
        for sign in (1.0, -1.0)
    )


def _coincide(coords: NDArray[np.float64], other: BlockStructure, alike: NDArray[np.bool_], tolerance: float) -> bool:
    """Tell whether each atom at ``coords`` (N, 3) lies on its own atom of the other structure, species as well."""
    delta = coords[:, None, :] - other.frac_coords[None, :, :]
    delta -= np.round(delta)
    near = (((delta @ other.lattice) ** 2).sum(axis=-1) <= tolerance**2) & alike
    return bool(near.any(axis=1).all() and near.any(axis=0).all())
