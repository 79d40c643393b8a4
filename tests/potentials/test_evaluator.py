from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.calculator import PairCalculator
from fuse_flows.potentials.evaluator import GeometryError, evaluate
from fuse_flows.potentials.kernels import FINE, list_is_stale, pair_list

STEP = 1e-4
SYMBOLS = ["Ca", "Ti", "O", "O", "O"]


def random_crystal(seed, n):
    """Triclinic cell of any handedness, some flat or needle-like, atoms anywhere, also outside."""
    rng = np.random.default_rng(seed)
    cell = rng.normal(0.0, 1.0, (3, 3)) * rng.uniform(1.5, 7.0, 3)[:, None]
    return cell, rng.uniform(-2.0, 2.0, (n, 3)) @ cell


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 5))
def test_energy_is_the_sum_over_all_images(tables, brute_force, seed, n):
    cell, positions = random_crystal(seed, n)
    assume(abs(np.linalg.det(cell)) > 4.0 * n)
    found = evaluate(tables, SYMBOLS[:n], cell, positions).energy
    assert found == pytest.approx(brute_force(SYMBOLS[:n], cell, positions), rel=1e-10, abs=1e-9)


def differences(tables, symbols, cell, positions):
    """Forces (n, 3) and stress (3, 3) from central differences of the energy."""

    def slope(displacement, strain):
        ends = []
        for sign in (1.0, -1.0):
            deform = np.eye(3) + sign * STEP * strain
            ends.append(
                evaluate(tables, symbols, cell @ deform, (positions + sign * STEP * displacement) @ deform).energy
            )
        return (ends[0] - ends[1]) / (2 * STEP)

    still = np.zeros_like(positions)
    forces = [slope(unit, np.zeros((3, 3))) for unit in np.eye(still.size).reshape(-1, *still.shape)]
    stress = [slope(still, unit) for unit in np.eye(9).reshape(-1, 3, 3)]
    return -np.reshape(forces, (-1, 3)), np.reshape(stress, (3, 3)) / abs(np.linalg.det(cell))


PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


@pytest.mark.parametrize(
    "cell",
    [
        3.9 * np.eye(3),
        [[3.9, 0.3, 0.1], [-0.4, 4.1, 0.6], [0.2, 0.5, 3.8]],
        [[4.0, 0, 0], [3.0, 4.0, 0], [0, 9.0, 4.0]],  # strongly skewed
        [[8.0, 0, 0], [0, 9.0, 0], [0, 0, 2.2]],  # flatter than the cut-off
        [[0, 4.0, 0], [4.0, 0, 0], [0, 0, 4.2]],  # left-handed
    ],
)
def test_forces_and_stress_to_a_millionth(tables, cell):
    cell = np.array(cell, dtype=float)
    positions = PEROVSKITE @ cell + np.random.default_rng(2).normal(0, 0.08, (5, 3))
    numbers = evaluate(tables, SYMBOLS, cell, positions)
    forces, stress = differences(tables, SYMBOLS, cell, positions)
    np.testing.assert_allclose(numbers.forces, forces, atol=1e-6)
    np.testing.assert_allclose(numbers.stress, stress, atol=1e-6)
    np.testing.assert_allclose(numbers.forces.sum(axis=0), 0, atol=1e-10)


def test_one_atom_feels_only_its_images(tables):
    cell = np.array([[2.6, 0, 0], [0.4, 2.8, 0], [0.1, -0.3, 3.0]])
    numbers = evaluate(tables, ["O"], cell, [[50.0, -3.0, 7.0]])
    np.testing.assert_array_equal(numbers.forces, 0)
    _, stress = differences(tables, ["O"], cell, np.zeros((1, 3)))
    np.testing.assert_allclose(numbers.stress, stress, atol=1e-6)
    assert numbers.shortest == pytest.approx(2.6)


def test_a_supercell_has_the_same_numbers(tables):
    atoms = Atoms(SYMBOLS, cell=3.9 * np.eye(3) + 0.2, scaled_positions=PEROVSKITE, pbc=True)
    atoms.rattle(0.1, seed=1)
    one = evaluate(tables, atoms.get_chemical_symbols(), atoms.cell.array, atoms.positions)
    many = atoms * (3, 2, 4)
    numbers = evaluate(tables, many.get_chemical_symbols(), many.cell.array, many.positions)
    assert numbers.energy == pytest.approx(24 * one.energy, rel=1e-11)
    np.testing.assert_allclose(numbers.forces.reshape(24, 5, 3), np.broadcast_to(one.forces, (24, 5, 3)), atol=1e-10)
    np.testing.assert_allclose(numbers.stress, one.stress, atol=1e-12)


def test_atoms_far_apart_have_only_their_own_energy(tables):
    numbers = evaluate(tables, ["Ca", "O"], 60 * np.eye(3), [[0, 0, 0], [30, 30, 30]])
    assert numbers.energy == pytest.approx(-0.5)
    assert not numbers.forces.any()
    assert numbers.shortest == np.inf


@pytest.mark.parametrize(
    ("cell", "positions", "said"),
    [
        (4 * np.eye(3), [[1, 1, 1], [1, 1, 1]], "coincide"),
        (4 * np.eye(3), [[1, 1, 1], [5, -3, 9]], "coincide"),
        (np.diag([4.0, 4.0, 0.0]), [[0, 0, 0], [1, 1, 1]], "no volume"),
        (np.diag([4.0, 4.0, 1e-7]), [[0, 0, 0], [1, 1, 0]], "no volume"),
        (0.01 * np.eye(3), [[0, 0, 0], [0.005, 0, 0]], "no volume"),
        (4 * np.eye(3), [[0, 0, 0], [np.nan, 1, 1]], "not finite"),
        (4 * np.eye(3), [[0, 0, 0]], "as many positions"),
    ],
)
def test_impossible_geometries_are_named(tables, cell, positions, said):
    with pytest.raises(GeometryError, match=said):
        evaluate(tables, ["Ca", "O"], cell, positions)


def test_unknown_elements_are_named(tables):
    with pytest.raises(ConfigError, match="Kr"):
        evaluate(tables, ["Kr"], 4 * np.eye(3), np.zeros((1, 3)))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), size=st.floats(0.001, 0.15))
def test_a_list_that_is_not_stale_has_every_pair(seed, size):
    rng = np.random.default_rng(seed)
    cell = 4 * np.eye(3) + rng.normal(0, 0.5, (3, 3))
    positions = rng.uniform(-1, 1, (4, 3)) @ cell
    cutoff, reach = 6.0, 6.5
    status, blocks, picks, vectors = pair_list(cell, positions, reach)
    assert status == FINE
    deform = np.eye(3) + rng.normal(0, 0.3 * size, (3, 3))
    new_cell, new_positions = cell @ deform, (positions + rng.normal(0, size, (4, 3))) @ deform
    listed = {
        (i, j, *vectors[s].astype(int)) for i, j, begin, end in blocks.tolist() for s in picks[begin:end].tolist()
    }
    _, blocks, picks, vectors = pair_list(new_cell, new_positions, cutoff)
    needed = {
        (i, j, *vectors[s].astype(int)) for i, j, begin, end in blocks.tolist() for s in picks[begin:end].tolist()
    }
    if not list_is_stale(new_cell, new_positions, cell, positions, cutoff, reach):
        assert needed <= listed
    assert not list_is_stale(cell, positions + 5.0, cell, positions + 5.0, cutoff, reach)


def test_the_calculator_agrees_with_the_evaluator(tables):
    atoms = Atoms(SYMBOLS, cell=3.9 * np.eye(3), scaled_positions=PEROVSKITE, pbc=True)
    atoms.rattle(0.1, seed=4)
    atoms.calc = PairCalculator(tables)
    numbers = evaluate(tables, SYMBOLS, atoms.cell.array, atoms.positions)
    assert atoms.get_potential_energy() == numbers.energy
    np.testing.assert_array_equal(atoms.get_forces(), numbers.forces)
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), numbers.stress)
    assert atoms.calc.cutoff == pytest.approx(11.0)
