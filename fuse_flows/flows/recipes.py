"""Searches by name: the combinations of generator, pre-relaxation and ranking of the FUSE2 paper.

``fgen`` begins with structures of the random assembler, ``mlgen`` with a generated pool. ``-spp`` relaxes every
structure with statistical proxy potentials before the final tier, and ranks the pool by relaxing it with them;
``-chgnet`` does so with CHGNet, whose ranking takes the structures as they are (10.1039/d4fd00094c, Sections 2 and 3).
"""

from __future__ import annotations

from typing import Any

from fuse_flows.config import SearchConfig, load_config
from fuse_flows.errors import ConfigError

FINAL = "chgnet"
"""Last tier of a recipe for which nobody named one."""

_PRE_TIERS = {"": None, "spp": "spp", "chgnet": "chgnet"}
_RANKS = {"spp": "relax", "chgnet": "single"}
RECIPES = tuple(f"{first}{'-' if tier else ''}{tier}" for first in ("fgen", "mlgen") for tier in _PRE_TIERS)
"""Names of the recipes."""


def recipe_values(name: str, final: str | None = None) -> dict[str, Any]:
    """Return what a recipe says of a search.

    Parameters
    ----------
    name
        One of :data:`RECIPES`.
    final
        Calculator of the last tier, which decides; None for CHGNet. A tier is not repeated where the one before it has
        the same calculator.

    Returns
    -------
    dict
        Keys and values of :class:`.SearchConfig`: ``tiers``, and with ``mlgen`` the section ``pool``.

    Raises
    ------
    ConfigError
        If there is no such recipe.
    """
    if name not in RECIPES:
        raise ConfigError("recipe", f"{name!r} is unknown; use one of {', '.join(RECIPES)}")
    source, _, suffix = name.partition("-")
    before, last = _PRE_TIERS[suffix], final or FINAL
    names = [before, last] if before not in (None, last.lower()) else [last]
    values: dict[str, Any] = {"tiers": [{"calculator": tier} for tier in names]}
    if source == "mlgen":
        values["pool"] = {"generate": {}}
        if before is not None:
            values["pool"] |= {"rank": _RANKS[before], "rank_tier": {"calculator": before}}
    return values


def recipe(name: str, formula: str, *, final: str | None = None, **overrides: Any) -> SearchConfig:
    """Return the configuration of a search by a recipe.

    Parameters
    ----------
    name
        One of :data:`RECIPES`.
    formula
        Formula of the search.
    final
        Calculator of the last tier; None for CHGNet.
    **overrides
        Keys of :class:`.SearchConfig` that are to be different from the recipe's, or are not in it; a dictionary is
        merged into its section.

    Returns
    -------
    SearchConfig
        The checked configuration.

    Raises
    ------
    ConfigError
        If there is no such recipe, or a value is refused.

    Examples
    --------
    >>> search = recipe("mlgen-spp", "Ca3Ti2O7", final="chgnet", max_atoms=24)
    >>> [tier.calculator for tier in search.tiers], search.pool.rank
    (['spp', 'chgnet'], 'relax')
    """
    return load_config(base=recipe_values(name, final), formula=formula, **overrides)
