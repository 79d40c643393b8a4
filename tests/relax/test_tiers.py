from __future__ import annotations

import pytest
from ase.calculators.emt import EMT

from fuse_flows.config import TierConfig
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.tiers import build_relaxer, relax_many, relax_through, single_point

ROUGH = TierConfig(calculator="emt", max_steps=2, optimizer="FIRE")
FINE = TierConfig(calculator="emt", optimizer="BFGS", fmax=0.005, smax=0.05)


def test_each_tier_starts_where_the_one_before_ended(copper):
    rough, fine = relax_through(copper(), [ROUGH, FINE])
    assert rough.outcome is Outcome.NOT_CONVERGED
    assert fine.outcome is Outcome.CONVERGED
    assert fine.energy < rough.energy
    again = build_relaxer(FINE).relax(rough.structure)
    assert again.energy == fine.energy


def test_a_tier_may_begin_with_exact_symmetry(copper):
    """No force of a symmetric crystal breaks its symmetry, and a copper lattice has no force at all."""
    fixed = {"calculator": "emt", "relax_cell": False, "max_steps": 50}
    noisy = copper(rattle=0.005)
    (as_it_is,) = relax_through(noisy, [TierConfig(**fixed)])
    (symmetric,) = relax_through(noisy, [TierConfig(symprec=0.1, **fixed)])
    assert symmetric.fmax < 1e-6
    assert as_it_is.fmax > 1e-6
    (ranked,) = relax_many([noisy], TierConfig(symprec=0.1, **fixed))
    assert ranked.fmax < 1e-6
    assert TierConfig(**fixed).identity() == TierConfig(symprec=None, **fixed).identity()
    assert "symprec" not in TierConfig(**fixed).identity()
    assert "symprec" in TierConfig(symprec=0.1, **fixed).identity()


def test_a_failed_tier_ends_the_chain(copper):
    structure = copper(rattle=0.0)
    structure.append("Cu", [0.05, 0.0, 0.0])
    (result,) = relax_through(structure, [ROUGH, FINE])
    assert result.outcome is Outcome.TOO_CLOSE


def test_last_tier_may_end_unconverged(copper):
    results = relax_through(copper(), [ROUGH, ROUGH])
    assert [r.outcome for r in results] == [Outcome.NOT_CONVERGED] * 2
    assert results[1].energy < results[0].energy


def test_equal_tiers_share_a_relaxer():
    assert build_relaxer(ROUGH) is build_relaxer(TierConfig(calculator="emt", max_steps=2, optimizer="FIRE"))
    assert build_relaxer(ROUGH) is not build_relaxer(FINE)


def test_short_oxide_relaxation(perovskite):
    structure = perovskite(4.1).perturb(0.2, seed=4)
    (result,) = relax_through(structure, [TierConfig(calculator="buckingham", optimizer="FIRE")])
    assert result.outcome is Outcome.CONVERGED
    assert result.energy_per_atom == pytest.approx(-31.519, abs=0.01)


def test_single_point_is_the_energy_of_the_structure_as_it_is(copper):
    structure = copper()
    result = single_point(structure, ROUGH)
    atoms = structure.to_ase_atoms()
    atoms.calc = EMT()
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert result.steps == 0
    assert result.structure == structure
    structure.append("Cu", [0.01, 0.0, 0.0])
    assert single_point(structure, ROUGH).energy is None
