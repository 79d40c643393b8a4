"""The documents that hold the pool of a search, and what became of the structures that were to be in it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fuse_flows.generators.pool import PoolMember
from fuse_flows.schemas.base import Document


class RankingDoc(Document):
    """Members of the pool that one job ranked."""

    kind: Literal["ranking"] = "ranking"
    search_id: str
    members: list[PoolMember] = Field(description="Those with an energy, in the order in which they came.")
    dropped: dict[str, int] = Field(default_factory=dict, description="How many have none, by outcome.")
    done: int | None = Field(
        None,
        description="How many of its structures were computed when the allocation came to its end; the next job goes "
        "on from there. None: all.",
    )
    cpu_seconds: float = Field(0.0, description="CPU time so far, of all its parts.")


class GenerationSummary(Document):
    """What came of generating structures with one number of formula units."""

    formula_units: int
    generator: str = Field(description="The optimiser, or the plug-in.")
    energy_model: str = Field("", description="Name and version; empty for a plug-in.")
    evaluated: int = Field(description="Candidates whose energy was predicted, or that the plug-in made.")
    kept: int = Field(description="Structures that were handed on.")
    rejected: dict[str, int] = Field(default_factory=dict, description="Candidates that were refused, by reason.")
    seconds: dict[str, float] = Field(default_factory=dict, description="Seconds, by what they were spent on.")
    reason: str = Field(
        "", description="Why there are fewer structures than wanted, or none; empty if there are enough."
    )


class GeneratedDoc(Document):
    """Structures that one job generated."""

    kind: Literal["generated"] = "generated"
    search_id: str
    summary: GenerationSummary
    members: list[PoolMember] = Field(description="The structures that are kept, lowest in predicted energy first.")
    begun: dict[str, Any] | None = Field(
        None,
        description="The generation as it stood when the allocation came to its end; the next job goes on from there.",
    )


class PoolDoc(Document):
    """The pool, written once before the first population and read by every job that may draw from it."""

    kind: Literal["pool"] = "pool"
    search_id: str
    members: list[PoolMember] = Field(description="In the order in which they are used.")
    skipped: dict[str, int] = Field(default_factory=dict, description="What was left out on reading, by reason.")
    dropped: dict[str, int] = Field(
        default_factory=dict,
        description="Members that were left out later: those whose energy could not be computed, by outcome, copies of "
        "lower ones, and those beyond the largest size of a pool.",
    )
    generated: list[GenerationSummary] = Field(
        default_factory=list, description="What came of the generation, for each number of formula units."
    )
    volume: float | None = Field(
        None,
        description="Median volume per atom, A^3, if structures were generated; see `pool.volume` in SearchConfig.",
    )
    fallback: str | None = Field(
        None,
        description="Why the random assembler fills the first population although structures were to be generated.",
    )
