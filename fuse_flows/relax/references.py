"""Reference entries of a hull that are relaxed as the last tier of a search relaxes its candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_flows.relax.hull import LEVEL, level_of_tier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure
    from pymatgen.entries.computed_entries import ComputedEntry

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.result import RelaxResult


def entry_of(structure: Structure, energy: float, tier: TierConfig, name: str) -> ComputedEntry:
    """Return a relaxed structure as an entry of the level of a tier.

    Parameters
    ----------
    structure
        The structure that the energy belongs to.
    energy
        eV for all of its atoms; with a pressure the enthalpy.
    tier
        What relaxed it.
    name
        Its name.

    Returns
    -------
    ComputedStructureEntry
        With the level among its parameters.
    """
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    return ComputedStructureEntry(structure, energy, parameters={LEVEL: level_of_tier(tier)}, entry_id=name)


def relax_references(
    named: Sequence[tuple[str, Structure]], tier: TierConfig
) -> tuple[list[ComputedEntry], dict[str, RelaxResult]]:
    """Relax structures as the last tier of a search does, and make entries of them.

    Parameters
    ----------
    named
        Names and ordered structures.
    tier
        The tier; it relaxes in this process, so one with a queue cannot serve.

    Returns
    -------
    entries
        Of those that converged.
    failed
        The results of the others, by name.

    Raises
    ------
    ConfigError, MissingExtraError
        If the calculator cannot be used.
    """
    from fuse_flows.relax.calculators import check_calculator
    from fuse_flows.relax.tiers import relax_all_through

    elements = {element.symbol for _, structure in named for element in structure.composition.elements}
    check_calculator(tier, sorted(elements))
    results = relax_all_through([structure for _, structure in named], [tier])
    entries, failed = [], {}
    for (name, _), (*_, result) in zip(named, results, strict=True):
        if result.outcome.is_success and result.enthalpy is not None:
            entries.append(entry_of(result.structure, result.enthalpy, tier, name))
        else:
            failed[name] = result
    return entries, failed
