"""Relaxations that are spread over several jobs: what was made before the queue, and what each job of it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.schemas.base import Document

if TYPE_CHECKING:
    from pymatgen.core import Structure


class ResultDoc(Document):
    """A :class:`.RelaxResult` as plain values."""

    outcome: Outcome
    structure: dict[str, Any]
    energy: float | None = None
    fmax: float | None = None
    smax: float | None = None
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float | None = None
    reason: str = ""
    engine: str = ""
    engine_version: str = ""
    corrections: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    pressure: float = 0.0

    @classmethod
    def from_result(cls, result: RelaxResult) -> Self:
        """Make the document from a result."""
        return cls(**{**result.__dict__, "structure": result.structure.as_dict(verbosity=0)})

    def to_result(self) -> RelaxResult:
        """Return the result."""
        return RelaxResult(**{**self.__dict__, "structure": self.to_structure()})

    def to_structure(self) -> Structure:
        """Return its structure."""
        from pymatgen.core import Structure

        return Structure.from_dict(self.structure)


class PreparedStructure(Document):
    """A proposal after the tiers before the queue."""

    candidate_id: str
    where: str = Field(description="Its place in the search, in words that no other candidate of the walker has.")
    structure: dict[str, Any] | None = Field(None, description="As proposed; None if nothing could be made.")
    results: list[ResultDoc] = Field(default_factory=list, description="Of the tiers before the queue, in order.")
    next: str | None = Field(None, description="Job that relaxes it further; None if it has come to its end.")


class PreparedDoc(Document):
    """Proposals that one job made and took through the tiers before the queue."""

    kind: Literal["prepared"] = "prepared"
    search_id: str
    walker: int = 0
    prepared: list[PreparedStructure] = Field(description="Empty until all are there.")
    begun: list[PreparedStructure] | None = Field(
        None, description="Those that were there when the allocation came to its end; the next job begins with them."
    )
    references: list[float | None] = Field(
        default_factory=list, description="Energies they are screened against: of the best candidate in each tier."
    )


class Errand(Document):
    """What a job of the queue is to do; its only argument beside the configuration."""

    candidate_id: str
    walker: int
    segment: int = Field(description="Segment of the job that made the proposal.")
    where: str = Field(description="Place of the candidate, in words that no other candidate of the walker has.")
    source: str = Field(description="Job whose output holds the structure that the tier begins with.")
    position: int | None = Field(None, description="Its place in a PreparedDoc; None: the end of an earlier tier.")
    tier: int = Field(description="Number of the tier, from 0.")
    part: int = Field(1, description="Number of the job for this tier, from 1.")
    previous: str | None = Field(None, description="Job that did the part before.")
    references: list[float | None] = Field(
        default_factory=list, description="Energy of the walker's best candidate in each tier, eV/atom."
    )

    @property
    def place(self) -> str:
        """The place of the job, from which its identifier follows."""
        return f"{self.where}, tier {self.tier + 1}, part {self.part}"


class RelaxationDoc(Document):
    """What a job of the queue did: the field ``relaxation`` of its output, beside the engine's own document."""

    candidate_id: str
    search_id: str
    tier: int = Field(description="Number of the tier, from 0.")
    part: int = Field(description="Number of the job for this tier, from 1.")
    results: list[ResultDoc] = Field(
        default_factory=list, description="Of this tier and those after it up to the next queue tier; none on the way."
    )
    progress: dict[str, Any] | None = Field(None, description="What the next job of this tier begins with.")
    tasks: list[str] = Field(default_factory=list, description="Jobs with documents of the engine, this one included.")
    next: str | None = Field(None, description="Job that goes on; None at the end.")
