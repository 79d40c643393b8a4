from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import SearchConfig, TierConfig
from fuse_flows.errors import ConfigError
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.calculators import check_calculator
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.screening import LOOK_AHEAD, LOOK_BACK, Watch
from fuse_flows.relax.tiers import build_relaxer, relax_all_through, relax_through

FACES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
ROUGH = {"calculator": "emt", "fmax": 1e-4, "smax": 1e-3}


@pytest.fixture
def alloy():
    structure = Structure(Lattice.cubic(3.75), ["Al", "Cu", "Cu", "Al"], FACES)
    return (structure * (2, 1, 1)).perturb(0.5, seed=3)


@pytest.mark.parametrize("optimizer", ["L-BFGS", "FIRE"])
def test_hopeless_relaxations_are_stopped_with_their_energy(alloy, optimizer):
    tier = TierConfig(**ROUGH, stop_above_best=0.1, optimizer=optimizer)
    relaxer = build_relaxer(tier)
    through = relaxer.relax(alloy)
    assert through.outcome is Outcome.CONVERGED
    stopped = relaxer.relax(alloy, through.energy_per_atom - 10.0)
    assert stopped.outcome is Outcome.SCREENED_OUT
    assert LOOK_BACK <= stopped.steps < through.steps
    assert stopped.energy_per_atom > through.energy_per_atom
    assert stopped.reason.endswith("meV a call")
    assert not stopped.outcome.is_success
    assert relaxer.relax(alloy, through.energy_per_atom).outcome is Outcome.CONVERGED


def test_without_a_reference_or_a_limit_nothing_is_stopped(alloy):
    plain, limited = TierConfig(**ROUGH), TierConfig(**ROUGH, stop_above_best=0.1)
    assert AseRelaxer(limited).relax(alloy).energy == AseRelaxer(plain).relax(alloy, -100.0).energy


def test_a_falling_energy_is_given_time():
    watch = Watch(TierConfig(stop_above_best=0.5), -5.0, n_atoms=2)
    fall = 4.0 / LOOK_AHEAD
    energies = [2 * (-1.0 - fall * k) for k in range(LOOK_BACK + 1)]
    assert [watch.look(energy) for energy in energies] == [None] * (LOOK_BACK + 1)
    verdicts = [watch.look(energies[-1]) for _ in range(LOOK_BACK)]
    assert verdicts[0] is None
    assert verdicts[-1].outcome is Outcome.SCREENED_OUT


def test_later_tiers_are_spared(alloy):
    first = TierConfig(**ROUGH, max_energy_above_best=0.2, second_pass=None)
    second = TierConfig(calculator="emt", fmax=0.01, smax=0.1)
    energy = relax_through(alloy, [first])[0].energy_per_atom
    (result,) = relax_through(alloy, [first, second], [energy - 0.3, None])
    assert result.outcome is Outcome.SCREENED_OUT
    assert result.energy_per_atom == energy
    assert "0.3 eV/atom above the best in emt" in result.reason
    for references in ([energy - 0.1, None], [None, None], []):
        assert len(relax_through(alloy, [first, second], references)) == 2
    assert relax_through(alloy, [first], [energy - 0.3])[-1].outcome is Outcome.CONVERGED  # nobody is spared


def test_only_the_high_ones_of_a_batch_are_left_out(alloy):
    low = Structure(Lattice.cubic(3.6), ["Cu"] * 4, FACES).perturb(0.1, seed=1)
    tiers = [TierConfig(**ROUGH, max_energy_above_best=0.05), TierConfig(calculator="emt", fmax=0.01, smax=0.1)]
    energy = relax_through(low, tiers[:1])[0].energy_per_atom
    results = relax_all_through([alloy, low, alloy], tiers, [energy])
    assert [len(chain) for chain in results] == [1, 2, 1]


@pytest.mark.parametrize("calculator", ["spp", "buckingham", "gulp"])
def test_engines_that_cannot_stop_refuse_the_setting(calculator):
    with pytest.raises(ConfigError, match="max_energy_above_best"):
        check_calculator(TierConfig(calculator=calculator, stop_above_best=1.0), ["Mg", "O"])


def test_settings_count_for_the_name_of_a_search_and_defaults_do_not():
    plain = SearchConfig(formula="MgO")
    assert plain.search_id == SearchConfig(formula="MgO", tiers=({"stop_above_best": None},)).search_id
    names = {plain.search_id}
    for key in ("stop_above_best", "max_energy_above_best"):
        names.add(SearchConfig(formula="MgO", tiers=({key: 0.5},)).search_id)
    assert len(names) == 3
