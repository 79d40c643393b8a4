"""The formula unit: which atoms a structure is made of, and how many units a structure holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.errors import FuseFlowsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from fuse_flows.config import SearchConfig


class CompositionError(FuseFlowsError, ValueError):
    """A structure does not hold a whole number of formula units."""


@dataclass(frozen=True)
class FormulaUnit:
    """One formula unit; hashable, so that everything derived from it can be cached.

    Parameters
    ----------
    counts
        Element symbols and atoms per formula unit, in the order of the formula; ``dict(counts)`` gives a mapping.
    oxidation_states
        Element symbols and charges (e), which switch the radii to the ionic table; None for neutral atoms.
    """

    counts: tuple[tuple[str, int], ...]
    oxidation_states: tuple[tuple[str, float], ...] | None = None

    def __post_init__(self) -> None:
        if not self.counts or any(n < 1 for _, n in self.counts):
            raise CompositionError("a formula unit needs at least one element and counts above zero")

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], oxidation_states: Mapping[str, float] | None = None) -> FormulaUnit:
        """Build a formula unit from mappings.

        Parameters
        ----------
        counts
            Atoms of each element in one formula unit.
        oxidation_states
            Charge of each element, e.
        """
        states = None if oxidation_states is None else tuple((el, float(oxidation_states[el])) for el in counts)
        return cls(tuple((el, int(n)) for el, n in counts.items()), states)

    @classmethod
    def from_config(cls, config: SearchConfig) -> FormulaUnit:
        """Take the formula unit of a search."""
        return cls.from_counts(config.counts, config.oxidation_states)

    @property
    def formula(self) -> str:
        """The formula, in the order it was given."""
        return "".join(f"{el}{n if n > 1 else ''}" for el, n in self.counts)

    @property
    def elements(self) -> tuple[str, ...]:
        """The element symbols, in the order of the formula."""
        return tuple(el for el, _ in self.counts)

    @property
    def n_atoms(self) -> int:
        """Atoms in one formula unit."""
        return sum(n for _, n in self.counts)

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers of one formula unit, shape (n_atoms,), in the order of the formula; read-only."""
        from pymatgen.core import Element

        numbers = np.repeat([Element(el).Z for el in self.elements], [n for _, n in self.counts]).astype(np.int64)
        numbers.setflags(write=False)
        return numbers

    @cached_property
    def mass(self) -> float:
        """Mass of one formula unit, amu."""
        from ase.data import atomic_masses, atomic_numbers

        return float(sum(n * atomic_masses[atomic_numbers[el]] for el, n in self.counts))

    def oxidation_state(self, element: str) -> float | None:
        """Charge of an element (e), or None when the atoms are taken as neutral."""
        return None if self.oxidation_states is None else dict(self.oxidation_states)[element]

    def formula_units(self, max_atoms: int) -> range:
        """Return the numbers of formula units that fit into ``max_atoms`` atoms; empty if none fits."""
        return range(1, max_atoms // self.n_atoms + 1)

    def count_in(self, numbers: ArrayLike) -> int:
        """Count the formula units in a structure.

        Parameters
        ----------
        numbers
            Atomic numbers of the structure, shape (N,).

        Returns
        -------
        int
            The number of formula units.

        Raises
        ------
        CompositionError
            If the atoms are not a whole number of formula units.
        """
        found = np.bincount(np.asarray(numbers, dtype=np.int64), minlength=1)
        unit = np.bincount(self.numbers, minlength=len(found))
        units = int(found.sum()) // self.n_atoms
        if units < 1 or len(found) > len(unit) or not np.array_equal(found, units * unit[: len(found)]):
            raise CompositionError(f"{int(found.sum())} atoms are not a whole number of formula units {self.formula}")
        return units
