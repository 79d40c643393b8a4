"""Which structures a search asks its generator for, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_flows.config import GenerationConfig, SearchConfig
    from fuse_flows.generators.pool import PoolMember

MOST_ATOMS = 100_000
"""Atoms in one document of generated structures, and in the pool: about 6 MB, where MongoDB takes 16."""


@dataclass(frozen=True)
class Share:
    """What was generated with one number of formula units, as the documents tell it.

    Parameters
    ----------
    members
        The structures that are kept, best first.
    evaluated
        How many candidates there were.
    rejected
        How many of them were refused, by reason.
    seconds
        Seconds, by what they were spent on.
    reason
        Why there are fewer structures than wanted, or none; empty if there are enough.
    """

    members: list[PoolMember]
    evaluated: int
    rejected: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def generation_settings(config: SearchConfig) -> GenerationConfig:
    """Return the settings of the generation of a search.

    Parameters
    ----------
    config
        The search.

    Returns
    -------
    GenerationConfig
        Its section ``pool.generate``.

    Raises
    ------
    ConfigError
        If it generates nothing.
    """
    if config.pool.generate is None:
        raise ConfigError("pool.generate", "is not there; give it, if only {} for the default settings")
    return config.pool.generate


def units_to_generate(config: SearchConfig) -> range:
    """Return the numbers of formula units for which structures are generated.

    Parameters
    ----------
    config
        The search.

    Returns
    -------
    range
        As ``pool.generate.formula_units`` says, as far as they fit into ``max_atoms``.

    Raises
    ------
    ConfigError
        If none of them fits, or too many structures are to be kept for one document of the database.
    """
    settings, per_unit = generation_settings(config), sum(config.counts.values())
    fitting = config.max_atoms // per_unit
    first, last = settings.formula_units or (1, fitting)
    units = range(first, min(last, fitting) + 1)
    if not units:
        msg = f"{first} formula units of {config.formula} have {first * per_unit} atoms, but max_atoms is "
        raise ConfigError("pool.generate.formula_units", f"{msg}{config.max_atoms}; change either")
    largest = units[-1] * per_unit
    if settings.keep * largest > MOST_ATOMS:
        msg = f"{settings.keep} structures of {largest} atoms do not fit into one document of MongoDB; keep at most "
        raise ConfigError("pool.generate.keep", f"{msg}{MOST_ATOMS // largest}")
    return units


def in_order(members: Iterable[PoolMember]) -> list[PoolMember]:
    """Sort members by their energies; those without one stay in front, in the order in which they came.

    Parameters
    ----------
    members
        The members.

    Returns
    -------
    list of PoolMember
        Equal energies keep their order.
    """
    return sorted(members, key=_energy)


def _energy(member: PoolMember) -> float:
    return float("-inf") if member.energy_per_atom is None else member.energy_per_atom


def that_fit(members: Iterable[PoolMember]) -> list[PoolMember]:
    """Return the first members, as many as one document may hold."""
    fitting: list[PoolMember] = []
    atoms = 0
    for member in members:
        atoms += len(member)
        if atoms > MOST_ATOMS:
            break
        fitting.append(member)
    return fitting
