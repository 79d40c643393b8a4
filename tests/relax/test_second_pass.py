from __future__ import annotations

from dataclasses import replace

import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.second_pass import TIGHTER, joined, needs_second_pass, tighter
from fuse_flows.relax.tiers import build_relaxer, relax_through

TIER = TierConfig(calculator="emt", fmax=0.2, smax=2.0)


@pytest.fixture
def alloy():
    coords = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(3.75), ["Al", "Cu", "Cu", "Al"], coords).perturb(0.2, seed=2)


def test_what_converged_goes_on(alloy):
    first = build_relaxer(TIER).relax(alloy)
    (result,) = relax_through(alloy, [TIER])
    assert first.fmax > TIER.fmax / TIGHTER
    assert result.fmax <= TIER.fmax / TIGHTER
    assert result.energy < first.energy
    assert result.steps > first.steps
    assert relax_through(alloy, [TIER.model_copy(update={"second_pass": None})])[0].energy == first.energy


def test_only_what_may_become_the_best(alloy):
    energy = build_relaxer(TIER).relax(alloy).energy_per_atom
    near, far = energy - 0.5 * TIER.second_pass, energy - 2 * TIER.second_pass
    assert relax_through(alloy, [TIER], [near])[0].energy_per_atom < energy
    assert relax_through(alloy, [TIER], [far])[0].energy_per_atom == energy


def test_only_the_last_tier(alloy):
    rough, _ = relax_through(alloy, [TIER, TIER])
    assert rough.energy == build_relaxer(TIER).relax(alloy).energy


def test_only_what_converged_with_our_optimiser(alloy):
    relaxer = build_relaxer(TIER)
    first = relaxer.relax(alloy)
    assert needs_second_pass(first, relaxer, None)
    assert not needs_second_pass(replace(first, outcome=Outcome.NOT_CONVERGED), relaxer, None)
    for changed in ({"optimizer": "FIRE"}, {"calculator": "buckingham"}, {"second_pass": None}):
        assert not needs_second_pass(first, build_relaxer(TIER.model_copy(update=changed)), None)


def test_a_second_pass_that_fails_changes_nothing_but_the_cost(alloy):
    first = build_relaxer(TIER).relax(alloy)
    for outcome, energy in ((Outcome.NOT_CONVERGED, first.energy - 1), (Outcome.CONVERGED, first.energy + 1)):
        both = joined(first, replace(first, outcome=outcome, energy=energy))
        assert (both.outcome, both.energy) == (Outcome.CONVERGED, first.energy)
        assert both.steps == 2 * first.steps + 1
    lower = joined(first, replace(first, energy=first.energy - 1))
    assert lower.energy == first.energy - 1


def test_the_tier_of_the_second_pass():
    tier = tighter(TIER)
    assert (tier.fmax, tier.smax, tier.second_pass) == (0.04, 0.4, None)
