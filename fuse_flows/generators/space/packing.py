"""How close atoms come to one another in crystals of some elements, for pushing random atoms apart."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.structures.radii import element_radius

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_REPULSIVE = 0.3
"""Where the statistical potential of a pair is above this (eV) at short distances, crystals hardly ever are."""
_MARGIN = 1.1
_BONDED = 0.75
"""Bonds are hardly ever shorter than this times the sum of the neutral radii."""
_FURTHEST = 4.0


def packing_distances(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the distances that atoms keep in crystals of these elements.

    Ions of the same sign keep further away from one another than their neutral radii tell. That is taken from the
    statistical proxy potentials of the package, where there are any for the elements.

    Parameters
    ----------
    numbers
        Atomic numbers, shape (atoms,).

    Returns
    -------
    numpy.ndarray
        In A, shape (atoms, atoms).

    Raises
    ------
    ConfigError
        If there is no radius for an element.
    """
    from pymatgen.core import Element

    symbols = [Element.from_Z(int(number)).symbol for number in numbers]
    table = _table(tuple(sorted(set(symbols))))
    return np.array([[table[min(one, two), max(one, two)] for two in symbols] for one in symbols])


@cache
def _table(symbols: Sequence[str]) -> dict[tuple[str, str], float]:
    from fuse_flows.potentials.library import load_library

    try:
        r, values = load_library().tables(symbols)
    except ConfigError:
        r, values = np.empty(0), {}
    table = {}
    for k, one in enumerate(symbols):
        for two in symbols[k:]:
            bonded = _BONDED * (element_radius(one) + element_radius(two))
            repelled = r[(values[one, two] > _REPULSIVE) & (r < _FURTHEST)] if values else r
            table[one, two] = max(bonded, _MARGIN * float(repelled.max(initial=0.0)))
    return table
