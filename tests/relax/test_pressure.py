"""Relaxation under pressure: what comes out has this pressure, and what is compared is the enthalpy."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from ase.units import GPa
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.generators.pair_model import PairEnergyModel
from fuse_flows.relax.batches import relax_together
from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.relax.screening import screened
from fuse_flows.relax.second_pass import joined, needs_second_pass
from fuse_flows.relax.tiers import build_relaxer, relax_many, relax_through, single_point
from fuse_flows.schemas.relaxation import ResultDoc
from fuse_flows.structures.fingerprint import Cell

TIGHT = {"fmax": 0.005, "smax": 0.05, "max_steps": 400}
IONS = {"charges": {"Na": 1.0, "Cl": -1.0}, "coulomb": "ewald"}
IONS["pairs"] = {"Na-Cl": (1256.31, 0.3107, 0.0), "Cl-Cl": (3485.0, 0.3107, 29.06)}


def rocksalt(anion="Cl", cation="Na", a=5.6):
    """B1: six neighbours."""
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def eightfold(a=3.4):
    """B2: eight neighbours, denser."""
    return Structure(Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@dataclass(frozen=True)
class Case:
    """A potential, a crystal for it and a pressure (GPa)."""

    crystal: Structure
    pressure: float
    calculator: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.06

    def tier(self, **changes):
        return TierConfig(
            calculator=self.calculator,
            calculator_kwargs=self.kwargs,
            **TIGHT | {"second_pass": None} | self.more | changes,
        )


def copper(a=3.6):
    return Structure.from_spacegroup("Pm-3m", Lattice.cubic(a), ["Au", "Cu"], [[0, 0, 0], [0.5, 0.5, 0]])


CASES = {
    "buckingham": Case(rocksalt(), 10.0, "buckingham", IONS),
    "spp": Case(rocksalt("O", "Mg", 4.2), 20.0, "spp", {"gnorm": None}),
    "emt": Case(copper(3.75), 25.0, "emt"),
    "tension": Case(copper(3.75), -5.0, "emt"),
    "fire": Case(copper(3.75), 25.0, "emt", more={"optimizer": "FIRE"}),
    "chgnet": Case(rocksalt("O", "Mg", 4.2).get_primitive_structure(), 30.0, "chgnet", tolerance=0.3),
}


def heavy(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name == "chgnet" else name for name in names]


@pytest.mark.parametrize("name", heavy(CASES))
def test_relaxed_crystal_has_the_pressure(name):
    """-dE/dV by finite differences, from energies that know of no pressure."""
    case = CASES[name]
    start = case.crystal.copy().perturb(0.05, seed=1).apply_strain([0.01, -0.01, 0.0])
    result = build_relaxer(case.tier(pressure=case.pressure)).relax(start)
    assert (result.outcome, result.pressure) == (Outcome.CONVERGED, case.pressure)
    assert result.smax <= TIGHT["smax"]
    energies, volumes = [], []
    for factor in (0.999, 1.001, 0.98, 1.02):
        scaled = result.structure.copy()
        scaled.scale_lattice(factor * result.structure.volume)
        energies.append(single_point(scaled, case.tier()).energy)
        volumes.append(scaled.volume)
    found = -(energies[1] - energies[0]) / (volumes[1] - volumes[0]) / GPa
    assert found == pytest.approx(case.pressure, abs=case.tolerance + 0.005 * abs(case.pressure))
    # the energy is the crystal's own, the enthalpy is lowest here
    assert result.energy == pytest.approx(single_point(result.structure, case.tier()).energy, abs=1e-4)
    assert result.enthalpy == pytest.approx(result.energy + case.pressure * GPa * result.structure.volume, abs=1e-9)
    for energy, volume in zip(energies[2:], volumes[2:], strict=True):
        assert energy + case.pressure * GPa * volume > result.enthalpy
    assert ResultDoc.from_result(result).to_result().enthalpy == result.enthalpy


@pytest.mark.parametrize("name", ["buckingham", "emt"])
def test_no_pressure_is_pressure_zero(name):
    case = CASES[name]
    start = case.crystal.copy().perturb(0.05, seed=1)
    plain, zero = (build_relaxer(case.tier(pressure=pressure)).relax(start) for pressure in (None, 0.0))
    assert (plain.energy, plain.steps) == (zero.energy, zero.steps)
    assert np.array_equal(plain.structure.lattice.matrix, zero.structure.lattice.matrix)
    assert plain.enthalpy == plain.energy


@pytest.mark.parametrize("name", ["buckingham", "spp", "emt", "fire"])
def test_fixed_cells_only_gain_work(name):
    """Where the cell is kept, pressure changes no geometry, and every energy by p V."""
    case = CASES[name]
    start = case.crystal.copy().perturb(0.05, seed=1)
    free, pressed = (build_relaxer(case.tier(relax_cell=False, pressure=p)).relax(start) for p in (None, case.pressure))
    assert (free.outcome, pressed.outcome) == ("CONVERGED", "CONVERGED")
    assert pressed.energy == pytest.approx(free.energy, abs=1e-5)
    assert pressed.enthalpy - pressed.energy == pytest.approx(case.pressure * GPa * start.volume)
    single = relax_many([start], case.tier(pressure=case.pressure), single=True)[0]
    assert single.enthalpy - single.energy == pytest.approx(case.pressure * GPa * start.volume)
    assert single.steps == 0


def test_pressure_reverses_two_polymorphs():
    """Rock salt has the lower energy, the caesium chloride structure the smaller volume: it wins under pressure."""
    enthalpies, volumes = {}, {}
    for pressure in (0.0, 60.0):
        tier = CASES["buckingham"].tier(pressure=pressure)
        for structure in (rocksalt(), eightfold()):
            result = build_relaxer(tier).relax(structure)
            assert result.outcome == "CONVERGED"
            enthalpies[pressure, len(structure)] = result.enthalpy_per_atom
            volumes[pressure, len(structure)] = result.structure.volume / len(structure)
    assert enthalpies[0.0, 8] < enthalpies[0.0, 2]
    assert enthalpies[60.0, 2] < enthalpies[60.0, 8]
    for pressure in (0.0, 60.0):
        assert volumes[pressure, 2] < volumes[pressure, 8]


def test_other_processes_and_chains_keep_it():
    case = CASES["emt"]
    starts = [case.crystal.copy().perturb(0.1, seed=seed) for seed in range(2)]
    relaxer = build_relaxer(case.tier(pressure=case.pressure))
    alone = [relaxer.relax(start) for start in starts]
    for one, two in zip(alone, relaxer.relax_batch(starts, 2), strict=True):
        assert (one.energy, one.enthalpy, one.pressure) == (two.energy, two.enthalpy, two.pressure)
    rough = case.tier(max_steps=5, smax=5.0, fmax=0.5)
    first, last = relax_through(starts[0], [rough, case.tier(pressure=case.pressure)])
    assert (first.pressure, last.pressure) == (0.0, case.pressure)
    assert last.enthalpy == pytest.approx(alone[0].enthalpy, abs=2e-3)


@pytest.mark.slow
def test_batches_of_chgnet():
    case = CASES["chgnet"]
    starts = [case.crystal.copy().perturb(0.1, seed=seed) for seed in range(2)]
    relaxer = build_relaxer(case.tier(pressure=case.pressure, fmax=0.05, smax=0.5))
    together = relax_together(relaxer, starts, capacity=100)
    for start, result in zip(starts, together, strict=True):
        alone = relaxer.relax(start)
        assert (result.outcome, result.pressure) == ("CONVERGED", case.pressure)
        assert result.enthalpy == pytest.approx(alone.enthalpy, abs=5e-3)


def made(enthalpy, volume=40.0, pressure=50.0):
    """Return a result of two atoms with this enthalpy per atom."""
    structure = Structure(Lattice.cubic(volume ** (1 / 3)), ["Cu", "Cu"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    energy = 2 * enthalpy - pressure * GPa * structure.volume
    return RelaxResult(Outcome.CONVERGED, structure, energy, pressure=pressure)


def test_screening_and_second_pass_look_at_enthalpies():
    tier = TierConfig(calculator="emt", pressure=50.0, max_energy_above_best=0.5, second_pass=0.1)
    dense, loose = made(1.0, 20.0), made(1.0, 40.0)
    assert loose.energy < dense.energy - 5  # energies alone would say something else
    for result in (dense, loose):
        assert screened(result, tier, 0.9).outcome == "CONVERGED"
        assert screened(result, tier, 0.3).outcome == "SCREENED_OUT"
        assert needs_second_pass(result, build_relaxer(tier), 0.95)
        assert not needs_second_pass(result, build_relaxer(tier), 0.85)
    assert joined(loose, made(0.99, 20.0)).structure.volume == pytest.approx(20.0)


@pytest.mark.parametrize("optimizer", ["L-BFGS", "FIRE"])
def test_relaxations_that_are_hopeless_by_their_enthalpy_are_stopped(optimizer):
    tier = CASES["emt"].tier(pressure=50.0, optimizer=optimizer, fmax=1e-8, smax=1e-7)
    end = build_relaxer(CASES["emt"].tier(pressure=50.0)).relax(copper())
    start = end.structure.copy().perturb(0.05, seed=2)
    reference = end.energy_per_atom + 1.0  # far above the energies and far below the enthalpies
    assert reference < end.enthalpy_per_atom - 1.0
    watched = tier.model_copy(update={"stop_above_best": 0.1})
    assert build_relaxer(tier).relax(start, reference).outcome != "SCREENED_OUT"
    assert build_relaxer(watched).relax(start, reference).outcome == "SCREENED_OUT"


def test_energy_models_return_enthalpies():
    tier = CASES["spp"].tier(pressure=20.0)
    structures = [rocksalt("O", "Mg", a) for a in (4.0, 4.2)]
    cells = [Cell.from_structure(structure) for structure in structures]
    found = PairEnergyModel(pressure=20.0).energies(cells)
    expected = [single_point(structure, tier).enthalpy_per_atom for structure in structures]
    assert found == pytest.approx(expected, abs=1e-6)
    work = [20.0 * GPa * structure.volume / len(structure) for structure in structures]
    assert found - PairEnergyModel().energies(cells) == pytest.approx(work)
