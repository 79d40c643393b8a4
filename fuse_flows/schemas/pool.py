"""The document that holds the pool of a search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fuse_flows.generators.pool import PoolMember
from fuse_flows.schemas.base import Document


class RankingDoc(Document):
    """Members of the pool that one job ranked."""

    kind: Literal["ranking"] = "ranking"
    search_id: str
    members: list[PoolMember] = Field(description="Those with an energy, in the order in which they came.")
    dropped: dict[str, int] = Field(default_factory=dict, description="How many have none, by outcome.")


class PoolDoc(Document):
    """The pool, written once by the first job of the search and read by every job that may draw from it."""

    kind: Literal["pool"] = "pool"
    search_id: str
    members: list[PoolMember] = Field(description="In the order in which they are used.")
    skipped: dict[str, int] = Field(default_factory=dict, description="What was left out on reading, by reason.")
    dropped: dict[str, int] = Field(
        default_factory=dict, description="Members whose energy could not be computed, by outcome."
    )
