"""Radii and usual coordination numbers of the elements, and what follows from them: the edge I_p and a density.

The tables are in ``fuse_flows/data/radii.json``, with their sources and with what was mended in them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from fuse_flows.config import GeneratorConfig
    from fuse_flows.structures.composition import FormulaUnit

_EDGE_DECIMALS = 4


@cache
def _tables() -> dict[str, Any]:
    """Read the shipped tables, once."""
    tables: dict[str, Any] = json.loads(resources.files("fuse_flows").joinpath("data/radii.json").read_text("utf-8"))
    return tables


def _entry(symbol: str, oxidation_state: float | None) -> tuple[float, int, int]:
    """Look up radius, smallest and largest coordination number."""
    tables = _tables()
    if oxidation_state is None:
        if symbol not in tables["neutral"]:
            raise ConfigError("formula", f"there is no atomic radius for {symbol}; it cannot be searched")
        radius, low, high = tables["neutral"][symbol]
        return float(radius), int(low), int(high)
    charges = tables["ionic"].get(symbol, {})
    entry = charges.get(f"{oxidation_state:g}")
    if entry is None:
        known = f"use one of {', '.join(f'{int(c):+d}' for c in charges)} for it or " if charges else ""
        msg = f"there is no ionic radius for {symbol} {oxidation_state:+g}; {known}leave oxidation_states out"
        raise ConfigError("oxidation_states", msg + " to use neutral radii")
    radius, low, high = entry
    return float(radius), int(low), int(high)


def element_radius(symbol: str, oxidation_state: float | None = None) -> float:
    """Return the radius of an element.

    Parameters
    ----------
    symbol
        Element symbol.
    oxidation_state
        Charge (e) for Shannon's ionic radius; None for the neutral atomic radius.

    Returns
    -------
    float
        Radius in angstrom.

    Raises
    ------
    ConfigError
        If there is no such entry; the message says what to do.
    """
    return _entry(symbol, oxidation_state)[0]


def coordination_range(symbol: str, oxidation_state: float | None = None) -> tuple[int, int]:
    """Return the smallest and the largest usual coordination number of an element; as :func:`element_radius`."""
    return _entry(symbol, oxidation_state)[1:]


def module_edge(formula_unit: FormulaUnit, generator: GeneratorConfig | None = None) -> float:
    """Return the edge I_p of a sub-module.

    Parameters
    ----------
    formula_unit
        Its atoms are averaged; with oxidation states the ionic radii are used.
    generator
        ``module_edge_scale`` multiplies the edge, ``module_edge`` then replaces it; None for neither.

    Returns
    -------
    float
        I_p in angstrom, in multiples of 1e-4: four times the mean radius of neutral atoms, or twice the mean
        radius of the cations plus twice that of the anions (FUSE2 paper, Section 2.1).

    Raises
    ------
    ConfigError
        If a radius is missing, or if the ions are not of both signs.
    """
    counts = np.array([n for _, n in formula_unit.counts], dtype=float)
    charges = [formula_unit.oxidation_state(el) for el in formula_unit.elements]
    radii = np.array([element_radius(el, q) for el, q in zip(formula_unit.elements, charges, strict=True)])
    if formula_unit.oxidation_states is None:
        edge = 4 * float(np.average(radii, weights=counts))
    else:
        cation = np.array([q is not None and q > 0 for q in charges])
        if cation.all() or not cation.any():
            msg = "must hold cations and anions; leave oxidation_states out to use neutral radii"
            raise ConfigError("oxidation_states", msg)
        edge = 2 * float(sum(np.average(radii[ions], weights=counts[ions]) for ions in (cation, ~cation)))
    if generator is not None:
        edge *= generator.module_edge_scale
        if generator.module_edge is not None:
            edge = generator.module_edge
    return round(edge, _EDGE_DECIMALS)


@cache
def ideal_density(formula_unit: FormulaUnit) -> float:
    """Return the density at which the spheres of all atoms would fill space completely.

    Parameters
    ----------
    formula_unit
        With oxidation states the ionic radii are used.

    Returns
    -------
    float
        Mass over the volume of the spheres, amu/A^3.

    Raises
    ------
    ConfigError
        If a radius is missing.
    """
    radii = [element_radius(el, formula_unit.oxidation_state(el)) for el in formula_unit.elements]
    spheres = sum(4 / 3 * np.pi * n * r**3 for (_, n), r in zip(formula_unit.counts, radii, strict=True))
    return float(formula_unit.mass / spheres)
