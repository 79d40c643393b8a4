"""Chemical formulas as a configuration has them."""

from __future__ import annotations

import math

from fuse_flows.errors import ConfigError


def parse_formula(formula: str) -> dict[str, int]:
    """Read a chemical formula as one formula unit of whole atoms.

    Parameters
    ----------
    formula
        For example ``Ca3Ti2O7``; brackets are understood.

    Returns
    -------
    dict
        Atoms of each element, divided by their greatest common divisor, in the order of the formula.

    Raises
    ------
    ConfigError
        If the formula is empty, has an unknown element or counts that are not whole numbers.
    """
    from pymatgen.core import Composition, DummySpecies

    if not formula.strip():
        raise ConfigError("formula", "is empty; give a chemical formula such as SrTiO3")
    try:
        amounts = Composition(formula.strip(), strict=True).as_dict()
        dummies = [el for el in Composition(formula.strip()).elements if isinstance(el, DummySpecies)]
    except (ValueError, KeyError) as error:
        msg = f"{formula!r} has an element that does not exist or cannot be read; write it like Ca3Ti2O7"
        raise ConfigError("formula", msg) from error
    if dummies or not amounts:
        msg = f"{formula!r} has an element that does not exist or cannot be read; write it like Ca3Ti2O7"
        raise ConfigError("formula", msg)
    if any(n != int(n) or n < 1 for n in amounts.values()):
        msg = f"{formula!r} has counts that are not whole numbers; multiply it out, e.g. Sr2TiO4"
        raise ConfigError("formula", msg)
    counts = {el: int(n) for el, n in amounts.items()}
    divisor = math.gcd(*counts.values())
    return {el: n // divisor for el, n in counts.items()}
