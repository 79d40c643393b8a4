"""Tiers that are relaxed in jobs of their own, for other workers, and how a chain of tiers is cut at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.config import SearchConfig, TierConfig

#: Calculators whose jobs belong into the queue unless the tier says otherwise.
_EXPENSIVE = frozenset({"vasp", "gpaw"})


def is_queue_tier(tier: TierConfig) -> bool:
    """Tell whether a tier is relaxed in jobs of its own.

    Parameters
    ----------
    tier
        The tier; without a word on its queue, VASP and GPAW are.
    """
    if tier.queue is None:
        return tier.calculator.lower() in _EXPENSIVE
    return tier.queue is not False


def category_of(tier: TierConfig) -> str:
    """Return the FireWorks category of the jobs of a queue tier."""
    name = tier.calculator.lower()
    return tier.queue_settings.category or (name if name in _EXPENSIVE else tier.calculator)


def categories(config: SearchConfig) -> list[str]:
    """Return the categories that a search needs workers for, beside those without one; in the order of its tiers."""
    return list(dict.fromkeys(category_of(tier) for tier in config.tiers if is_queue_tier(tier)))


def first_queue_tier(tiers: Sequence[TierConfig]) -> int | None:
    """Return the place of the first queue tier; None if there is none.

    The tiers before it are relaxed by the job that makes the proposal.
    """
    return next_queue_tier(tiers, -1)


def next_queue_tier(tiers: Sequence[TierConfig], place: int) -> int | None:
    """Return the place of the first queue tier after a place; None if there is none.

    The tiers in between are relaxed by the job that ends the tier at that place.
    """
    return next((number for number, tier in enumerate(tiers) if number > place and is_queue_tier(tier)), None)


def check_ranking(config: SearchConfig) -> None:
    """Refuse to rank the pool with a tier of the queue.

    Parameters
    ----------
    config
        The search.

    Raises
    ------
    ConfigError
        Naming the field and the fix.
    """
    tier = config.pool.rank_tier or config.tiers[0]
    if config.pool.rank != "none" and is_queue_tier(tier):
        msg = f"the pool cannot be ranked with {tier.calculator}, which runs in the queue; name a cheap tier"
        raise ConfigError("pool.rank_tier", msg)
