"""What the FUSE2 paper reports of its experiments (10.1039/d4fd00094c, Section 3), as far as it is in numbers."""

from __future__ import annotations

KNOWN = ("Ca3Ti2O7", "CoAs2", "Cu7S4", "Mn", "Pb5As3O12Cl", "Si6Al6B3Fe3NaO30F", "WCl2", "YWB4")
"""Compounds with a reported crystal structure."""
HYPOTHETICAL = ("Li2Sn2S3Cl4", "Li3Si3O5Cl5", "Li4OBrCl")
COMPOUNDS = KNOWN + HYPOTHETICAL
RECIPES = ("fgen", "fgen-spp", "mlgen", "mlgen-spp")
"""Recipes that the paper ran for all compounds."""

_ENERGIES = {
    "Ca3Ti2O7": (-7.69, -7.64, -7.69, -7.73),
    "CoAs2": (-5.55, -5.43, -5.62, -5.57),
    "Cu7S4": (-3.97, -4.01, -4.03, -4.03),
    "Mn": (-8.93, -8.92, -8.93, -8.93),
    "Pb5As3O12Cl": (-5.31, -5.55, -5.59, -5.56),
    "Si6Al6B3Fe3NaO30F": (-7.03, -7.09, -7.01, -7.37),
    "WCl2": (-5.94, -6.12, -6.03, -6.14),
    "YWB4": (-8.14, -8.12, -7.79, -8.14),
}
LOWEST = {formula: dict(zip(RECIPES, energies, strict=True)) for formula, energies in _ENERGIES.items()}
"""Lowest energy of three runs, PBE, eV/atom."""

SPEED = (
    "mlgen up to 8.3 times, on average 2.2 times as fast per structure as fgen; mlgen-SPP on average 3.8 times; "
    "YWB4 ten times slower with mlgen"
)
IMPROVEMENT = (
    "the search improved 58 of 66 runs that began with generated structures, by 155 meV/atom on average (standard "
    "deviation 209, at most 969)"
)
