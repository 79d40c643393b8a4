"""The minima that a walker has visited: which candidates are copies of one another, and which proposals are known.

Copies of one minimum never agree exactly. Over 927 pairs of copies among structures of SrTiO3 and MgO, relaxed with
CHGNet at the default tolerances, energies differed by up to 0.6 meV/atom, volumes by up to 1 % and positions by up to
0.036 (V/N)^(1/3); the space group at a tolerance of 0.1 A differed (R3m, P4mm, Amm2, Cm, Pm), the number of atoms of
the primitive cell at that tolerance did not. So a match needs the same number of atoms of the primitive cell, energy
and volume within the tolerances of the configuration, and a StructureMatcher that agrees; never the same space group.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.search.energies import compared
from fuse_flows.structures.fingerprint import (
    Cell,
    Fingerprint,
    energy_bin,
    primitive,
    reduced_structure,
    surroundings,
    volume_bin,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    from fuse_flows.config import DuplicatesConfig

VISITED_MINIMUM = "visited minimum"
"""Verdict of a candidate that relaxed into a visited minimum, and reason of a move that made one."""

# A proposal is known before it is relaxed only if it can hardly end elsewhere: every atom within 0.05 (V/N)^(1/3),
# about 0.1 A, which is little more than what copies of one minimum differ by. Those whose surroundings differ by more
# than 2 % (copies: 1 %) are not even looked at.
_TIGHT = {"ltol": 0.05, "stol": 0.05, "angle_tol": 2.0}
_SURROUNDINGS = 0.02
# A StructureMatcher is asked only about minima with like surroundings. Of 11 696 pairs of relaxed structures that it
# took for copies at stol 0.3 (CHGNet; Ca3Ti2O7, CoAs2, Li4OBrCl, Mn, WCl2), none had surroundings that differ by more
# than 0.034. Among thousands of minima this spares most of its time.
_SURROUNDINGS_PER_STOL = 1 / 3
_NEIGHBOURS = (-1, 0, 1)

_Bins = dict[tuple[int, int], dict[int, list["Minimum"]]]
"""Minima by atoms of the primitive cell and bin of volume, then by bin of energy."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """A relaxed candidate as the comparison needs it.

    Parameters
    ----------
    candidate_id
        Its identifier.
    energy_per_atom
        eV/atom.
    atoms
        Atoms of the primitive cell at the loose tolerance.
    cell
        The relaxed crystal in any cell.
    """

    candidate_id: str
    energy_per_atom: float
    atoms: int
    cell: Cell

    @classmethod
    def from_structure(cls, candidate_id: str, structure: Structure, energy_per_atom: float) -> Minimum:
        """Take a structure of pymatgen."""
        cell = Cell.from_structure(structure)
        return cls(candidate_id, energy_per_atom, len(primitive(cell).numbers), cell)

    @classmethod
    def from_candidate(cls, candidate: Mapping[str, Any]) -> Minimum | None:
        """Take the document of a candidate, as plain values; None unless its relaxation succeeded."""
        if (energy := compared(candidate)) is None or not candidate.get("fingerprint"):
            return None
        return cls(
            candidate_id=candidate["candidate_id"],
            energy_per_atom=energy,
            atoms=Fingerprint.parse(candidate["fingerprint"]).atoms,
            cell=Cell.from_dict(candidate["structure"]),
        )

    @cached_property
    def volume_per_atom(self) -> float:
        """Volume in cubic angstrom per atom."""
        return self.cell.volume_per_atom

    @cached_property
    def reduced(self) -> Structure:
        """Niggli form of the primitive cell."""
        return reduced_structure(self.cell)

    @cached_property
    def surroundings(self) -> NDArray[np.float64]:
        """What tells most others apart at a glance."""
        return surroundings(self.cell)


class VisitedMinima:
    """One representative, the first candidate, of every cluster of copies.

    Parameters
    ----------
    config
        When two candidates are copies.
    minima
        The representatives known so far, in the order in which they were visited.
    before
        Others, visited before these: they are looked into but never added to, so that making one of these objects
        takes no longer the more minima there are. It must not grow as long as this object is used.
    """

    def __init__(
        self, config: DuplicatesConfig, minima: Iterable[Minimum] = (), before: VisitedMinima | None = None
    ) -> None:
        self._config = config
        self._before = before
        self._by_volume: _Bins = defaultdict(lambda: defaultdict(list))
        self._size = 0
        for minimum in minima:
            self.add(minimum)

    def __len__(self) -> int:
        return self._size + (0 if self._before is None else len(self._before))

    def add(self, minimum: Minimum) -> None:
        """Add a minimum that is known to be new.

        Parameters
        ----------
        minimum
            The first candidate of its cluster.
        """
        key = (minimum.atoms, volume_bin(minimum.volume_per_atom, self._config.volume_tolerance))
        energies = self._by_volume[key]
        energies[energy_bin(minimum.energy_per_atom, self._config.energy_tolerance)].append(minimum)
        self._size += 1

    def cluster_of(self, minimum: Minimum) -> str:
        """Put a relaxed candidate into its cluster; a new minimum opens one.

        Parameters
        ----------
        minimum
            The candidate.

        Returns
        -------
        str
            Identifier of the first candidate of the cluster: its own if it is new.
        """
        known = self.find(minimum)
        if known is None:
            self.add(minimum)
            return minimum.candidate_id
        return known.candidate_id

    def find(self, minimum: Minimum) -> Minimum | None:
        """Look for the representative that a relaxed candidate is a copy of.

        Parameters
        ----------
        minimum
            The candidate.

        Returns
        -------
        Minimum or None
            Of several, the one next in energy; of these the first one visited.
        """
        here = energy_bin(minimum.energy_per_atom, self._config.energy_tolerance)
        near = [
            (distance, known)
            for layers in self._near_in_volume(minimum.atoms, minimum.volume_per_atom)
            for shift in _NEIGHBOURS
            for bins in layers
            for known in bins.get(here + shift, ())
            if (distance := abs(known.energy_per_atom - minimum.energy_per_atom)) < self._config.energy_tolerance
            and self._same_volume(known, minimum.volume_per_atom)
        ]
        tolerance = _SURROUNDINGS_PER_STOL * self._config.stol
        for _, known in sorted(near, key=lambda pair: pair[0]):
            if _alike(known.surroundings, minimum.surroundings, tolerance) and self._matcher.fit(
                known.reduced, minimum.reduced, skip_structure_reduction=True
            ):
                return known
        return None

    def recognise(self, structure: Structure) -> Minimum | None:
        """Look for the minimum that a structure is before it is relaxed: of its volume, and with tight tolerances.

        Parameters
        ----------
        structure
            A proposal, not rattled.

        Returns
        -------
        Minimum or None
            The first one that it is identical to.
        """
        proposal = Minimum.from_structure("", structure, math.nan)
        volume = proposal.volume_per_atom
        near = [known for layers in self._near_in_volume(proposal.atoms, volume) for known in _in_order(layers)]
        near = [known for known in near if self._same_volume(known, volume)]
        if not near:
            return None
        alike = _alike(np.array([known.surroundings for known in near]), proposal.surroundings, _SURROUNDINGS)
        for known in (near[k] for k in np.flatnonzero(alike)):
            if self._tight_matcher.fit(known.reduced, proposal.reduced, skip_structure_reduction=True):
                return known
        return None

    def _near_in_volume(self, atoms: int, volume: float) -> Iterator[list[dict[int, list[Minimum]]]]:
        """Yield the minima in the bin of a volume and in those beside it, by bins of energy; earlier layers first."""
        here = volume_bin(volume, self._config.volume_tolerance)
        for shift in _NEIGHBOURS:
            layers = self._layers((atoms, here + shift))
            if layers:
                yield layers

    def _layers(self, key: tuple[int, int]) -> list[dict[int, list[Minimum]]]:
        layers = [] if self._before is None else self._before._layers(key)  # noqa: SLF001 - of the same class
        own = self._by_volume.get(key)
        return [*layers, own] if own else layers

    def _same_volume(self, known: Minimum, volume: float) -> bool:
        return abs(math.log(known.volume_per_atom / volume)) < math.log1p(self._config.volume_tolerance)

    @cached_property
    def _matcher(self) -> StructureMatcher:
        config = self._config
        return _matcher(ltol=config.ltol, stol=config.stol, angle_tol=config.angle_tol)

    @cached_property
    def _tight_matcher(self) -> StructureMatcher:
        return _matcher(**_TIGHT)


def clusters_of(config: DuplicatesConfig, members: Iterable[Minimum]) -> dict[str, str]:
    """Cluster the first population.

    Parameters
    ----------
    config
        When two candidates are copies.
    members
        Its relaxed members, in order.

    Returns
    -------
    dict
        Identifier of each member to that of the first member of its cluster.
    """
    visited = VisitedMinima(config)
    return {member.candidate_id: visited.cluster_of(member) for member in members}


def _in_order(layers: list[dict[int, list[Minimum]]]) -> list[Minimum]:
    """Return the minima as if all had been put into one layer: bins of energy as they were opened, oldest first."""
    energies = dict.fromkeys(energy for bins in layers for energy in bins)
    return [known for energy in energies for bins in layers for known in bins.get(energy, ())]


def _alike(known: NDArray[np.float64], other: NDArray[np.float64], tolerance: float) -> Any:
    """Tell whether the surroundings of minima, one in each row, are those of another one up to a relative tolerance."""
    within = tolerance * (known + known.mean(axis=-1, keepdims=True) / 10)
    return (np.abs(known - other) <= within).all(axis=-1)


def _matcher(**tolerances: Any) -> StructureMatcher:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(**tolerances)
