"""The state of one walker: small, JSON-able, and enough to go on with the search anywhere."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from pydantic import Field

from fuse_flows.config import MoveName
from fuse_flows.search.policy_state import PolicyState, Record


class CandidateSummary(Record):
    """A candidate as the engine needs it."""

    candidate_id: str = Field(description="Identifier of the candidate's document.")
    step: int = Field(description="Step in which it was proposed; 0 for the first population.")
    index: int = Field(description="Number of the proposal within the step.")
    energy_per_atom: float = Field(description="Energy of the last tier, eV/atom.")
    n_atoms: int = Field(description="Atoms in the relaxed cell.")
    tier_energies: list[float | None] = Field(
        default_factory=list, description="Energy at the end of each tier, eV/atom."
    )


class MoveStatistics(Record):
    """What became of one kind of move."""

    proposed: int = Field(0, description="Structures it made.")
    accepted: int = Field(0, description="Structures that became the current one.")
    failed: dict[str, int] = Field(default_factory=dict, description="How often it could not be made, by reason.")


class ExchangeStatistics(Record):
    """How often a walker was asked to swap structures with a neighbour, and did."""

    proposed: int = 0
    accepted: int = 0

    def after(self, *, accepted: bool) -> ExchangeStatistics:
        """Return the statistics with one more attempt."""
        return ExchangeStatistics(proposed=self.proposed + 1, accepted=self.accepted + accepted)


class VolumeSample(Record):
    """Energy and volume of a relaxed candidate."""

    energy_per_atom: float = Field(description="eV/atom.")
    volume_per_atom: float = Field(gt=0, description="A^3.")


class SearchState(Record):
    """Where a walker stands after ``step`` steps.

    The structure of the current candidate is kept as a dictionary (pymatgen), so that a step needs nothing but this
    document to go on.
    """

    search_id: str
    walker: int = 0
    step: int = Field(0, description="Steps judged so far; the first population is step 0.")
    n_structures: int = Field(description="Structures judged so far, the first population included.")
    current: CandidateSummary | None = Field(None, description="The structure that moves start from.")
    current_structure: dict[str, Any] | None = Field(None, description="Relaxed structure of `current`.")
    best: CandidateSummary | None = Field(None, description="Lowest energy so far.")
    since_best: int = Field(0, description="Structures since the last new lowest energy.")
    since_downhill: int = Field(0, description="Structures since the last downhill step.")
    temperature: float = Field(description="Metropolis temperature, eV/atom.")
    melted: bool = Field(default=False, description="Whether the melted move weights are in force.")
    moves: dict[MoveName, MoveStatistics] = Field(default_factory=dict)
    policy: PolicyState | None = Field(None, description="What was learnt about the moves; None unless `reinforce`.")
    exchanges: ExchangeStatistics = Field(default=ExchangeStatistics(), description="Replica exchange at meetings.")
    used_pool_members: list[int] = Field(default_factory=list, description="Numbers of the pool members proposed.")
    volumes: list[VolumeSample] = Field(default_factory=list, description="The lowest distinct candidates.")
    outcomes: dict[str, int] = Field(default_factory=dict, description="Structures by outcome.")
    began: datetime | None = Field(None, description="When the walk began, set once; only the wall clock reads it.")
    stop_reason: str | None = Field(None, description="Why the search ended; None while it goes on.")

    @property
    def references(self) -> list[float | None]:
        """Energies of the best candidate in each tier, eV/atom, which candidates are screened against."""
        return [] if self.best is None else self.best.tier_energies


def candidate_id(search_id: str, walker: int, step: int, index: int) -> str:
    """Return the identifier of a candidate: a hash of its place in the search.

    Parameters
    ----------
    search_id, walker, step, index
        The place.

    Returns
    -------
    str
        16 hexadecimal digits; a step run again writes the same identifiers.
    """
    return hashlib.sha256(f"{search_id}/{walker}/{step}/{index}".encode()).hexdigest()[:16]
