"""The sum of a job's candidates: small enough for an index, from which counts and rates are read."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import Field

from fuse_flows.schemas.base import Document

if TYPE_CHECKING:
    from collections.abc import Sequence


class Tally(Document):
    """What one job of a search has done."""

    n: int = Field(0, description="Candidates.")
    outcomes: dict[str, int] = Field(default_factory=dict, description="Candidates by outcome.")
    tiers: list[tuple[str, int, float]] = Field(
        default_factory=list,
        description="Calculators of the tiers in order, each with its relaxations and their seconds.",
    )
    worker: str = Field("", description="Host and process of the worker.")


def tally_of(candidates: Sequence[dict[str, Any]], worker: str) -> Tally:
    """Sum up candidates.

    Parameters
    ----------
    candidates
        :class:`.CandidateDoc` documents as plain values.
    worker
        Who made them.

    Returns
    -------
    Tally
        Of all of them.
    """
    numbers, seconds, names = Counter[int](), Counter[int](), dict[int, str]()
    for candidate in candidates:
        for place, tier in enumerate(candidate.get("tiers", ())):
            numbers[place] += 1
            seconds[place] += tier["seconds"]
            names.setdefault(place, tier["calculator"])
    return Tally(
        n=len(candidates),
        outcomes=dict(Counter(str(candidate["outcome"]) for candidate in candidates)),
        tiers=[(names[place], numbers[place], round(float(seconds[place]), 3)) for place in sorted(names)],
        worker=worker,
    )


def moment(at: datetime | None = None) -> str:
    """Return a time as it is stored: text in UTC that sorts as the times do.

    Parameters
    ----------
    at
        The time; None for now.

    Returns
    -------
    str
        To the millisecond.
    """
    return (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
