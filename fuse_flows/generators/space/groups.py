"""Space groups as arrays: Wyckoff positions of the primitive cell, and how it lies in the conventional one.

The positions come from pyxtal (Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021)), in the standard settings
of the International Tables: unique axis b, hexagonal axes, origin choice 2.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fuse_flows.errors import MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_GROUPS = 230

_PRIMITIVE = {
    "P": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "A": ((1, 0, 0), (0, 1 / 2, -1 / 2), (0, 1 / 2, 1 / 2)),
    "C": ((1 / 2, 1 / 2, 0), (-1 / 2, 1 / 2, 0), (0, 0, 1)),
    "I": ((-1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (1 / 2, 1 / 2, -1 / 2)),
    "F": ((0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0)),
    "R": ((2 / 3, 1 / 3, 1 / 3), (-1 / 3, 1 / 3, 1 / 3), (-1 / 3, -2 / 3, 1 / 3)),
}
"""Primitive vectors as rows, in units of the conventional ones."""

_LETTERS = "abcdefghijklmnopqrstuvwxyzA"

_FIRST_OF_SYSTEM = ((1, "triclinic"), (3, "monoclinic"), (16, "orthorhombic"), (75, "tetragonal"), (143, "hexagonal"))


class WyckoffPosition(NamedTuple):
    """One Wyckoff position.

    Attributes
    ----------
    letter
        Its letter in the International Tables.
    rotations, translations
        Point k of the orbit of (x, y, z) (conventional) is ``rotations[k] @ (x, y, z) + translations[k]`` in fractions
        of the primitive cell; shapes (m, 3, 3) and (m, 3), m being the points in a primitive cell.
    freedom
        How many of x, y and z are free; a position without any can be occupied once only.
    backs
        Pseudo-inverses of the rotations, shape (m, 3, 3).
    """

    letter: str
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    freedom: int
    backs: NDArray[np.float64]

    @property
    def multiplicity(self) -> int:
        """Points in a primitive cell."""
        return len(self.translations)


class SpaceGroup(NamedTuple):
    """One space group.

    Attributes
    ----------
    number
        1 to 230.
    system
        ``triclinic``, ``monoclinic``, ``orthorhombic``, ``tetragonal``, ``hexagonal`` (trigonal ones, too), ``cubic``.
    primitive
        Primitive vectors as rows in units of the conventional ones, shape (3, 3).
    positions
        The Wyckoff positions, the most special one first.
    centrings
        Primitive cells in a conventional one.
    """

    number: int
    system: str
    primitive: NDArray[np.float64]
    positions: tuple[WyckoffPosition, ...]
    centrings: int


@cache
def space_group(number: int) -> SpaceGroup:
    """Return the tables of a space group; each is read once per process.

    Parameters
    ----------
    number
        1 to 230.

    Returns
    -------
    SpaceGroup
        Its positions.

    Raises
    ------
    MissingExtraError
        If pyxtal is not installed.
    """
    symbol, wyckoffs = _tables(number)
    primitive = np.array(_PRIMITIVE[symbol[0]], dtype=np.float64)
    inverse = np.linalg.inv(primitive)
    positions = []
    for letter, operations in zip(_LETTERS, reversed(wyckoffs), strict=False):
        affine = np.array([operation.affine_matrix for operation in operations])
        rotations = inverse.T @ affine[:, :3, :3]
        translations = affine[:, :3, 3] @ inverse
        kept = _distinct(rotations, translations)
        rotations, translations = rotations[kept], translations[kept] % 1.0
        free = int(np.linalg.matrix_rank(rotations[0]))
        positions.append(WyckoffPosition(letter, rotations, translations, free, np.linalg.pinv(rotations)))
    centrings = round(1 / abs(float(np.linalg.det(primitive))))
    return SpaceGroup(number, _system(number), primitive, tuple(positions), centrings)


def _tables(number: int) -> tuple[str, list[list[Any]]]:
    """Return the symbol and the operations of all positions, the general one first."""
    try:
        from pyxtal.symmetry import Group, get_wyckoffs
    except ImportError as error:
        raise MissingExtraError("pyxtal", "gn") from error
    return Group(number, quick=True).symbol, get_wyckoffs(number)


def _system(number: int) -> str:
    return next((name for first, name in reversed(_FIRST_OF_SYSTEM) if number >= first and number < 195), "cubic")


def _distinct(rotations: NDArray[np.float64], translations: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the operations that differ by more than vectors of the primitive lattice."""
    shifts = np.round(translations * 24).astype(np.int64) % 24
    rows = np.concatenate([np.round(rotations * 24).astype(np.int64).reshape(len(rotations), -1), shifts], axis=1)
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])
