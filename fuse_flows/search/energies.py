"""Energies as the search compares them."""

from __future__ import annotations

import math


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
