"""Energies as the search compares them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def compared(document: Mapping[str, Any]) -> float | None:
    """Return what a candidate, or one of its tiers, is compared by: the enthalpy.

    Parameters
    ----------
    document
        As plain values; documents of versions before pressure have an energy only, which is the same.

    Returns
    -------
    float or None
        eV/atom; None without an energy.
    """
    enthalpy = document.get("enthalpy_per_atom")
    return document.get("energy_per_atom") if enthalpy is None else enthalpy


def quantised(energy: float, precision: float) -> float:
    """Round an energy to the nearest multiple of the precision.

    Parameters
    ----------
    energy
        eV/atom.
    precision
        eV/atom.

    Returns
    -------
    float
        eV/atom; equal minima found twice compare as equal.
    """
    digits = max(0, math.ceil(-math.log10(precision)) + 2)
    return round(round(energy / precision) * precision, digits)
