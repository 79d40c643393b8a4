"""Moves of atoms between the present positions: moves 1, 3 and 5 of the FUSE2 paper, Section 2.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import MoveName
from fuse_flows.moves.base import first_success

if TYPE_CHECKING:
    from fuse_flows.moves.base import MoveContext
    from fuse_flows.structures.blocks import BlockStructure

_PERMUTED_ATOMS = 4
"""Smallest structure for which permuting atoms is more than an exchange of two."""


def has_two_elements(structure: BlockStructure, context: MoveContext) -> str | None:  # noqa: ARG001 - a guard
    """Guard: species can only be exchanged between different elements."""
    return None if len(np.unique(structure.numbers)) > 1 else "only one element"


def has_atoms_to_permute(structure: BlockStructure, context: MoveContext) -> str | None:
    """Guard: two elements and at least four atoms."""
    return has_two_elements(structure, context) or ("too few atoms" if len(structure) < _PERMUTED_ATOMS else None)


def swap_atoms(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 1: exchange two atoms of different elements.

    Parameters
    ----------
    structure
        The relaxed structure.
    context
        Surroundings.
    rng
        Source of randomness.

    Returns
    -------
    BlockStructure
        The new structure.

    Raises
    ------
    MoveFailed
        If every exchange gives the parent.
    """

    def attempt() -> BlockStructure:
        numbers = structure.numbers.copy()
        one = int(rng.integers(len(numbers)))
        other = int(rng.choice(np.flatnonzero(numbers != numbers[one])))
        numbers[[one, other]] = numbers[[other, one]]
        return structure.with_atoms(numbers, structure.frac_coords)

    return first_success(MoveName.SWAP_ATOMS, structure, context, attempt)


def permute_atoms(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 3: permute at least three atoms, but not all of them.

    Their number is uniform between three and one less than all; each attempt draws it and the atoms anew.

    Parameters
    ----------
    structure
        The relaxed structure.
    context
        Surroundings.
    rng
        Source of randomness.

    Returns
    -------
    BlockStructure
        The new structure.

    Raises
    ------
    MoveFailed
        If every permutation tried gives the parent.
    """

    def attempt() -> BlockStructure | str:
        picked = rng.choice(len(structure), size=int(rng.integers(3, len(structure))), replace=False)
        species = structure.numbers[picked]
        if (species == species[0]).all():
            return "only one element drawn"
        numbers = structure.numbers.copy()
        numbers[picked] = rng.permutation(species)
        return structure.with_atoms(numbers, structure.frac_coords)

    return first_success(MoveName.PERMUTE_ATOMS, structure, context, attempt)


def permute_all_atoms(structure: BlockStructure, context: MoveContext, rng: np.random.Generator) -> BlockStructure:
    """Move 5: distribute all atoms over the present positions at random.

    Parameters
    ----------
    structure
        The relaxed structure.
    context
        Surroundings.
    rng
        Source of randomness.

    Returns
    -------
    BlockStructure
        The new structure.

    Raises
    ------
    MoveFailed
        If every permutation tried gives the parent.
    """

    def attempt() -> BlockStructure:
        return structure.with_atoms(rng.permutation(structure.numbers), structure.frac_coords)

    return first_success(MoveName.PERMUTE_ALL_ATOMS, structure, context, attempt)
