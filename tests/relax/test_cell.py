from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter

from fuse_flows.relax.cell import CellOptimizable


def deformed_copper(seed=0):
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0.0, 0.03, (3, 3))), scale_atoms=True)
    atoms.calc = EMT()
    return atoms


def symmetric_step(crystal, seed=1, size=0.05):
    step = np.random.default_rng(seed).normal(0.0, size, crystal.ndofs())
    tail = step[-9:].reshape(3, 3) * len(crystal.atoms)
    step[-9:] = (0.5 * (tail + tail.T)).ravel()
    return step


def test_gradient_is_the_derivative_of_the_energy():
    crystal = CellOptimizable(deformed_copper())
    x = crystal.get_x() + symmetric_step(crystal)
    crystal.set_x(x)
    gradient = crystal.get_gradient()
    for seed in range(5):
        step = symmetric_step(crystal, seed=10 + seed, size=1e-5)
        values = []
        for sign in (1.0, -1.0):
            crystal.set_x(x + sign * step)
            values.append(crystal.get_value())
        assert (values[0] - values[1]) / 2 == pytest.approx(gradient @ step, rel=1e-5)


def test_gradient_equals_that_of_the_frechet_filter():
    crystal = CellOptimizable(deformed_copper())
    crystal.set_x(crystal.get_x() + symmetric_step(crystal))
    atoms = deformed_copper()
    reference = FrechetCellFilter(atoms)
    atoms.set_cell(crystal.atoms.cell)
    atoms.positions = crystal.atoms.positions
    forces = reference.get_forces()
    tail = 0.5 * (forces[-3:] + forces[-3:].T)
    np.testing.assert_allclose(crystal.get_gradient()[:-9], -forces[:-3].ravel(), atol=1e-10)
    np.testing.assert_allclose(crystal.get_gradient()[-9:], -tail.ravel(), atol=1e-10)


def test_vector_round_trip_and_no_rotation():
    crystal = CellOptimizable(deformed_copper())
    before = crystal.atoms.cell.array
    x = crystal.get_x() + symmetric_step(crystal)
    crystal.set_x(x)
    np.testing.assert_allclose(crystal.get_x(), x, atol=1e-14)
    stretch = np.linalg.solve(before, crystal.atoms.cell.array)
    np.testing.assert_allclose(stretch, stretch.T, atol=1e-12)


def test_fixed_cell_moves_only_atoms():
    crystal = CellOptimizable(deformed_copper(), relax_cell=False)
    before = crystal.atoms.cell.array.copy()
    assert crystal.ndofs() == 12
    crystal.set_x(crystal.get_x() + 0.01)
    np.testing.assert_array_equal(crystal.atoms.cell.array, before)
    np.testing.assert_allclose(crystal.get_gradient(), -crystal.atoms.get_forces().ravel())
