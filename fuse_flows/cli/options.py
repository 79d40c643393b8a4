"""Options that several commands share, and the configuration they make."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_flows.config import SearchConfig, TierConfig

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
Pressure = Annotated[
    float | None, typer.Option(help="Pressure at which the lowest enthalpy is looked for, GPa; default: 0.")
]
Seed = Annotated[int | None, typer.Option(help="Root of every random draw.")]
Calculator = Annotated[
    str | None,
    typer.Option(
        help="chgnet, emt, lj, buckingham, gulp, vasp, gpaw, torchsim, a force field of atomate2, or an import path."
    ),
]
Tiers = Annotated[str | None, typer.Option(help="Calculators of several tiers, cheapest first: spp,chgnet.")]
SppLibrary = Annotated[
    Path | None,
    typer.Option(help="Statistical proxy potentials of your own: .npz, a GULP .lib or a folder of A-B.POT files."),
]
Structures = Annotated[
    Path | None, typer.Option(help="Folder of CIF, POSCAR or extended XYZ files to begin with and to draw from.")
]
Priority = Annotated[
    int | None,
    typer.Option(help="Priority of its jobs on the LaunchPad, later ones included; higher ones go first."),
]
Label = Annotated[str | None, typer.Option(help="Free text that makes this a search of its own.")]
SearchName = Annotated[str, typer.Argument(metavar="SEARCH", help="Search id, its beginning, or a formula.")]
Within = Annotated[float | None, typer.Option(min=0, help="At most so much above the lowest energy, eV/atom.")]
SpaceGroup = Annotated[str | None, typer.Option(help="Only this space group, by number or symbol.")]
HullFile = Annotated[
    Path | None, typer.Option(help="Reference entries (JSON of pymatgen): adds the energy above their convex hull.")
]
Mixed = Annotated[
    bool, typer.Option("--mixed", help="Use reference entries of another level of theory than the last tier, too.")
]
LaunchPadFile = Annotated[
    Path | None, typer.Option("--launchpad", "-l", help="A my_launchpad.yaml; default: the embedded MongoDB.")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="fgen, fgen-spp, fgen-chgnet (random assembler), mlgen, mlgen-spp, mlgen-chgnet (generated pool): "
        "tiers and pool by name; --config overrides its values."
    ),
]
Final = Annotated[str | None, typer.Option(help="Calculator of the last tier of the recipe; default: chgnet.")]
EnergyModel = Annotated[
    str | None, typer.Option(help="Predicts the energies of what is generated: gn, spp, or any calculator.")
]
GnModel = Annotated[Path | None, typer.Option(help="Graph network of your own, for --energy-model gn.")]


@dataclass(frozen=True)
class SearchOptions:
    """The options that make a configuration, shared by all commands that need one; None where not given."""

    config: ConfigFile = None
    recipe: Recipe = None
    final: Final = None
    max_structures: MaxStructures = None
    initial_structures: InitialStructures = None
    max_atoms: MaxAtoms = None
    seed: Seed = None
    calculator: Calculator = None
    tiers: Tiers = None
    spp_library: SppLibrary = None
    energy_model: EnergyModel = None
    gn_model: GnModel = None
    label: Label = None
    structures: Structures = None
    walkers: Walkers = None
    wall_hours: WallHours = None
    pressure: Pressure = None


def with_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of :class:`SearchOptions`, which it takes together as its argument ``options``.

    Parameters
    ----------
    command
        A function for typer; its other parameters stay as they are.

    Returns
    -------
    callable
        For typer: the options stand behind the parameters without default.
    """
    names = [field.name for field in fields(SearchOptions)]
    hints = get_type_hints(SearchOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(SearchOptions)
    ]
    signature = inspect.signature(command, eval_str=True)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
        if parameter.name != "options"
    ]
    needed = [parameter for parameter in own if parameter.default is inspect.Parameter.empty]
    others = [parameter for parameter in own if parameter not in needed]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        command(options=SearchOptions(**{name: values.pop(name) for name in names}), **values)

    parameters = [*needed, *shared, *others]
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def search_config(
    formula: str, options: SearchOptions | None = None, *, common: dict[str, Any] | None = None, **values: Any
) -> SearchConfig:
    """Put the options over recipe and configuration file, and check that the calculators can run.

    First populations that nobody asked for in particular take at most half of ``max_structures``.

    Parameters
    ----------
    formula
        Formula of the search.
    options
        The options.
    common
        Keys of the configuration over those of the recipe, such as those of a batch.
    **values
        In place of ``options``: fields of :class:`SearchOptions`.

    Returns
    -------
    SearchConfig
        Checked.

    Raises
    ------
    ConfigError, MissingExtraError
        Naming the field and the fix.
    """
    from fuse_flows.config import load_config, merged_values
    from fuse_flows.errors import ConfigError
    from fuse_flows.flows.checks import check_search
    from fuse_flows.flows.recipes import recipe_values
    from fuse_flows.relax.energy_model import with_model_digest
    from fuse_flows.relax.spp_tier import with_library_digests
    from fuse_flows.relax.written import with_tiers_written_out

    given = SearchOptions(**values) if options is None else options
    if given.final is not None and given.recipe is None:
        raise ConfigError("final", "names the last tier of a recipe; add --recipe, or name all tiers in --tiers")
    base = {} if given.recipe is None else recipe_values(given.recipe, given.final)
    base = merged_values(base, common or {})
    overrides = _overrides(given, has_file=given.config is not None or common is not None)
    search = load_config(given.config, base=base, formula=formula, **overrides)
    generate = _generation(given)
    if generate and search.pool.generate is None:
        field = "energy_model" if given.energy_model else "gn_model"
        raise ConfigError(field, "is given, but nothing is generated; add --recipe mlgen, or pool.generate to the file")
    overrides["pool"] |= {"generate": generate} if generate else {}
    search = _with_library(load_config(given.config, base=base, formula=formula, **overrides), given.spp_library)
    if given.final is not None and search.tiers[-1].calculator != given.final:
        msg = f"is {given.final}, but the tiers of --config or --tiers end with {search.tiers[-1].calculator}"
        raise ConfigError("final", f"{msg}; leave out either")
    search = with_tiers_written_out(with_library_digests(with_model_digest(search)))
    check_search(search)
    return search


def _overrides(given: SearchOptions, *, has_file: bool) -> dict[str, Any]:
    """Return the options as keys of the configuration."""
    from fuse_flows.config import GeneratorConfig
    from fuse_flows.errors import ConfigError

    overrides: dict[str, Any] = {"max_atoms": given.max_atoms, "seed": given.seed, "label": given.label}
    overrides["pressure"] = given.pressure
    overrides["pool"] = {} if given.structures is None else {"structures": str(given.structures)}
    if given.walkers is not None:
        overrides["walkers"] = {"number": given.walkers}
    if given.calculator is not None and given.tiers is not None:
        raise ConfigError("tiers", "cannot be given together with --calculator; name all tiers in --tiers")
    if given.calculator is not None or given.tiers is not None:
        names = (given.tiers or given.calculator or "").split(",")
        overrides["tiers"] = [{"calculator": name.strip()} for name in names]
    overrides["stop"] = stop_limits(given.max_structures, given.wall_hours)
    initial = given.initial_structures
    if given.max_structures is not None and not has_file and initial is None:
        share = given.max_structures // (2 * (given.walkers or 1))
        initial = min(GeneratorConfig().initial_structures, max(1, share))
    if initial is not None:
        overrides["generator"] = {"initial_structures": initial}
    return overrides


def _generation(given: SearchOptions) -> dict[str, str]:
    """Return those options that were given as keys of ``pool.generate``."""
    model_file = None if given.gn_model is None else str(given.gn_model)
    values = {"energy_model": given.energy_model, "model_file": model_file}
    return {name: value for name, value in values.items() if value is not None}


def _with_library(search: SearchConfig, library: Path | None) -> SearchConfig:
    """Give all tiers with statistical proxy potentials a library of the user's own."""
    from fuse_flows.errors import ConfigError

    if library is None:
        return search
    if not any(tier.calculator.lower() == "spp" for tier in search.every_tier):
        raise ConfigError("spp_library", "is given, but no tier uses it; add spp to --tiers")

    def with_it(tier: TierConfig) -> TierConfig:
        if tier.calculator.lower() != "spp":
            return tier
        return tier.model_copy(update={"calculator_kwargs": tier.calculator_kwargs | {"library": str(library)}})

    return search.with_each_tier(with_it)


def stop_limits(max_structures: int | None, wall_hours: float | None) -> dict[str, Any]:
    """Return those limits that were given, as keys of ``stop`` in the configuration."""
    limits = {"max_structures": max_structures, "wall_hours": wall_hours}
    return {name: value for name, value in limits.items() if value is not None}
