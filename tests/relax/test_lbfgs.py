from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax import lbfgs
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.cell import CellOptimizable
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.springs import guess_inverse
from fuse_flows.relax.strain import deform

CAP = 0.35


class Counted(Calculator):
    """An engine that counts its calls, remembers the shortest contact it saw, and has a fault."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, engine, fault=None):
        super().__init__()
        self.engine, self.fault, self.calls, self.seen = engine, fault, 0, []

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.seen.append(atoms.copy())
        copy = atoms.copy()
        copy.calc = self.engine
        self.results = {"forces": copy.get_forces(), "stress": copy.get_stress()}
        self.results["energy"] = self.results["free_energy"] = copy.get_potential_energy()
        if self.fault is not None:
            self.fault(self.results)


def minimise(function, x, *, cap=CAP, noise=0.0, tolerance=1e-6, calls=1000, bad=lambda _: False):
    memory = lbfgs.new_memory(x.size, lbfgs.MEMORY, cap, noise, 10.0)
    lbfgs.start(memory, x)
    for call in range(1, calls + 1):
        while bad(memory.trial):
            if lbfgs.refuse(memory) == lbfgs.STUCK:
                return memory, call
        step = memory.trial - memory.point
        assert np.linalg.norm(step.reshape(-1, 3), axis=1).max() <= cap * (1 + 1e-12)
        value, gradient = function(memory.trial.copy())
        if lbfgs.tell(memory, value, gradient) == lbfgs.ACCEPTED and np.abs(gradient).max() < tolerance:
            return memory, call
    return memory, calls


def relax(structure, engine, **keywords):
    calculator = Counted(engine)
    result = AseRelaxer(TierConfig(calculator="emt", **keywords), calculator=calculator).relax(structure)
    return result, calculator


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), condition=st.floats(1.0, 1e3), rows=st.integers(1, 12))
def test_minimum_of_an_anisotropic_quadratic(seed, condition, rows):
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(3 * rows, 3 * rows)))[0]
    hessian = (axes * np.geomspace(1.0, condition, 3 * rows)) @ axes.T
    centre = rng.normal(size=3 * rows)

    def quadratic(x):
        return 0.5 * (x - centre) @ hessian @ (x - centre), hessian @ (x - centre)

    memory, _ = minimise(quadratic, rng.normal(size=3 * rows))
    assert memory.point == pytest.approx(centre, abs=1e-5)
    assert lbfgs.energy_of(memory) == pytest.approx(0.0, abs=1e-8)


def test_exact_guess_of_the_hessian_needs_few_calls():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    hessian = (axes * np.geomspace(0.1, 100.0, 30)) @ axes.T
    memory = lbfgs.with_guess(lbfgs.new_memory(30, 10, CAP, 0.0, 1.0))
    memory.inverse[:] = np.linalg.inv(hessian)
    lbfgs.start(memory, rng.normal(size=30) * 0.05)
    for _ in range(3):
        gradient = hessian @ memory.trial
        lbfgs.tell(memory, 0.5 * memory.trial @ gradient, gradient)
    assert np.abs(memory.gradient).max() < 1e-10


def test_valley_of_rosenbrock():
    from scipy.optimize import rosen, rosen_der

    memory, calls = minimise(lambda x: (rosen(x), rosen_der(x)), np.zeros(6))
    assert memory.point == pytest.approx(np.ones(6), abs=1e-5)
    assert calls < 150


def test_refused_points_are_backed_away_from_and_never_computed():
    def wall(x):
        return x[0] > 0.5

    def slope(x):
        assert not wall(x)
        return -x[0] + 0.5 * (x[1:] @ x[1:]), np.concatenate([[-1.0], x[1:]])

    memory, _ = minimise(slope, np.full(6, 0.1), bad=wall)
    assert 0.49 < memory.point[0] <= 0.5


def test_first_point_cannot_be_backed_away_from():
    memory = lbfgs.new_memory(3, 5, CAP, 0.0, 1.0)
    lbfgs.start(memory, np.zeros(3))
    assert lbfgs.refuse(memory) == lbfgs.STUCK


def test_energy_that_contradicts_the_forces_is_not_believed():
    memory, calls = minimise(lambda x: (-0.5 * x @ x, x), np.full(6, 0.4))
    assert calls < 300
    assert memory.point == pytest.approx(np.zeros(6), abs=1e-5)


def test_noise_does_not_stop_it():
    rng = np.random.default_rng(1)

    def noisy(x):
        return 0.5 * x @ x - 100 + rng.uniform(-1e-4, 1e-4), x + rng.uniform(-1e-4, 1e-4, size=x.size)

    _, calls = minimise(noisy, rng.normal(size=30), noise=2e-4, tolerance=1e-3)
    assert calls < 60


@pytest.mark.parametrize("relax_cell", [True, False])
def test_springs_are_positive_and_feel_no_shift(copper, relax_cell):
    atoms = copper().to_ase_atoms()
    x = CellOptimizable(atoms, relax_cell=relax_cell, scale=2.0).get_x()
    inverse = np.empty((x.size, x.size))
    guess_inverse(x, atoms.cell.array, 2.0, np.full(4, 1.3), inverse)
    assert inverse == pytest.approx(inverse.T, abs=1e-12)
    assert np.linalg.eigvalsh(inverse).min() > 0
    shift = np.zeros(x.size)
    shift[:12:3] = 1.0
    assert inverse @ shift == pytest.approx(shift, abs=1e-9)  # only the ground stiffness of 1 eV/A^2


def test_geometry_of_a_vector_is_that_of_the_crystal(copper):
    atoms = copper().to_ase_atoms()
    crystal, before = CellOptimizable(atoms, scale=2.5), atoms.cell.array.copy()
    crystal.set_x(crystal.get_x() + 0.2 * np.random.default_rng(0).normal(size=21))
    cell, positions, stretch = deform(crystal.get_x(), before, 2.5, 4)
    assert cell == pytest.approx(atoms.cell.array, abs=1e-13)
    assert positions == pytest.approx(atoms.positions, abs=1e-13)
    assert stretch == pytest.approx(stretch.T, abs=1e-13)


def test_copper_ends_where_bfgs_ends_with_no_more_calls(copper):
    tight = {"fmax": 1e-3, "smax": 1e-2}
    ours, counted = relax(copper(a=3.8, rattle=0.2), EMT(), optimizer="L-BFGS", **tight)
    theirs, reference = relax(copper(a=3.8, rattle=0.2), EMT(), optimizer="BFGS", **tight)
    assert ours.outcome is theirs.outcome is Outcome.CONVERGED
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-4)
    assert ours.structure.volume == pytest.approx(theirs.structure.volume, rel=1e-3)
    assert counted.calls <= reference.calls
    assert ours.steps == counted.calls - 1


def test_argon_ends_where_bfgs_ends(copper):
    start = copper(a=1.7, rattle=0.05)
    engine = {"sigma": 1.0, "epsilon": 1.0, "rc": 4.0, "smooth": True}
    ours, _ = relax(start, LennardJones(**engine), optimizer="L-BFGS", fmax=1e-3, smax=1e-2, min_distance=0.5)
    theirs, _ = relax(start, LennardJones(**engine), optimizer="BFGS", fmax=1e-3, smax=1e-2, min_distance=0.5)
    assert ours.outcome is theirs.outcome is Outcome.CONVERGED
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-4)


def test_same_input_same_output_bitwise(copper):
    first, _ = relax(copper(), EMT(), fmax=0.001)
    relax(copper(a=3.7, rattle=0.3), EMT())
    second, _ = relax(copper(), EMT(), fmax=0.001)
    assert first.energy == second.energy
    assert (first.structure.lattice.matrix == second.structure.lattice.matrix).all()
    assert (first.structure.frac_coords == second.structure.frac_coords).all()


def test_fixed_cell(copper):
    start = copper(rattle=0.3)
    result, _ = relax(start, EMT(), relax_cell=False)
    assert result.outcome is Outcome.CONVERGED
    assert result.structure.lattice == start.lattice


@pytest.mark.parametrize("a", [3.2, 3.5, 4.2])
def test_one_atom_cell(copper, a):
    result, _ = relax(copper(a=a, rattle=0.0).get_primitive_structure(), EMT())
    assert len(result.structure) == 1
    assert result.outcome is Outcome.CONVERGED
    assert result.structure.volume == pytest.approx(11.6, abs=0.2)


def test_flat_cell():
    start = Structure(
        Lattice.orthorhombic(2.5, 2.6, 21.0), ["Cu"] * 8, [[0.5 * (i % 2), 0.5 * (i % 2), i / 8] for i in range(8)]
    )
    ours, _ = relax(start, EMT())
    assert ours.outcome is Outcome.CONVERGED


def test_large_cell(copper):
    start = (copper(rattle=0.0) * (3, 3, 3)).perturb(0.15, seed=2)
    ours, counted = relax(start, EMT())
    assert ours.outcome is Outcome.CONVERGED
    assert counted.calls < 40


def test_contacts_that_are_too_short_are_never_computed():
    engine = Counted(LennardJones(sigma=0.8, epsilon=1.0, rc=3.0))
    tier = TierConfig(calculator="lj", min_distance=1.2)
    result = AseRelaxer(tier, engine).relax(Structure(Lattice.cubic(1.5), ["Ar"], [[0, 0, 0]]))
    assert result.outcome is Outcome.TOO_CLOSE
    assert result.energy is None
    assert result.structure.lattice.a == pytest.approx(1.2, abs=0.02)
    assert all(min(atoms.cell.lengths()) >= 1.2 for atoms in engine.seen)


def test_explosion_ends_at_the_limit(copper):
    def push(results):
        results["stress"] = np.array([-1.0, -1.0, -1.0, 0.0, 0.0, 0.0])
        results["energy"] = -engine.seen[-1].get_volume()

    engine = Counted(EMT(), push)
    tier = TierConfig(calculator="emt", max_volume_change=1.5)
    result = AseRelaxer(tier, engine).relax(copper(rattle=0.0))
    assert result.outcome is Outcome.EXPLODED
    assert 1.4 < result.structure.volume / copper().volume <= 1.5
    assert result.energy is None


def test_engine_that_contradicts_itself_ends_after_max_steps(copper):
    def rise(results, calls=[0]):  # noqa: B006 - counts over all calls
        calls[0] += 1
        results["energy"] = results["free_energy"] = float(calls[0])
        results["forces"] = np.ones((4, 3))

    engine = Counted(EMT(), rise)
    result = AseRelaxer(TierConfig(calculator="emt", max_steps=60), engine).relax(copper())
    assert result.outcome is Outcome.NOT_CONVERGED
    assert "after 60 steps" in result.reason
    assert engine.calls == 61


def test_numbers_that_are_not_finite_are_backed_away_from(copper):
    spoilt = []

    def spoil(results):
        if len(engine.seen) == 3:
            spoilt.append(results["energy"])
            results["energy"] = np.nan

    engine = Counted(EMT(), spoil)
    result = AseRelaxer(TierConfig(calculator="emt", fmax=0.01, smax=0.05), engine).relax(copper(a=3.9, rattle=0.3))
    assert len(spoilt) == 1
    assert result.outcome is Outcome.CONVERGED


def test_engine_that_knows_no_numbers_any_more(copper):
    def spoil(results):
        if len(engine.seen) > 2:
            results["energy"] = np.nan

    engine = Counted(EMT(), spoil)
    result = AseRelaxer(TierConfig(calculator="emt", fmax=0.001), engine).relax(copper(a=3.9, rattle=0.3))
    assert result.outcome is Outcome.ENGINE_ERROR
    assert result.reason == "energy not finite"
    assert engine.calls < 20
