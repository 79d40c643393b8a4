"""ASE calculators by name: our own, ASE's, every force field of atomate2, and anything with an import path."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from functools import cache
from importlib import import_module
from importlib.machinery import all_suffixes
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError, MissingExtraError
from fuse_flows.relax.ase_programs import require_program, with_own_folder
from fuse_flows.relax.spp_tier import SPP, spp_options, spp_tables
from fuse_flows.relax.torchsim import TORCHSIM, check_torchsim

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_flows.config import TierConfig

_FIELD = "tiers.calculator"
_OWN = ("chgnet", "emt", "lj", "buckingham", TORCHSIM)

#: A program, not an ASE calculator; its tier is :class:`fuse_flows.relax.gulp_tier.GulpRelaxer`.
_GULP = "gulp"

#: Another one, of the queue: :class:`fuse_flows.relax.vasp.tier.VaspRelaxer`.
_VASP = "vasp"

#: And one more: :class:`fuse_flows.relax.gpaw.tier.GpawRelaxer`.
_GPAW = "gpaw"

_CHGNET_MODELS = ("0.3.0", "0.2.0", "r2scan")

#: Elements up to plutonium for which CHGNet's training data (MPtrj) have no structure.
_NOT_IN_CHGNET = frozenset({"Po", "At", "Rn", "Fr", "Ra"})

#: Force fields of atomate2 (names of its enum) by the module to import and the package to install.
_MLFF_PACKAGES = {
    "MACE": ("mace", "mace-torch"),
    "MACE_MP_0": ("mace", "mace-torch"),
    "MACE_MPA_0": ("mace", "mace-torch"),
    "MACE_MP_0B3": ("mace", "mace-torch"),
    "GAP": ("quippy", "quippy-ase"),
    "M3GNet": ("matgl", "matgl"),
    "NEP": ("calorine", "calorine"),
    "Nequip": ("nequip", "nequip"),
    "SevenNet": ("sevenn", "sevenn"),
    "MATPES_R2SCAN": ("matgl", "matgl"),
    "MATPES_PBE": ("matgl", "matgl"),
    "DeepMD": ("deepmd", "deepmd-kit"),
    "Allegro": ("nequip", "nequip"),
    "FAIRChem": ("fairchem", "fairchem-core"),
    "MatterSim": ("mattersim", "mattersim"),
    "UPET": ("upet", "upet"),
}


def make_calculator(tier: TierConfig) -> Any:
    """Return the calculator of a tier; the same name and keywords give the same object within a process.

    Parameters
    ----------
    tier
        Its ``calculator`` and ``calculator_kwargs`` count.

    Returns
    -------
    ase.calculators.calculator.BaseCalculator
        The calculator. What its package writes to stdout while it loads is dropped.

    Raises
    ------
    ConfigError
        If the name is unknown or the calculator does not accept its keywords.
    MissingExtraError
        If the package of an extra is not installed.
    """
    kind = _kind(tier.calculator)
    _check_installed(kind, tier.calculator)
    return _make(kind, tier.calculator, _json_kwargs(tier))


def check_calculator(tier: TierConfig, elements: Iterable[str]) -> None:
    """Check a tier before anything is submitted, without importing heavy packages (but for models of torch-sim).

    Parameters
    ----------
    tier
        Its ``calculator`` and ``calculator_kwargs`` are checked.
    elements
        Symbols of the elements of the search.

    Raises
    ------
    ConfigError
        If the name is unknown, the keywords are refused, or the potential lacks an element.
    MissingExtraError
        If the package of an extra is not installed.
    """
    kind = _kind(tier.calculator)
    kwargs_json = _json_kwargs(tier)
    if tier.stop_above_best is not None and kind in {_GULP, _VASP, _GPAW, SPP, "buckingham"}:
        msg = f"{tier.calculator} does not look at it while it relaxes; use max_energy_above_best"
        raise ConfigError("tiers.stop_above_best", msg)
    if kind == _VASP:
        from fuse_flows.relax.vasp.checks import check_vasp

        check_vasp(tier, elements)
        return
    if kind == _GPAW:
        from fuse_flows.relax.gpaw.checks import check_gpaw

        check_gpaw(tier, elements)
        return
    if kind == TORCHSIM:
        check_torchsim(tier, elements)
        return
    _check_installed(kind, tier.calculator)
    if kind == "gulp":
        from fuse_flows.relax.gulp_tier import check_gulp

        check_gulp(tier, elements)
        return
    if kind == SPP:
        spp_tables(spp_options(tier), elements)
        return
    if kind == "chgnet":
        _check_chgnet_kwargs(tier.calculator_kwargs)
    elif kind in _OWN:
        _make(kind, tier.calculator, kwargs_json)
    missing = _missing_elements(kind, tier, set(elements))
    if missing:
        msg = f"{tier.calculator} has no parameters for {', '.join(sorted(missing))}; choose another calculator"
        raise ConfigError(_FIELD, msg)


def _missing_elements(kind: str, tier: TierConfig, wanted: set[str]) -> set[str]:
    """Elements that a potential has no parameters for, as far as it tells."""
    if kind == "chgnet":
        from pymatgen.core import Element

        return {el for el in wanted if Element(el).Z > 94} | (wanted & _NOT_IN_CHGNET)
    if kind == "emt":
        from ase.calculators.emt import parameters

        return wanted - set(parameters)
    if kind == "buckingham":
        from fuse_flows.relax.rigid_ions import missing_elements

        return missing_elements(wanted, **tier.calculator_kwargs)
    return set()


def engines() -> dict[str, str]:
    """Say which calculators can be used here, without importing any of the heavy packages.

    Returns
    -------
    dict
        Name of the calculator to ``available``, or to what is missing; the force fields of atomate2 that are not
        installed are left out.
    """
    states = {}
    for name in (*_OWN, SPP, _GULP, *_MLFF_PACKAGES):
        try:
            _check_installed(name if name in {*_OWN, SPP, _GULP} else f"mlff:{name}", name)
        except MissingExtraError as error:
            states[name] = str(error)
        except ConfigError as error:
            if name == _GULP:
                states[name] = str(error)
        else:
            states[name] = "available"
    from fuse_flows.relax.gpaw.checks import gpaw_state
    from fuse_flows.relax.vasp.checks import vasp_state

    return states | {_VASP: vasp_state(), _GPAW: gpaw_state()}


def cutoff(calculator: Any) -> float | None:
    """Radius beyond which a calculator sees no neighbour.

    Parameters
    ----------
    calculator
        An ASE calculator.

    Returns
    -------
    float or None
        The radius in A; None if the calculator does not tell.
    """
    candidates = (
        getattr(calculator, "cutoff", None),
        getattr(getattr(getattr(calculator, "model", None), "graph_converter", None), "atom_graph_cutoff", None),
        getattr(calculator, "r_max", None),
        (getattr(calculator, "parameters", None) or {}).get("rc"),
    )
    for candidate in candidates:
        with contextlib.suppress(TypeError, ValueError):
            if candidate is not None and float(candidate) > 0:
                return float(candidate)
    return None


def engine_version(calculator: Any) -> str:
    """Version of the package that a calculator wraps.

    Parameters
    ----------
    calculator
        An ASE calculator.

    Returns
    -------
    str
        The version; empty if it cannot be found.
    """
    return _package_version(getattr(calculator, "package", type(calculator).__module__.split(".")[0]))


@cache
def _package_version(package: str) -> str:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    for distribution in packages_distributions().get(package, ()):
        return version(distribution)
    return str(getattr(sys.modules.get(package), "__version__", ""))


def _check_chgnet_kwargs(kwargs: dict[str, Any]) -> None:
    """Check what the calculator would refuse only after its model was loaded."""
    field = "tiers.calculator_kwargs"
    unknown = set(kwargs) - {"model_name", "use_device"}
    if unknown:
        raise ConfigError(field, f"chgnet does not know {', '.join(sorted(unknown))}; use model_name or use_device")
    name = kwargs.get("model_name", "0.3.0")
    if name not in _CHGNET_MODELS:
        raise ConfigError(field, f"chgnet has no model {name!r}; use one of {', '.join(_CHGNET_MODELS)}")


def _mlff_names() -> dict[str, str]:
    """Spellings of atomate2's force fields that have a package of their own, by the name in its enum."""
    from atomate2.forcefields.utils import MLFF

    members = [m for m in MLFF if m.name in _MLFF_PACKAGES]
    return {m.name: m.name for m in members} | {m.value: m.name for m in members}


def _kind(name: str) -> str:
    """One of ours, ``mlff:<name in the enum>`` or ``path:<module>:<attribute>``."""
    bare = name.removeprefix("MLFF.")
    if bare.lower() in {*_OWN, SPP, _GULP, _VASP, _GPAW}:
        return bare.lower()
    mlff = _mlff_names()
    if bare in mlff:
        return f"mlff:{mlff[bare]}"
    module, separator, attribute = bare.rpartition(":" if ":" in bare else ".")
    if separator and module and attribute.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return f"path:{module}:{attribute}"
    known = ", ".join([*_OWN, SPP, _GULP, _VASP, _GPAW, *sorted(mlff, key=str.lower)])
    msg = f"{name!r} is unknown; use one of {known}, or an import path such as package.module:Class"
    raise ConfigError(_FIELD, msg)


def _check_installed(kind: str, name: str) -> None:
    """Raise if the package of a calculator cannot be found; nothing is imported."""
    if kind == "chgnet":
        for package in ("chgnet", "torch"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "chgnet")
    elif kind == TORCHSIM:
        for package, name_on_index in (("torch", "torch"), ("torch_sim", "torch-sim-atomistic")):
            if find_spec(package) is None:
                raise MissingExtraError(name_on_index, TORCHSIM)
    elif kind == _GULP:
        from fuse_flows.relax.gulp_tier import find_gulp

        find_gulp()
    elif kind.startswith("mlff:"):
        module, package = _MLFF_PACKAGES[kind.removeprefix("mlff:")]
        if find_spec(module) is None:
            raise ConfigError(_FIELD, f"{name} needs the package {package}; run: pip install {package}")
    elif kind.startswith("path:"):
        _check_path(kind, name)


def _check_path(kind: str, name: str) -> None:
    module = kind.split(":")[1]
    if not _module_exists(module):
        raise ConfigError(_FIELD, f"the module {module} of {name!r} was not found; install it or mend the path")
    if module.startswith("ase."):  # light, and a misspelt name is not left to the worker
        try:
            _calculator_class(kind)
        except (AttributeError, TypeError) as error:
            raise ConfigError(_FIELD, f"{name} cannot be made: {error}; mend the path") from error


def _module_exists(module: str) -> bool:
    """Whether a dotted module can be found, without importing its parents."""
    if module in sys.modules:
        return True
    head, *rest = module.split(".")
    try:
        spec = find_spec(head)
    except ValueError:
        return False
    if spec is None:
        return False
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for part in rest:
        files = [folder / f"{part}{suffix}" for folder in folders for suffix in all_suffixes()]
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
        if not folders and not any(file.is_file() for file in files):
            return False
    return True


def _json_kwargs(tier: TierConfig) -> str:
    try:
        return json.dumps(tier.calculator_kwargs, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        msg = f"must hold plain values that JSON can write ({error})"
        raise ConfigError("tiers.calculator_kwargs", msg) from error


@cache
def _make(kind: str, name: str, kwargs_json: str) -> Any:
    from ase.calculators.calculator import BadConfiguration
    from ase.calculators.calculator import EnvironmentError as NotConfigured

    kwargs = json.loads(kwargs_json)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            calculator = _construct(kind, kwargs)
    except (ConfigError, MissingExtraError):
        raise
    except BadConfiguration as error:
        msg = f"{name} needs its section in ASE's configuration file (ASE_CONFIG_PATH) on this machine: {error}"
        raise ConfigError(_FIELD, msg) from error
    except (OSError, NotConfigured) as error:
        msg = f"{name} cannot be started on this machine ({error}); mend ASE's configuration file (ASE_CONFIG_PATH)"
        raise ConfigError(_FIELD, msg) from error
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError, AssertionError, ImportError) as error:
        first_line = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, AssertionError | RuntimeError):  # what ASE raises where a program does not answer
            first_line += " (is its program on this machine?)"
        raise ConfigError(_FIELD, f"{name} cannot be made with {kwargs_json}: {first_line}") from error
    if kind.startswith("path:"):
        require_program(calculator, name)
    return calculator


def _construct(kind: str, kwargs: dict[str, Any]) -> Any:
    if kind == "chgnet":
        from fuse_flows.relax.chgnet import ChgnetCalculator

        return ChgnetCalculator(**kwargs)
    if kind == TORCHSIM:
        from fuse_flows.relax.torchsim_model import TorchSimCalculator

        return TorchSimCalculator(**kwargs)
    if kind in {_GULP, _VASP, _GPAW}:
        raise ValueError("it is a program with a tier of its own; use fuse_flows.relax.tiers.build_relaxer")
    if kind in {"emt", "lj"}:
        from ase.calculators import emt, lj

        return (emt.EMT if kind == "emt" else lj.LennardJones)(**kwargs)
    if kind == "buckingham":
        from fuse_flows.relax.buckingham import BuckinghamCalculator

        return BuckinghamCalculator(**kwargs)
    from atomate2.forcefields import utils

    if kind.startswith("mlff:"):
        mlff = utils.MLFF[kind.removeprefix("mlff:")]
        return utils.ase_calculator(mlff, **{**utils._DEFAULT_CALCULATOR_KWARGS.get(mlff, {}), **kwargs})  # noqa: SLF001
    own = with_own_folder(_calculator_class(kind), kwargs)
    return utils.ase_calculator(kind.removeprefix("path:").replace(":", "."), **own)


def _calculator_class(kind: str) -> type:
    """Return a class of calculators; refuse to call anything else: a path may come from a document anybody wrote."""
    from ase.calculators.calculator import BaseCalculator

    _, module, attribute = kind.split(":")
    found = getattr(import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, BaseCalculator)):
        raise TypeError(f"{module}:{attribute} is no class of ASE calculators")
    return found
