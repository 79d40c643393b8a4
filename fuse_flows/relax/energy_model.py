"""Energy models by name, for generators: the graph network, pair potentials, or single points of any tier.

The network is the one of the FUSE2 paper, Section 2.1 (Cheng et al., 10.1038/s41467-022-29241-4); anything else that
gives energies can stand in for it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.config import GenerationConfig, TierConfig
from fuse_flows.errors import ConfigError, MissingExtraError
from fuse_flows.relax.calculators import check_calculator
from fuse_flows.relax.queue_tiers import is_queue_tier
from fuse_flows.relax.spp_tier import SPP, spp_options, spp_tables
from fuse_flows.relax.tiers import build_relaxer, relax_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.config import SearchConfig
    from fuse_flows.generators.base import Cell, EnergyModel

GN = "gn"
"""Name of the graph network."""

_PACKAGES = {"tensorflow": "tensorflow", "tf_keras": "tf-keras", "megnet": "megnet"}


class TierEnergyModel:
    """The energies that a tier gives to structures as they are; see :class:`fuse_flows.generators.base.EnergyModel`.

    Parameters
    ----------
    tier
        Its calculator and guards count; what a guard refuses has no energy.
    """

    def __init__(self, tier: TierConfig) -> None:
        self.tier = tier

    @property
    def name(self) -> str:
        """Name of the calculator."""
        return self.tier.calculator

    @property
    def version(self) -> str:
        """Version of the package behind it."""
        return build_relaxer(self.tier).version

    def check(self, symbols: Sequence[str]) -> None:
        """Refuse elements that the calculator does not know.

        Raises
        ------
        ConfigError
            Naming the elements.
        MissingExtraError
            If the package of the calculator is not installed.
        """
        check_calculator(self.tier, symbols)

    def energies(self, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """Return energies (with a pressure: enthalpies) of unrelaxed cells, eV/atom, (len(cells),); NaN where none."""
        results = relax_many([cell.to_structure() for cell in cells], self.tier, single=True)
        found = [result.enthalpy_per_atom for result in results]
        return np.array([np.nan if energy is None else energy for energy in found], dtype=np.float64)


def energy_model(config: SearchConfig) -> EnergyModel:
    """Return the energy model that a search generates structures with; loaded once per process.

    Parameters
    ----------
    config
        The search. A calculator that is also the one of a tier, or ranks the pool, gets that tier's keywords.

    Returns
    -------
    EnergyModel
        The model.

    Raises
    ------
    ConfigError
        If there is no such model, or its file is missing, of another version, or not the one of the submission.
    MissingExtraError
        If a package is not installed.
    """
    settings = config.pool.generate or GenerationConfig()
    if settings.energy_model.lower() == GN:
        check_network_file(settings)
        return _network(settings.model_file)
    tier = tier_of_model(config)
    if tier.calculator.lower() == SPP:
        return _pair_model(tier.model_dump_json(), tuple(sorted(config.counts)))
    return TierEnergyModel(tier)


def check_energy_model(config: SearchConfig) -> None:
    """Check the energy model of a search before anything is submitted.

    Parameters
    ----------
    config
        The search.

    Raises
    ------
    ConfigError
        If there is no such model, its file is missing or of another version, or it does not know an element.
    MissingExtraError
        If a package is not installed.
    """
    settings = config.pool.generate or GenerationConfig()
    if settings.energy_model.lower() != GN:
        check_calculator(tier_of_model(config), list(config.counts))
        return
    from fuse_flows.generators.gn.model import GraphNetwork
    from fuse_flows.generators.gn.storage import read_network

    _check_packages()
    check_network_file(settings)
    GraphNetwork(read_network(settings.model_file)).check(list(config.counts))  # TensorFlow stays away


def tier_of_model(config: SearchConfig) -> TierConfig:
    """Return the tier whose single points are the energies.

    Parameters
    ----------
    config
        The search, whose energy model is a calculator.

    Returns
    -------
    TierConfig
        The first tier of the search with this calculator, else the default one.

    Raises
    ------
    ConfigError
        If it runs in the queue.
    """
    name = (config.pool.generate or GenerationConfig()).energy_model
    same = [tier for tier in config.every_tier if tier.calculator.lower() == name.lower()]
    tier = (same or [TierConfig(calculator=name, pressure=config.pressure or None)])[0]
    if is_queue_tier(tier):
        msg = f"nothing can be generated with {name}, which runs in the queue; use gn, spp or another cheap calculator"
        raise ConfigError("pool.generate.energy_model", msg)
    return tier


def with_model_digest(config: SearchConfig) -> SearchConfig:
    """Return a configuration whose search is named by what is in the user's network, not by where it is.

    Parameters
    ----------
    config
        The search.

    Returns
    -------
    SearchConfig
        With ``model_digest`` beside ``model_file``, if there is one.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    settings = config.pool.generate
    if settings is None or settings.model_file is None:
        return config
    file = str(Path(settings.model_file).expanduser().resolve())
    update = {"model_file": file, "model_digest": _digest(file)}
    generate = settings.model_copy(update=update)
    return config.model_copy(update={"pool": config.pool.model_copy(update={"generate": generate})})


def check_network_file(settings: GenerationConfig) -> None:
    """Raise ConfigError if the network is not the one that the search was submitted with."""
    if settings.model_file is not None and settings.model_digest not in (None, _digest(settings.model_file)):
        raise ConfigError(_FILE, f"{settings.model_file} has changed since the search was submitted")


_FILE = "pool.generate.model_file"


def _digest(file: str) -> str:
    if not Path(file).is_file():
        what = "is no file" if Path(file).exists() else "does not exist"
        raise ConfigError(_FILE, f"{file} {what}; correct the path, or leave it out for the shipped network")
    from fuse_flows.generators.gn.model import network_digest

    return network_digest(file)


@cache
def _network(file: str | None) -> EnergyModel:
    _check_packages()
    from fuse_flows.generators.gn.model import load_network

    return load_network(file)


@cache
def _pair_model(tier_json: str, symbols: tuple[str, ...]) -> EnergyModel:
    from fuse_flows.generators.pair_model import PairEnergyModel

    tier = TierConfig.model_validate_json(tier_json)
    return PairEnergyModel(spp_tables(spp_options(tier), symbols), pressure=tier.gigapascals)


def _check_packages() -> None:
    from importlib.util import find_spec

    for module, package in _PACKAGES.items():
        if find_spec(module) is None:
            raise MissingExtraError(package, "gn")
