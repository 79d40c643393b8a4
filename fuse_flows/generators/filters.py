"""What a candidate must fulfil before its energy is predicted: contacts, volume, no empty slabs; many at once.

The filters are those of GN-OA (Cheng et al., Nat. Commun. 13, 1492 (2022), 10.1038/s41467-022-29241-4) with two
differences: contacts are looked for among all images, and gaps between the atoms along the normals of 13 families of
lattice planes, which do not depend on where a finite block is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.structures.radii import element_radius

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.generators.space.decode import Crystals

CONTACT = "contact too short"
VOLUME = "volume out of the window"
SLAB = "empty slab"

PLANES = np.array(
    [
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1),
        (1, 1, 1), (1, 1, -1), (1, -1, 1), (-1, 1, 1),
    ],
    dtype=np.int64,
)  # fmt: skip
"""Families of lattice planes (Miller indices), shape (13, 3)."""


def contact_limits(numbers: NDArray[np.int64], factor: float) -> NDArray[np.float64]:
    """Return the shortest contact of each two atoms: a multiple of the sum of their neutral radii.

    Parameters
    ----------
    numbers
        Atomic numbers, shape (atoms,).
    factor
        The multiple.

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

    radii = np.array([element_radius(Element.from_Z(int(number)).symbol) for number in numbers])
    return np.asarray(factor * (radii[:, None] + radii[None, :]))


def widest_gaps(lattices: NDArray[np.float64], frac_coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the thickness of the widest slab without atomic centres between the planes of :data:`PLANES`.

    Parameters
    ----------
    lattices
        Lattice vectors as rows, A, shape (n, 3, 3).
    frac_coords
        Fractional coordinates, shape (n, atoms, 3).

    Returns
    -------
    numpy.ndarray
        In A, shape (n,).
    """
    spacings = 1.0 / np.linalg.norm(np.linalg.inv(lattices) @ PLANES.T, axis=1)
    heights = frac_coords @ PLANES.T.astype(np.float64)
    heights = np.sort(heights - np.floor(heights), axis=1)
    gaps = np.diff(heights, axis=1, append=heights[:, :1] + 1.0).max(axis=1)
    return np.asarray((gaps * spacings).max(axis=1))


def reasons(
    crystals: Crystals,
    limits: NDArray[np.float64],
    *,
    volumes: tuple[float, float],
    gap: float,
) -> Sequence[str]:
    """Say why each crystal is refused.

    Parameters
    ----------
    crystals
        The candidates.
    limits
        Shortest contact of each two atoms, A, shape (atoms, atoms); see :func:`contact_limits`.
    volumes
        Smallest and largest volume of the cell, A^3.
    gap
        Thickest slab without atoms, A.

    Returns
    -------
    sequence of str
        Empty for a crystal that may pass; else the reason, the cheapest test first.
    """
    found = np.full(len(crystals), "", dtype=object)
    size = np.abs(np.linalg.det(crystals.lattices))
    inside = (size >= volumes[0] * (1 - 1e-9)) & (size <= volumes[1] * (1 + 1e-9))
    found[~inside] = VOLUME
    left = np.flatnonzero(inside)
    from fuse_flows.potentials.contacts import short_contacts

    short = short_contacts(crystals.lattices[left], crystals.frac_coords[left], limits)
    found[left[short]] = CONTACT
    left = left[~short]
    found[left[widest_gaps(crystals.lattices[left], crystals.frac_coords[left]) > gap]] = SLAB
    return list(found)
