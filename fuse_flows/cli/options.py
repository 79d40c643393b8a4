"""Options that several commands share, and the configuration they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fuse_flows.config import SearchConfig

Formula = Annotated[str, typer.Argument(help="Chemical formula with whole numbers, such as SrTiO3.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file with keys of the configuration (see: config show).")
]
MaxStructures = Annotated[int | None, typer.Option(help="Structures in all, the first population included.")]
InitialStructures = Annotated[int | None, typer.Option(help="Structures in the first population of each walker.")]
Walkers = Annotated[int | None, typer.Option(min=1, help="Independent walkers that share the structures evenly.")]
WallHours = Annotated[
    float | None, typer.Option(help="Hours since the first population was complete, after which the search ends.")
]
MaxAtoms = Annotated[int | None, typer.Option(help="Largest structure, in atoms.")]
Seed = Annotated[int | None, typer.Option(help="Root of every random draw.")]
Calculator = Annotated[
    str | None, typer.Option(help="chgnet, emt, lj, buckingham, gulp, a force field of atomate2, or an import path.")
]
Tiers = Annotated[str | None, typer.Option(help="Calculators of several tiers, cheapest first: spp,chgnet.")]
SppLibrary = Annotated[
    Path | None,
    typer.Option(help="Statistical proxy potentials of your own: .npz, a GULP .lib or a folder of A-B.POT files."),
]
Structures = Annotated[
    Path | None, typer.Option(help="Folder of CIF, POSCAR or extended XYZ files to begin with and to draw from.")
]
Label = Annotated[str | None, typer.Option(help="Free text that makes this a search of its own.")]
SearchName = Annotated[str, typer.Argument(metavar="SEARCH", help="Search id, its beginning, or a formula.")]
Within = Annotated[float | None, typer.Option(min=0, help="At most so much above the lowest energy, eV/atom.")]
SpaceGroup = Annotated[str | None, typer.Option(help="Only this space group, by number or symbol.")]
LaunchPadFile = Annotated[
    Path | None, typer.Option("--launchpad", "-l", help="A my_launchpad.yaml; default: the embedded MongoDB.")
]


def search_config(
    formula: str,
    config: Path | None = None,
    *,
    max_structures: int | None = None,
    initial_structures: int | None = None,
    max_atoms: int | None = None,
    seed: int | None = None,
    calculator: str | None = None,
    label: str | None = None,
    structures: Path | None = None,
    wall_hours: float | None = None,
    walkers: int | None = None,
    tiers: str | None = None,
    spp_library: Path | None = None,
) -> SearchConfig:
    """Put the options over the configuration file and check that the calculators can run.

    First populations that nobody asked for in particular take at most half of ``max_structures``.

    Parameters
    ----------
    formula
        Formula of the search.
    config
        Configuration file.
    max_structures, initial_structures, max_atoms, seed, calculator, label, structures, wall_hours, walkers, tiers, \
    spp_library
        Options; None where not given.

    Returns
    -------
    SearchConfig
        Checked.

    Raises
    ------
    ConfigError, MissingExtraError
        Naming the field and the fix.
    """
    from fuse_flows.config import GeneratorConfig, load_config
    from fuse_flows.errors import ConfigError
    from fuse_flows.relax.calculators import check_calculator
    from fuse_flows.relax.spp_tier import with_library_digests

    overrides: dict[str, Any] = {"formula": formula, "max_atoms": max_atoms, "seed": seed, "label": label}
    if structures is not None:
        overrides["pool"] = {"structures": str(structures)}
    if walkers is not None:
        overrides["walkers"] = {"number": walkers}
    if calculator is not None and tiers is not None:
        raise ConfigError("tiers", "cannot be given together with --calculator; name all tiers in --tiers")
    if calculator is not None or tiers is not None:
        overrides["tiers"] = [{"calculator": name.strip()} for name in (tiers or calculator or "").split(",")]
    overrides["stop"] = stop_limits(max_structures, wall_hours)
    if max_structures is not None and config is None and initial_structures is None:
        initial_structures = min(GeneratorConfig().initial_structures, max(1, max_structures // (2 * (walkers or 1))))
    if initial_structures is not None:
        overrides["generator"] = {"initial_structures": initial_structures}
    search = with_library_digests(_with_library(load_config(config, **overrides), spp_library))
    for tier in search.tiers:
        check_calculator(tier, list(search.counts))
    return search


def _with_library(search: SearchConfig, library: Path | None) -> SearchConfig:
    """Give all tiers with statistical proxy potentials a library of the user's own."""
    from fuse_flows.errors import ConfigError

    if library is None:
        return search
    tiers = [tier.model_dump() for tier in search.tiers]
    of_spp = [tier for tier in tiers if tier["calculator"].lower() == "spp"]
    if not of_spp:
        raise ConfigError("spp_library", "is given, but no tier uses it; add spp to --tiers")
    for tier in of_spp:
        tier["calculator_kwargs"] |= {"library": str(library)}
    return search.model_copy(update={"tiers": tuple(type(search.tiers[0])(**tier) for tier in tiers)})


def stop_limits(max_structures: int | None, wall_hours: float | None) -> dict[str, Any]:
    """Return those limits that were given, as keys of ``stop`` in the configuration."""
    limits = {"max_structures": max_structures, "wall_hours": wall_hours}
    return {name: value for name, value in limits.items() if value is not None}
