from __future__ import annotations

import time

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax.ase_tier import AseRelaxer, _Stepper
from fuse_flows.relax.base import Relaxer
from fuse_flows.relax.cell import CellOptimizable
from fuse_flows.relax.result import Outcome

TIER = TierConfig(calculator="emt", optimizer="FIRE")


class Faulty(Calculator):
    """EMT with one fault from a given call on."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, fault, start=0):
        super().__init__()
        self.fault, self.start, self.calls, self.emt = fault, start, 0, EMT()

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        copy = atoms.copy()
        copy.calc = self.emt
        self.results = {
            "energy": copy.get_potential_energy(),
            "free_energy": copy.get_potential_energy(),
            "forces": copy.get_forces(),
            "stress": copy.get_stress(),
        }
        self.calls += 1
        if self.calls > self.start:
            self.fault(self.results)


class NoStress(Calculator):
    """A constant energy and no stress."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 1.0, "forces": np.zeros((len(atoms), 3))}


@pytest.mark.parametrize("optimizer", ["FIRE", "LBFGS", "BFGS", "BFGSLineSearch"])
def test_copper_converges_with_every_optimiser(copper, optimizer, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tier = TierConfig(calculator="emt", optimizer=optimizer, fmax=0.01, smax=0.1)
    before = copper()
    kept = before.copy()
    result = AseRelaxer(tier).relax(before)
    assert result.outcome is Outcome.CONVERGED
    assert result.reason == ""
    assert result.structure.volume / 4 == pytest.approx(11.6, abs=0.1)
    assert result.fmax <= 0.01
    assert result.smax <= 0.1
    assert result.steps > 0
    assert result.seconds > 0
    assert (result.engine, result.engine_version.split(".")[0]) == ("emt", "3")
    assert before == kept
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""


def test_energy_belongs_to_the_structure(copper):
    relaxer = AseRelaxer(TierConfig(calculator="emt", max_steps=3, optimizer="FIRE"))
    result = relaxer.relax(copper())
    assert result.outcome is Outcome.NOT_CONVERGED
    assert result.steps == 3
    assert "after 3 steps" in result.reason
    atoms = result.structure.to_ase_atoms()
    atoms.calc = EMT()
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    assert result.fmax == pytest.approx(np.linalg.norm(atoms.get_forces(), axis=1).max(), abs=1e-8)


def test_same_input_same_output_bitwise(copper):
    relaxer = AseRelaxer(TIER)
    first = relaxer.relax(copper())
    relaxer.relax(copper(a=3.7, rattle=0.3))
    second = relaxer.relax(copper())
    assert first.energy == second.energy
    assert (first.structure.lattice.matrix == second.structure.lattice.matrix).all()
    assert (first.structure.frac_coords == second.structure.frac_coords).all()


def test_stress_must_converge_too(copper):
    strained = copper(a=3.8, rattle=0.0)
    fixed = AseRelaxer(TierConfig(calculator="emt", relax_cell=False, optimizer="FIRE")).relax(strained)
    assert fixed.outcome is Outcome.CONVERGED
    assert fixed.steps == 0
    assert fixed.smax > 5.0
    assert fixed.structure.lattice == strained.lattice
    free = AseRelaxer(TIER).relax(strained)
    assert free.outcome is Outcome.CONVERGED
    assert free.smax <= 0.5
    assert free.structure.volume < strained.volume


def test_too_close_before(copper):
    structure = copper(rattle=0.0)
    structure.append("Cu", [0.05, 0.0, 0.0])
    result = AseRelaxer(TIER).relax(structure)
    assert result.outcome is Outcome.TOO_CLOSE
    assert result.energy is None
    assert result.steps == 0
    assert result.structure == structure


def test_too_close_on_the_way():
    result = AseRelaxer(TierConfig(calculator="lj", min_distance=1.2, optimizer="FIRE")).relax(
        Structure(Lattice.cubic(1.5), ["Ar"], [[0, 0, 0]])
    )
    assert result.outcome is Outcome.TOO_CLOSE
    assert result.energy is None
    assert result.steps > 0
    assert 1.2 <= result.structure.lattice.a < 1.5


def test_isolated_atoms_before():
    structure = Structure(Lattice.cubic(12.0), ["Ar", "Ar"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    result = AseRelaxer(TierConfig(calculator="lj", optimizer="FIRE")).relax(structure)
    assert result.outcome is Outcome.ISOLATED_ATOMS
    assert "2 atoms" in result.reason
    assert result.energy is None


def test_explosion_keeps_the_last_good_structure(copper):
    def push(results):
        results["stress"] = np.array([-1.0, -1.0, -1.0, 0.0, 0.0, 0.0])

    tier = TierConfig(calculator="emt", max_volume_change=1.5, smax=0.1, optimizer="FIRE")
    result = AseRelaxer(tier, calculator=Faulty(push)).relax(copper(rattle=0.0))
    assert result.outcome is Outcome.EXPLODED
    assert "volume changed" in result.reason
    assert 1.0 < result.structure.volume / copper().volume <= 1.5
    assert result.energy is None


def test_absurd_force_is_an_explosion(copper):
    def pull(results):
        results["forces"] = np.full((4, 3), 1e6)

    result = AseRelaxer(TIER, calculator=Faulty(pull)).relax(copper())
    assert result.outcome is Outcome.EXPLODED


def test_time_limit(copper):
    def wait(_results):
        time.sleep(0.02)

    tier = TierConfig(calculator="emt", time_limit=0.05, fmax=1e-8, smax=1e-8, optimizer="FIRE")
    result = AseRelaxer(tier, calculator=Faulty(wait)).relax(copper())
    assert result.outcome is Outcome.TIMED_OUT
    assert result.energy is not None
    assert result.steps >= 1
    assert result.seconds >= 0.05


@pytest.mark.parametrize("key", ["energy", "forces", "stress"])
@pytest.mark.parametrize("start", [0, 3])
def test_nan_is_an_engine_error(copper, key, start):
    def spoil(results):
        results[key] = results[key] * np.nan

    structure = copper()
    result = AseRelaxer(TIER, calculator=Faulty(spoil, start)).relax(structure)
    assert result.outcome is Outcome.ENGINE_ERROR
    assert result.reason == f"{key} not finite"
    assert result.energy is None
    assert result.steps == start
    assert np.isfinite(result.structure.frac_coords).all()
    assert (result.structure == structure) == (start == 0)


def test_exception_is_an_engine_error_with_one_line(copper):
    def fail(_results):
        message = "first line\nsecond line " + 300 * "x"
        raise OSError(message)

    result = AseRelaxer(TIER, calculator=Faulty(fail, start=2)).relax(copper())
    assert result.outcome is Outcome.ENGINE_ERROR
    assert result.reason.startswith("OSError: first line second line")
    assert "\n" not in result.reason
    assert len(result.reason) <= 200
    assert result.energy is None


def test_line_search_that_leads_uphill_starts_again(copper, capsys):
    atoms = copper().to_ase_atoms()
    atoms.calc = EMT()
    stepper = _Stepper("BFGSLineSearch", CellOptimizable(atoms))
    stepper.step()
    before, spoilt = stepper.crystal.get_value(), stepper.optimizer
    spoilt.H = -np.eye(stepper.crystal.ndofs())
    spoilt.update = lambda *_args: None
    stepper.step()
    assert stepper.optimizer is not spoilt
    assert stepper.crystal.get_value() < before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass(copper, interrupt):
    def fail(_results):
        raise interrupt

    with pytest.raises(interrupt):
        AseRelaxer(TIER, calculator=Faulty(fail)).relax(copper())


def test_calculator_without_stress(copper):
    result = AseRelaxer(TIER, calculator=NoStress()).relax(copper())
    assert result.outcome is Outcome.ENGINE_ERROR
    assert result.reason == "emt gives no stress; set tiers.relax_cell to false"
    fixed = AseRelaxer(TierConfig(calculator="emt", relax_cell=False, optimizer="FIRE"), calculator=NoStress()).relax(
        copper()
    )
    assert fixed.outcome is Outcome.CONVERGED
    assert fixed.energy == 1.0
    assert fixed.smax is None


def test_element_that_the_calculator_lacks():
    result = AseRelaxer(TIER).relax(Structure(Lattice.cubic(3.0), ["U"], [[0, 0, 0]]))
    assert result.outcome is Outcome.ENGINE_ERROR
    assert "U" in result.reason


def test_disordered_structure_is_an_engine_error():
    structure = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    assert AseRelaxer(TIER).relax(structure).outcome is Outcome.ENGINE_ERROR


def test_site_order_and_properties_are_kept():
    structure = Structure(
        Lattice.cubic(3.75),
        ["Al", "Cu", "Cu", "Al"],
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
        site_properties={"label": ["a", "b", "c", "d"]},
    )
    result = AseRelaxer(TIER).relax(structure)
    assert result.structure.species == structure.species
    assert result.structure.site_properties["label"] == ["a", "b", "c", "d"]


def test_one_atom_cell(copper):
    result = AseRelaxer(TIER).relax(copper(a=3.5, rattle=0.0).get_primitive_structure())
    assert len(result.structure) == 1
    assert result.outcome is Outcome.CONVERGED


def test_protocol():
    relaxer = AseRelaxer(TIER)
    assert isinstance(relaxer, Relaxer)
    assert relaxer.name == "emt"
    assert relaxer.version.startswith("3.")
