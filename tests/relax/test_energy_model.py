"""Energy models by name; what stands behind a name of a calculator are single points of its tier."""

import numpy as np
import pytest

from fuse_flows.config import TierConfig, load_config
from fuse_flows.errors import ConfigError
from fuse_flows.generators.base import Cell, EnergyModel
from fuse_flows.relax.energy_model import (
    TierEnergyModel,
    check_energy_model,
    energy_model,
    tier_of_model,
    with_model_digest,
)
from fuse_flows.relax.tiers import relax_many, single_point


def generating(name, formula="Cu3Au", **changes):
    generate = {"energy_model": name} | changes.pop("generate", {})
    return load_config(formula=formula, pool={"generate": generate} | changes.pop("pool", {}), **changes)


def as_cell(structure):
    return Cell(structure.lattice.matrix, np.array(structure.atomic_numbers), structure.frac_coords)


def test_energies_are_those_of_single_points_and_nothing_where_there_is_none(copper):
    model = energy_model(generating("emt"))
    assert isinstance(model, EnergyModel)
    assert (model.name, bool(model.version)) == ("emt", True)
    structures = [copper(rattle=rattle) for rattle in (0.0, 0.1, 0.2)]
    bad = copper()
    bad.append("Cu", [0.01, 0.0, 0.0])
    energies = model.energies([as_cell(structure) for structure in (*structures, bad)])
    expected = [single_point(structure, TierConfig(calculator="emt")).energy_per_atom for structure in structures]
    assert energies[:3] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(energies[3])


def test_a_tier_lends_its_keywords():
    tier = {"calculator": "lj", "calculator_kwargs": {"sigma": 2.0}}
    assert tier_of_model(generating("lj", tiers=["emt", tier])).calculator_kwargs == {"sigma": 2.0}
    assert tier_of_model(generating("lj", pool={"rank_tier": tier})).calculator_kwargs == {"sigma": 2.0}
    assert tier_of_model(generating("lj")) == TierConfig(calculator="lj")


@pytest.mark.parametrize("name", ["emt", "no-such"])
def test_unknown_elements_and_models_are_refused_before_submission(name):
    with pytest.raises(ConfigError, match=r"^tiers\.calculator: "):
        check_energy_model(generating(name, "MgO"))
    check_energy_model(generating("spp", "MgO"))


def test_elements_are_checked_by_the_model():
    TierEnergyModel(TierConfig(calculator="emt")).check(["Cu", "Au"])
    with pytest.raises(ConfigError, match="emt has no parameters for Ti"):
        TierEnergyModel(TierConfig(calculator="emt")).check(["Cu", "Ti"])


def test_missing_network_is_refused(tmp_path):
    config = generating("gn", generate={"model_file": str(tmp_path / "none.npz"), "model_digest": "0"})
    for ask in (with_model_digest, energy_model):
        with pytest.raises(ConfigError, match=r"^pool\.generate\.model_file: .*none\.npz does not exist"):
            ask(config)


def test_without_a_file_there_is_no_digest():
    config = generating("gn")
    assert with_model_digest(config) is config
    assert with_model_digest(load_config(formula="MgO")).pool.generate is None


@pytest.mark.parametrize("calculator", ["emt", "spp"])
@pytest.mark.parametrize("single", [True, False])
def test_many_are_relaxed_as_one_is(copper, calculator, single):
    tier = TierConfig(calculator=calculator, max_steps=20)
    structures = [copper(rattle=rattle) for rattle in (0.05, 0.1, 0.2)]
    together = relax_many(structures, tier, single=single)
    alone = [relax_many([structure], tier, single=single)[0] for structure in structures]
    assert [result.energy for result in together] == [result.energy for result in alone]
    assert [result.outcome for result in together] == [result.outcome for result in alone]
    assert relax_many([], tier) == []
    if single:
        assert {result.steps for result in together} == {0}
