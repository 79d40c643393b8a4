"""Checks of a search before it is submitted: what would fail on every worker is said here, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_flows.errors import ConfigError
from fuse_flows.relax.calculators import check_calculator
from fuse_flows.relax.queue_tiers import check_ranking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_flows.config import SearchConfig


def check_search(config: SearchConfig) -> None:
    """Check that calculators, energy model and generator of a search can do what it asks of them.

    Parameters
    ----------
    config
        The search.

    Raises
    ------
    ConfigError
        Naming the field and the fix.
    MissingExtraError
        If the package of an extra is not installed.
    """
    check_ranking(config)
    for tier in config.every_tier:
        check_calculator(tier, list(config.counts))
    if config.pool.generate is not None:
        check_generation(config)


def check_generation(config: SearchConfig) -> None:
    """Check that structures can be generated for a search.

    Parameters
    ----------
    config
        The search, with ``pool.generate``.

    Raises
    ------
    ConfigError
        If no number of formula units fits, the energy model does not know an element or its file is bad, the plug-in
        is not there, or no combination of Wyckoff sites fits any number of formula units.
    MissingExtraError
        If the package of an extra is not installed.
    """
    from fuse_flows.generators.planning import generation_settings, units_to_generate
    from fuse_flows.generators.plugins import load_plugin
    from fuse_flows.relax.energy_model import check_energy_model

    units, settings = units_to_generate(config), generation_settings(config)
    if settings.plugin is not None:
        load_plugin(settings.plugin)
        return
    check_energy_model(config)
    if settings.space_groups[0] > 1:  # without symmetry everything fits
        _check_combinations(config.counts, units, settings.space_groups)


def _check_combinations(counts: dict[str, int], units: Iterable[int], space_groups: tuple[int, int]) -> None:
    """Raise ConfigError if no combination of Wyckoff sites fits any of the numbers of formula units."""
    from fuse_flows.generators.space.decode import NoCombinationError, SearchSpace

    last: NoCombinationError | None = None
    for number in units:
        try:
            SearchSpace(counts, number, space_groups)
        except NoCombinationError as error:
            last = error
        else:
            return
    if last is not None:
        msg = (
            "no combination of Wyckoff sites fits any number of formula units up to max_atoms; allow other space groups"
        )
        raise ConfigError("pool.generate.space_groups", f"{space_groups[0]}-{space_groups[1]}: {msg}") from last
