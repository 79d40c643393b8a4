"""Room for atoms that a move pushed too close together: all lengths grow a little, or the move is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.structures.checks import atom_table, check_structure, neighbour_pairs, shortest_distance

if TYPE_CHECKING:
    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import BlockStructure

MAX_GROWTH = 1.6
"""Largest factor on the volume."""

_OPEN_CONTACT = 0.65
"""Of the crystals of the Materials Project, 99.4 % have no contact below this times the sum of the two radii."""

_MARGIN = 1 + 1e-6


def with_open_contacts(structure: BlockStructure, context: MoveContext) -> BlockStructure | str:
    """Scale a structure up until its contacts are no longer too short, if that takes no more than 60 % of volume.

    The aim are contacts of 0.65 times the sum of the radii and of ``config.checks.min_distance``; only the latter
    decides, together with the density, whether the result is accepted.

    Parameters
    ----------
    structure
        The structure after a move.
    context
        Surroundings.

    Returns
    -------
    BlockStructure or str
        The structure as it was or scaled; or the reason why it is refused.
    """
    checks = context.config.checks
    limit = MAX_GROWTH ** (1 / 3)
    closest = shortest_distance(structure.lattice, structure.frac_coords)
    if closest * limit < checks.min_distance:
        return "contact too short"
    radii = atom_table(context.formula_unit).radius[structure.numbers]
    reach = max(checks.min_distance, 2 * _OPEN_CONTACT * float(radii.max()))
    first, second, distance = neighbour_pairs(structure.lattice, structure.frac_coords, reach)
    if distance.size:
        wanted = np.maximum(checks.min_distance, _OPEN_CONTACT * (radii[first] + radii[second]))
        factor = min(float((wanted / distance).max()) * _MARGIN, limit)
        if factor > _MARGIN:
            structure = structure.scaled(factor)
    reason = check_structure(
        structure, context.formula_unit, checks, max_atoms=context.config.max_atoms, coordination=False
    )
    return structure if reason is None else reason
