"""Room for atoms that a move brought too close together, or the refusal of the move.

Three remedies, all deterministic and bounded: atoms are pushed apart in an unchanged cell, all lengths grow, or, where
rigid slabs meet, the slabs are moved apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.checks import atom_table, check_structure
from fuse_flows.structures.neighbours import neighbour_pairs, neighbour_vectors
from fuse_flows.structures.volumes import OPEN_CONTACT, OUT_OF_WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.moves.base import MoveContext

MAX_GROWTH = 1.6
"""Largest factor on the volume."""

_MARGIN = 1 + 1e-6
_PUSHES = 12
"""Steps; more change little (the published structures, moves 7, 9 and 10)."""


def with_open_contacts(structure: BlockStructure, context: MoveContext) -> BlockStructure | str:
    """Open the contacts that are too short.

    The aim are contacts of 0.65 times the sum of the radii and of ``config.checks.min_distance``. If an expansion by
    at most 60 % of the volume does that, it is made, so that the arrangement stays as it is. Otherwise the atoms are
    first pushed apart, and the expansion does what remains. Only ``min_distance`` and the density decide whether the
    result is accepted.

    Parameters
    ----------
    structure
        The structure after a move.
    context
        Surroundings.

    Returns
    -------
    BlockStructure or str
        The structure as it was, or repaired; or the reason why it is refused.
    """
    limit = MAX_GROWTH ** (1 / 3)
    factor = needed_growth(structure, context)
    if factor > limit:
        structure = pushed_apart(structure, context)
        factor = min(needed_growth(structure, context), limit)
    if factor > _MARGIN:
        structure = structure.scaled(factor)
    return structure if (reason := _refusal(structure, context)) is None else reason


def needed_growth(structure: BlockStructure, context: MoveContext) -> float:
    """Return the factor on all lengths that would open all contacts.

    Parameters
    ----------
    structure
        The structure.
    context
        Surroundings.

    Returns
    -------
    float
        1 if all contacts are as long as :func:`with_open_contacts` aims at; infinite for coincident atoms.
    """
    radii, reach = _radii_and_reach(structure, context)
    first, second, distance = neighbour_pairs(structure.lattice, structure.frac_coords, reach)
    if not distance.size:
        return 1.0
    if not distance.min() > 0:
        return float("inf")
    return max(1.0, float((_wanted(radii, first, second, context) / distance).max()) * _MARGIN)


def pushed_apart(structure: BlockStructure, context: MoveContext) -> BlockStructure:
    """Push atoms apart like soft spheres, in a few steps and an unchanged cell.

    In each step every contact that is shorter than the aim of :func:`with_open_contacts` moves its two atoms by half
    of what is missing each. Coincident atoms have no direction and stay.

    Parameters
    ----------
    structure
        The structure.
    context
        Surroundings.

    Returns
    -------
    BlockStructure
        The structure after the last step, whether or not all contacts are open.
    """
    coords, inverse = structure.frac_coords, np.linalg.inv(structure.lattice)
    radii, reach = _radii_and_reach(structure, context)
    for _ in range(_PUSHES):
        first, second, vectors, distance = neighbour_vectors(structure.lattice, coords, reach)
        wanted = _wanted(radii, first, second, context)
        short = distance < wanted
        if not short.any():
            break
        # every pair is listed from both sides, so each entry moves its first atom only
        share = (wanted * _MARGIN - distance)[short] / 2 / np.maximum(distance[short], 1e-9)
        push = np.zeros((len(structure), 3))
        np.subtract.at(push, first[short], vectors[short] * share[:, None])
        coords = coords + push @ inverse
    return structure.with_atoms(structure.numbers, coords)


def with_open_joins(structure: BlockStructure, context: MoveContext, *, axis: int, slabs: int) -> BlockStructure | str:
    """Move slabs apart, along the normal of their faces, until no contact between neighbours is too short.

    The aim is that of :func:`with_open_contacts`, which takes over if the result does not pass. Distances inside the
    slabs stay as they are.

    Parameters
    ----------
    structure
        A stack of slabs of equal height.
    context
        Surroundings.
    axis
        Lattice vector along which the slabs follow each other.
    slabs
        Their number, at least 2.

    Returns
    -------
    BlockStructure or str
        The structure as it was or with wider joins, by at most 60 % of volume; or the reason why it is refused.
    """
    lattice, coords = structure.lattice, structure.frac_coords
    normal = np.cross(lattice[axis - 2], lattice[axis - 1])
    normal *= np.sign(normal @ lattice[axis]) / np.linalg.norm(normal)
    slab = np.floor(coords[:, axis] * slabs).astype(np.int64)
    widths = _join_widths(structure, context, normal, slab, slabs)
    if widths.any():
        widths *= min(1.0, (MAX_GROWTH - 1) * float(normal @ lattice[axis]) / widths.sum())
        lifts = np.concatenate([[0.0], np.cumsum(widths)])
        taller = lattice.copy()
        taller[axis] += lifts[-1] * normal
        positions = coords @ lattice + lifts[slab][:, None] * normal
        structure = BlockStructure(taller, structure.numbers, positions @ np.linalg.inv(taller), structure.grid)
    return with_checked_contacts(structure, context)


def with_checked_contacts(structure: BlockStructure, context: MoveContext) -> BlockStructure | str:
    """Return a structure as it is if it passes the checks, else with open contacts, or the reason of the refusal."""
    return structure if _refusal(structure, context) is None else with_open_contacts(structure, context)


def _join_widths(
    structure: BlockStructure,
    context: MoveContext,
    normal: NDArray[np.float64],
    slab: NDArray[np.int64],
    slabs: int,
) -> NDArray[np.float64]:
    """Return how far (angstrom) the slab above each slab must be moved away from it; above the last is the first."""
    radii, reach = _radii_and_reach(structure, context)
    first, second, vectors, distance = neighbour_vectors(structure.lattice, structure.frac_coords, reach)
    wanted = _wanted(radii, first, second, context)
    height = vectors @ normal
    join = (slab[second] == (slab[first] + 1) % slabs) & (height > 0) & (distance < wanted)
    lateral = np.maximum(distance**2 - height**2, 0)[join]
    missing = np.sqrt(np.maximum((wanted[join] * _MARGIN) ** 2 - lateral, 0)) - height[join]
    widths = np.zeros(slabs)
    np.maximum.at(widths, slab[first[join]], missing)
    return widths


def _wanted(
    radii: NDArray[np.float64], first: NDArray[np.int64], second: NDArray[np.int64], context: MoveContext
) -> NDArray[np.float64]:
    """Return the contacts that are aimed at, angstrom."""
    return np.maximum(context.config.checks.min_distance, OPEN_CONTACT * (radii[first] + radii[second]))


def _radii_and_reach(structure: BlockStructure, context: MoveContext) -> tuple[NDArray[np.float64], float]:
    """Return the radius of each atom and the longest contact that can be too short, angstrom."""
    radii = atom_table(context.formula_unit).radius[structure.numbers]
    return radii, max(context.config.checks.min_distance, 2 * OPEN_CONTACT * float(radii.max())) * _MARGIN


def _refusal(structure: BlockStructure, context: MoveContext) -> str | None:
    """Return why a structure does not pass the checks, coordination left out; None if it does."""
    config = context.config
    if context.window is not None and not context.window.holds(structure):
        return OUT_OF_WINDOW
    return check_structure(
        structure, context.formula_unit, config.checks, max_atoms=config.max_atoms, coordination=False
    )
