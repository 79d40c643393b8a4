"""The search space of one composition: a box of numbers, each point of which is a crystal of that composition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.generators.base import Cell
from fuse_flows.generators.space.combinations import Combinations
from fuse_flows.generators.space.groups import N_GROUPS, space_group
from fuse_flows.generators.space.lattices import N_PARAMETERS, conventional_lattices
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.volumes import estimated_volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from fuse_flows.generators.space.combinations import Orbits
    from fuse_flows.generators.space.groups import SpaceGroup

GROUP, COMBINATION, CELL, COORDINATES = 0, 1, 2, 2 + N_PARAMETERS
"""Where a vector keeps the space group, the Wyckoff combination, the cell (6 numbers) and the coordinates."""


class NoCombinationError(ConfigError):
    """No Wyckoff combination of the chosen space groups holds the atoms; other formula units may fit."""

    def __init__(self, message: str) -> None:
        super().__init__("space_groups", message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,)


@dataclass(frozen=True)
class Crystals:
    """Many crystals of the same composition as arrays.

    Attributes
    ----------
    lattices
        Primitive lattice vectors as rows, A, shape (n, 3, 3).
    numbers
        Atomic numbers, the same for all, shape (atoms,).
    frac_coords
        Fractional coordinates in [0, 1), shape (n, atoms, 3).
    groups
        Space group numbers asked for; a crystal may have a higher symmetry, shape (n,).
    """

    lattices: NDArray[np.float64]
    numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lattices)

    def cells(self) -> list[Cell]:
        """Return one cell for each crystal."""
        pairs = zip(self.lattices, self.frac_coords, strict=True)
        return [Cell(lattice, self.numbers, frac) for lattice, frac in pairs]

    def pick(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Crystals:
        """Return some of the crystals."""
        return Crystals(self.lattices[which], self.numbers, self.frac_coords[which], self.groups[which])


class _Operations:
    """The operations of all Wyckoff positions of some groups, stacked, so that many crystals take theirs at once."""

    def __init__(self, numbers: Iterable[int]) -> None:
        positions = [(number, position) for number in numbers for position in space_group(number).positions]
        ends = np.cumsum([position.multiplicity for _, position in positions]).tolist()
        self.rotations = np.concatenate([position.rotations for _, position in positions])
        self.translations = np.concatenate([position.translations for _, position in positions])
        self.backs = np.concatenate([position.backs for _, position in positions])
        self.rows: dict[int, list[range]] = {}
        for (number, position), end in zip(positions, ends, strict=True):
            self.rows.setdefault(number, []).append(range(end - position.multiplicity, end))


class _Layout(NamedTuple):
    """Where each atom of a crystal comes from: its operation, and the orbit whose coordinates it takes."""

    group: SpaceGroup
    operations: list[int]
    orbits: list[int]


class _Plan(NamedTuple):
    """Many crystals before their atoms are placed; of each atom the operation, the orbit, and the way back to it."""

    lattices: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    orbits: NDArray[np.int64]
    backs: NDArray[np.float64]
    groups: NDArray[np.int64]


class SearchSpace:
    """All crystals of a composition in a range of space groups, as points of the box [0, 1)^dimensions.

    Entry 0 of a vector chooses the space group (all that fit the composition are equally wide), entry 1 the Wyckoff
    combination (so are all of a group), entries 2 to 7 the cell, and three entries each the coordinates of an orbit.
    Entries that a crystal has no use for do not count.

    Parameters
    ----------
    counts
        Atoms of each element in one formula unit.
    formula_units
        Formula units in the primitive cell.
    space_groups
        First and last space group.
    volume
        Smallest and largest volume as fractions of the estimate for the composition.

    Raises
    ------
    NoCombinationError
        If no Wyckoff combination fits.
    ConfigError
        If an element is unknown, or if the range of groups is none.
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        formula_units: int,
        space_groups: tuple[int, int] = (1, N_GROUPS),
        volume: tuple[float, float] = (0.6, 1.6),
    ) -> None:
        from pymatgen.core import Element

        unknown = [symbol for symbol in counts if not Element.is_valid_symbol(symbol)]
        if unknown:
            raise ConfigError("formula", f"{', '.join(unknown)} is no element")
        first, last = space_groups
        if not 1 <= first <= last <= N_GROUPS:
            raise ConfigError("space_groups", f"{first} to {last} is no range; give two numbers from 1 to {N_GROUPS}")
        self.unit = FormulaUnit.from_counts(counts)
        self.atoms = tuple(n * formula_units for n in counts.values())
        self.numbers = np.repeat([Element(symbol).Z for symbol in counts], self.atoms).astype(np.int64)
        usable = [(number, combinations(number, self.atoms)) for number in range(first, last + 1)]
        self._choices = [(number, choice) for number, choice in usable if choice.number]
        if not self._choices:
            formula = f"{formula_units} x {self.unit.formula}"
            message = f"no Wyckoff combination of the groups {first} to {last} holds the atoms of {formula}"
            raise NoCombinationError(message + "; widen the range or allow more formula units")
        estimate = estimated_volume(self.unit) * len(self.numbers)
        self.volumes = (volume[0] * estimate, volume[1] * estimate)
        self.most_orbits = max(choice.most_orbits() for _, choice in self._choices)
        self._operations = _Operations(self.groups)
        self._remembered: dict[tuple[float, float], _Layout] = {}

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return COORDINATES + 3 * self.most_orbits

    @property
    def groups(self) -> tuple[int, ...]:
        """Space groups that can hold the composition."""
        return tuple(number for number, _ in self._choices)

    def combinations(self) -> float:
        """Return the number of Wyckoff combinations in all groups."""
        return sum(choice.number for _, choice in self._choices)

    def choose(self, vector: NDArray[np.float64]) -> tuple[int, Orbits]:
        """Return the space group and the Wyckoff combination of a vector."""
        number, choice = self._choices[min(int(vector[GROUP] * len(self._choices)), len(self._choices) - 1)]
        return number, choice.draw(float(vector[COMBINATION]))

    def decode(self, vectors: NDArray[np.float64]) -> Crystals:
        """Turn vectors into crystals.

        Parameters
        ----------
        vectors
            Numbers in [0, 1), shape (n, dimensions).

        Returns
        -------
        Crystals
            In the same order.
        """
        plan = self._plan(vectors)
        points = np.take_along_axis(plan.coordinates, plan.orbits[:, :, None], axis=1)
        frac = (plan.rotations @ points[..., None])[..., 0] + plan.translations
        frac -= np.floor(frac)
        return Crystals(plan.lattices, self.numbers, np.where(frac < 1.0, frac, 0.0), plan.groups)

    def separate(self, vectors: NDArray[np.float64], limits: NDArray[np.float64], rounds: int = 60) -> None:
        """Push the atoms of crystals apart, keeping cell and symmetry.

        Parameters
        ----------
        vectors
            Changed in place: coordinates of the orbits, shape (n, dimensions).
        limits
            Shortest contact of each two atoms, A, shape (atoms, atoms). Atoms without freedom cannot move.
        rounds
            Largest number of rounds for each crystal.
        """
        from fuse_flows.potentials.contacts import push_apart

        plan = self._plan(vectors)
        coordinates = np.ascontiguousarray(plan.coordinates)
        push_apart(
            plan.lattices, coordinates, plan.rotations, plan.translations, plan.orbits, plan.backs, limits, rounds
        )
        coordinates -= np.floor(coordinates)
        vectors[:, COORDINATES:] = np.where(coordinates < 1.0, coordinates, 0.0).reshape(len(vectors), -1)

    def _plan(self, vectors: NDArray[np.float64]) -> _Plan:
        layouts = [self._resolved(vector) for vector in vectors]
        groups = [layout.group for layout in layouts]
        n_atoms = len(self.numbers)
        operations = np.array([layout.operations for layout in layouts], dtype=np.int64).reshape(-1, n_atoms)
        centrings = np.array([group.centrings for group in groups], dtype=np.float64)
        conventional = conventional_lattices(
            vectors[:, CELL:COORDINATES],
            np.array([group.system for group in groups], dtype=np.str_),
            centrings == 3,
            (self.volumes[0] * centrings, self.volumes[1] * centrings),
        )
        return _Plan(
            np.array([group.primitive for group in groups]).reshape(-1, 3, 3) @ conventional,
            vectors[:, COORDINATES:].reshape(len(vectors), self.most_orbits, 3),
            self._operations.rotations[operations],
            self._operations.translations[operations],
            np.array([layout.orbits for layout in layouts], dtype=np.int64).reshape(-1, n_atoms),
            self._operations.backs[operations],
            np.array([group.number for group in groups], dtype=np.int64),
        )

    def _resolved(self, vector: NDArray[np.float64]) -> _Layout:
        """Return what the first two entries decide, remembered because each vector is looked at more than once."""
        key = (float(vector[GROUP]), float(vector[COMBINATION]))
        found = self._remembered.get(key)
        if found is None:
            number, chosen = self.choose(vector)
            rows = self._operations.rows[number]
            operations: list[int] = []
            orbits: list[int] = []
            for orbit, position in enumerate(k for element in chosen for k in element):
                operations.extend(rows[position])
                orbits.extend([orbit] * len(rows[position]))
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[key] = _Layout(space_group(number), operations, orbits)
        return found


_MOST_REMEMBERED = 5_000


@cache
def combinations(number: int, atoms: tuple[int, ...]) -> Combinations:
    """Return the Wyckoff combinations of a space group for numbers of atoms, counted once per process."""
    return Combinations(space_group(number), atoms)
