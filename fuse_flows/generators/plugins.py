"""Generators of other packages: entry points of the group ``fuse_flows.generators``.

An entry point is a callable ``(config: SearchConfig, formula_units: int, seed: int) -> Iterable[Structure]``. It yields
ordered structures with that many formula units, the best first if it knows; the same arguments must give the same
structures, or a search that is resumed is not the one that was begun.
"""

from __future__ import annotations

import time
from collections import Counter
from importlib.metadata import EntryPoint, entry_points
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fuse_flows.errors import ConfigError, JobFailedError
from fuse_flows.generators.files import SkipReason, refusal
from fuse_flows.generators.planning import Share, generation_settings
from fuse_flows.generators.pool import PoolMember
from fuse_flows.generators.twins import TwinFinder
from fuse_flows.structures.composition import FormulaUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymatgen.core import Structure

    from fuse_flows.config import SearchConfig

    Plugin = Callable[[SearchConfig, int, int], Iterable[Structure]]

GROUP = "fuse_flows.generators"
_FIELD = "pool.generate.plugin"


def plugin_versions() -> dict[str, str]:
    """Return the generators of other packages that are installed.

    Returns
    -------
    dict
        Name of the entry point to name and version of its package.
    """
    return {found.name: _package(found) for found in entry_points(group=GROUP)}


def load_plugin(name: str) -> Plugin:
    """Return a generator of another package.

    Parameters
    ----------
    name
        Name of its entry point.

    Returns
    -------
    callable
        ``(config, formula_units, seed) -> iterable of Structure``.

    Raises
    ------
    ConfigError
        If there is none of that name, or it cannot be imported.
    """
    entry = _find(name)
    try:
        plugin = entry.load()
    except Exception as error:  # code of others may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(_FIELD, f"{name} ({_package(entry)}) cannot be imported: {reason}") from error
    if not callable(plugin):
        raise ConfigError(_FIELD, f"{name} ({_package(entry)}) is a {type(plugin).__name__} and cannot be called")
    return cast("Plugin", plugin)


def share_of_plugin(name: str, config: SearchConfig, formula_units: int, seed: int) -> Share:
    """Take structures from a generator of another package; what cannot serve in the search is counted.

    Parameters
    ----------
    name
        Name of its entry point.
    config
        The search.
    formula_units
        The number of formula units to ask for.
    seed
        Its seed.

    Returns
    -------
    Share
        The first ``keep`` of the structures that serve, among at most ``candidates``.

    Raises
    ------
    ConfigError
        If there is no such generator.
    JobFailedError
        If the generator raises, or returns nothing that can be iterated; with its last words.
    """
    settings, formula_unit = generation_settings(config), FormulaUnit.from_config(config)
    start = time.monotonic()
    rejected, twins = Counter[str](), TwinFinder()
    members: list[PoolMember] = []
    evaluated = 0
    for structure in _made(name, config, formula_units, seed):
        evaluated += 1
        reason = _refusal(structure, formula_unit, config)
        if reason is None and twins.has_twin(structure):
            reason = SkipReason.DUPLICATE
        if reason is not None:
            rejected[reason.value] += 1
            continue
        members.append(PoolMember.from_structure(f"{name}-{formula_units}-{evaluated}", structure))
        if len(members) == settings.keep:
            break
    return Share(members, evaluated, dict(rejected), {"plug-in": round(time.monotonic() - start, 3)})


def _made(name: str, config: SearchConfig, formula_units: int, seed: int) -> Iterator[Any]:
    """Yield what a generator makes; what goes wrong in it is told with its name."""
    plugin, wanted = load_plugin(name), generation_settings(config).candidates
    try:
        yield from islice(plugin(config, formula_units, seed), wanted)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"the generator {name} ({plugin_version(name)}) failed: {reason}"
        raise JobFailedError(msg) from error


def plugin_version(name: str) -> str:
    """Return name and version of the package of a generator.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    return _package(_find(name))


def _find(name: str) -> EntryPoint:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        msg = f"no installed package has a generator {name!r} (group {GROUP}); there are: {known}"
        raise ConfigError(_FIELD, msg)
    return found[name]


def _refusal(structure: Any, formula_unit: FormulaUnit, config: SearchConfig) -> SkipReason | None:
    from pymatgen.core import Structure

    if not isinstance(structure, Structure) or not len(structure):
        return SkipReason.UNREADABLE
    if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
        return SkipReason.UNREADABLE
    return refusal(structure, formula_unit, config)


def _package(entry: EntryPoint) -> str:
    return "unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
