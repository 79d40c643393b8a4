"""Different structures among thousands of unrelaxed ones: radial fingerprints, compared by their angle.

The fingerprint is in the manner of Oganov and Valle (J. Chem. Phys. 130, 104504 (2009), 10.1063/1.3079326), in units
of the volume per atom, so copies of different volume are copies.
:class:`fuse_flows.generators.twins.TwinFinder` is for the structures of users, where exactness counts, and takes much
longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.generators.space.decode import Crystals

COPY_DISTANCE = 0.025
"""Structures nearer than this are copies. Displacements of 0.1 A (standard deviation) make 0.02; below 0.02 nearly all
pairs match by pymatgen's StructureMatcher, too, at 0.04 a third."""

_REACH, _BINS, _WIDTH = 3.5, 70, 0.06
"""In units of the cube root of the volume per atom."""


def fingerprints(crystals: Crystals) -> NDArray[np.float64]:
    """Return vectors of length 1 that tell crystals of one composition apart.

    Parameters
    ----------
    crystals
        The crystals.

    Returns
    -------
    numpy.ndarray
        Distributions of the distances of all pairs of elements, weighted by how many pairs there are, shape (n, m).
        Half of 1 minus the product of two of them is their distance, between 0 and 1.
    """
    from fuse_flows.potentials.batches import radial_densities

    kinds = np.unique(crystals.numbers, return_inverse=True)[1].astype(np.int64)
    densities = radial_densities(crystals.lattices, crystals.frac_coords, kinds, _REACH, _BINS, _WIDTH)
    counts = np.bincount(kinds)
    pairs = [counts[one] * counts[two] for two in range(len(counts)) for one in range(two + 1)]
    weighted = densities * np.sqrt(np.array(pairs, dtype=np.float64))[None, :, None]
    weighted = weighted.reshape(len(crystals), len(pairs) * _BINS)
    return weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)


def first_of_copies(crystals: Crystals, keep: int) -> tuple[NDArray[np.int64], int]:
    """Return the first structures that are not copies of one before.

    Parameters
    ----------
    crystals
        The structures, the most welcome one first.
    keep
        How many are wanted.

    Returns
    -------
    chosen, copies
        Their numbers, ascending, at most ``keep``; how many copies were passed over on the way.
    """
    prints = fingerprints(crystals)
    chosen: list[int] = []
    copies = 0
    for k, one in enumerate(prints):
        if len(chosen) == keep:
            break
        if chosen and 0.5 * (1.0 - (prints[chosen] @ one).max()) < COPY_DISTANCE:
            copies += 1
        else:
            chosen.append(k)
    return np.array(chosen, dtype=np.int64), copies
