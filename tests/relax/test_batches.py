from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.batches import relax_together
from fuse_flows.relax.cell import Numbers
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.tiers import relax_all_through, relax_through, single_point, single_relaxer

FACES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


class ManyEmt(EMT):
    """EMT that takes many crystals at once, and no more atoms than its memory holds."""

    def __init__(self, memory=1000):
        super().__init__()
        self.memory, self.batches = memory, []

    def compute_many(self, crystals):
        self.batches.append([len(crystal) for crystal in crystals])
        if sum(map(len, crystals)) > self.memory:
            raise RuntimeError("CUDA out of memory")
        numbers = []
        for crystal in crystals:
            copy = crystal.copy()
            copy.calc = EMT()
            forces = copy.get_forces()
            numbers.append(Numbers(copy.get_potential_energy(), forces, copy.get_stress(voigt=False)))
        return numbers

    def batch_capacity(self):
        return 16


@pytest.fixture
def mixed():
    """Structures of which some are refused, fail, or run away, between some that relax."""
    alloy = Structure(Lattice.cubic(3.75), ["Al", "Cu", "Cu", "Al"], FACES)
    bad = alloy.copy()
    bad.append("Cu", [0.05, 0.0, 0.0])
    return [
        alloy.perturb(0.1, seed=1),
        bad,
        alloy.perturb(0.3, seed=2),
        Structure(Lattice.cubic(3.0), ["U"], [[0, 0, 0]]),
        Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]]),
        (alloy * (2, 1, 1)).perturb(0.2, seed=3),
        Structure(Lattice.cubic(3.6), ["Cu"] * 4, FACES).perturb(0.1, seed=4),
        Structure(Lattice.rhombohedral(2.5, 60), ["Cu"], [[0, 0, 0]]),
    ]


def same(one, two):
    assert one.outcome is two.outcome
    assert one.energy == two.energy
    assert one.steps == two.steps
    assert one.reason == two.reason
    assert (one.structure.lattice.matrix == two.structure.lattice.matrix).all()
    assert (one.structure.frac_coords == two.structure.frac_coords).all()


@pytest.mark.parametrize("capacity", [1, 9, 100])
def test_a_batch_equals_one_by_one_and_bad_structures_disturb_nobody(mixed, capacity):
    tier = TierConfig(calculator="emt", max_steps=40)
    alone = [AseRelaxer(tier).relax(structure) for structure in mixed]
    together = relax_together(AseRelaxer(tier, ManyEmt()), mixed, capacity=capacity)
    assert {result.outcome for result in alone} == {
        Outcome.CONVERGED,
        Outcome.TOO_CLOSE,
        Outcome.ENGINE_ERROR,
    }
    for one, two in zip(alone, together, strict=True):
        same(one, two)


def test_batches_are_full_and_the_next_enters_when_one_leaves(mixed):
    engine = ManyEmt()
    good = [mixed[0], mixed[2], mixed[5], mixed[6]]
    relax_together(AseRelaxer(TierConfig(calculator="emt"), engine), good)
    sizes = [sum(batch) for batch in engine.batches]
    assert max(sizes) <= 16
    assert engine.batches[0] == [4, 4, 8]
    assert [4] not in engine.batches[:2]
    assert any(len(batch) > 1 and 4 in batch for batch in engine.batches[1:])


def test_too_little_memory_halves_the_batches(mixed):
    tier = TierConfig(calculator="emt")
    good = [mixed[0], mixed[2], mixed[5], mixed[6]]
    engine = ManyEmt(memory=9)
    for one, two in zip(relax_together(AseRelaxer(tier, engine), good), map(AseRelaxer(tier).relax, good), strict=True):
        same(one, two)
    assert max(sum(batch) for batch in engine.batches[3:]) <= 9


def test_a_structure_too_large_for_the_memory_fails_alone(mixed):
    good = [mixed[0], mixed[5], mixed[6]]
    results = relax_together(AseRelaxer(TierConfig(calculator="emt"), ManyEmt(memory=5)), good)
    assert [result.outcome for result in results] == [Outcome.CONVERGED, Outcome.ENGINE_ERROR, Outcome.CONVERGED]
    assert "out of memory" in results[1].reason


def test_nothing_to_relax():
    relaxer = AseRelaxer(TierConfig(calculator="emt"), ManyEmt())
    assert relax_together(relaxer, []) == []
    assert relaxer.relax_batch([]) == []


@pytest.mark.parametrize("calculator", ["emt", "ase.calculators.emt:EMT"])
def test_processes_give_the_same_bits(mixed, calculator):
    relaxer = AseRelaxer(TierConfig(calculator=calculator))
    for one, two in zip(map(relaxer.relax, mixed), relaxer.relax_batch(mixed, workers=2), strict=True):
        same(one, two)
        assert two.seconds > 0 or two.outcome is Outcome.ENGINE_ERROR
        assert (two.engine, two.engine_version) == (one.engine, one.engine_version)


def test_processes_compute_structures_as_they_are(mixed):
    tier = TierConfig(calculator="emt")
    for structure, result in zip(mixed, single_relaxer(tier).relax_batch(mixed, workers=2), strict=True):
        same(single_point(structure, tier), result)
        assert result.steps == 0


def test_a_process_that_dies_costs_one_structure(mixed, tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(
        "import os\nfrom ase.calculators.emt import EMT\n\n\nclass Deadly(EMT):\n"
        "    def calculate(self, atoms=None, *args, **keywords):\n"
        "        if len(atoms) == 8:\n            os._exit(7)\n"
        "        super().calculate(atoms, *args, **keywords)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    good = [mixed[0], mixed[5], mixed[6]]
    results = AseRelaxer(TierConfig(calculator="deadly:Deadly")).relax_batch(good, workers=2)
    assert [result.outcome for result in results] == [Outcome.CONVERGED, Outcome.ENGINE_ERROR, Outcome.CONVERGED]
    assert results[1].reason == "the process ended with code 7"
    assert results[1].structure == mixed[5]


def test_a_process_that_is_killed_costs_nothing(mixed, tmp_path, monkeypatch):
    (tmp_path / "killed_once.py").write_text(
        "import os, signal\nfrom pathlib import Path\nfrom ase.calculators.emt import EMT\n\n\nclass Killed(EMT):\n"
        "    def calculate(self, atoms=None, *args, **keywords):\n"
        f"        mark = Path({str(tmp_path / 'mark')!r})\n"
        "        if len(atoms) == 8 and not mark.exists():\n"
        "            mark.touch()\n            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        super().calculate(atoms, *args, **keywords)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    good = [mixed[0], mixed[5], mixed[6]]
    results = AseRelaxer(TierConfig(calculator="killed_once:Killed")).relax_batch(good, workers=2)
    assert (tmp_path / "mark").exists()
    for structure, result in zip(good, results, strict=True):
        same(AseRelaxer(TierConfig(calculator="emt")).relax(structure), result)


def test_a_calculator_object_is_not_copied(mixed):
    engine = ManyEmt()
    (first, second) = AseRelaxer(TierConfig(calculator="emt"), engine).relax_batch(mixed[:3:2], workers=2)
    assert first.outcome is second.outcome is Outcome.CONVERGED
    assert engine.batches == []


def test_chains_together_equal_chains_one_by_one(mixed):
    tiers = [TierConfig(calculator="emt", max_steps=2), TierConfig(calculator="emt", fmax=0.01, smax=0.1)]
    together = relax_all_through(mixed, tiers)
    assert [len(results) for results in together] == [2, 1, 2, 1, 1, 2, 2, 2]
    for structure, results in zip(mixed, together, strict=True):
        for one, two in zip(relax_through(structure, tiers), results, strict=True):
            same(one, two)


@pytest.mark.chgnet
class TestChgnet:
    """CHGNet's own batches."""

    @pytest.fixture
    def oxides(self, rocksalt, perovskite):
        alone = Structure(Lattice.rhombohedral(2.4, 60), ["Mg"], [[0, 0, 0]])
        rarefied = Structure(Lattice.cubic(4.5), ["Ar"], [[0, 0, 0]])  # no bond is short enough for an angle
        return [rocksalt(4.35), rarefied, perovskite(3.8).perturb(0.15, seed=2), alone, rocksalt(4.1)]

    def test_numbers_are_those_of_the_calculator(self, oxides):
        pytest.importorskip("chgnet")
        from fuse_flows.relax.calculators import make_calculator

        calculator = make_calculator(TierConfig())
        crystals = [structure.to_ase_atoms() for structure in oxides]
        for crystal, many in zip(crystals, calculator.compute_many(crystals), strict=True):
            crystal.calc = calculator
            assert many.energy == pytest.approx(crystal.get_potential_energy(), abs=1e-5 * len(crystal))
            np.testing.assert_allclose(many.forces, crystal.get_forces(), atol=1e-4)
            np.testing.assert_allclose(many.stress, crystal.get_stress(voigt=False), rtol=1e-5, atol=1e-6)

    def test_relaxations_are_those_one_by_one(self, oxides):
        pytest.importorskip("chgnet")
        relaxer = AseRelaxer(TierConfig(max_steps=4))
        bad = Structure(Lattice.cubic(4.0), ["Mg", "O"], [[0, 0, 0], [0.05, 0, 0]])
        structures = [oxides[0], bad, oxides[2], oxides[4]]
        results = relax_together(relaxer, structures, capacity=14)
        assert results[1].outcome is Outcome.TOO_CLOSE
        for one, two in zip(map(relaxer.relax, structures), results, strict=True):
            assert one.outcome is two.outcome
            if one.energy is not None:
                assert two.energy_per_atom == pytest.approx(one.energy_per_atom, abs=1e-5)
                assert two.fmax == pytest.approx(one.fmax, abs=2e-3)
