from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_flows.config import TierConfig
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.buckingham import BuckinghamCalculator
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.rigid_ions import CHARGES, COULOMB, CUTOFF, missing_elements

PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
STEP = 1e-4


def derivatives(atoms):
    """Forces (n, 3) and stress (3, 3) from central differences of the energy."""

    def slope(displacement, strain):
        values = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions += sign * STEP * displacement
            moved.set_cell(moved.cell.array @ (np.eye(3) + sign * STEP * strain), scale_atoms=True)
            moved.calc = atoms.calc
            values.append(moved.get_potential_energy())
        return (values[0] - values[1]) / (2 * STEP)

    still, unstrained = np.zeros((len(atoms), 3)), np.zeros((3, 3))
    units = np.eye(still.size).reshape(-1, len(atoms), 3)
    forces = -np.reshape([slope(unit, unstrained) for unit in units], (-1, 3))
    stress = np.reshape([slope(still, unit) for unit in np.eye(9).reshape(-1, 3, 3)], (3, 3)) / atoms.get_volume()
    return forces, stress


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_forces_and_stress_are_derivatives_anywhere(seed):
    rng = np.random.default_rng(seed)
    cell = 4.2 * np.eye(3) + rng.normal(0.0, 0.3, (3, 3))
    atoms = Atoms("SrTiYOO", scaled_positions=rng.random((5, 3)), cell=cell, pbc=True)
    atoms.calc = BuckinghamCalculator()
    forces, stress = derivatives(atoms)
    size = max(1.0, np.abs(forces).max())
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5 * size)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-5 * size)


@pytest.mark.parametrize("seed", range(3))
def test_forces_and_stress_of_a_crystal_to_a_millionth(seed):
    atoms = Atoms("SrTiO3", scaled_positions=PEROVSKITE, cell=3.95 * np.eye(3), pbc=True)
    atoms.rattle(0.05, seed=seed)
    atoms.calc = BuckinghamCalculator()
    forces, stress = derivatives(atoms)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-6)


@pytest.mark.parametrize(
    ("lattice", "a", "madelung"),
    [("rocksalt", 4.2, 1.747565), ("zincblende", 5.4, 1.638055), ("cesiumchloride", 4.1, 1.762675)],
)
def test_coulomb_is_close_to_the_lattice_sum(lattice, a, madelung):
    atoms = bulk("NaCl", lattice, a=a)
    atoms.calc = BuckinghamCalculator(charges={"Na": 1.0, "Cl": -1.0}, pairs={})
    nearest = atoms.get_distance(0, 1, mic=True)
    assert -atoms.get_potential_energy() * nearest / COULOMB == pytest.approx(madelung, rel=0.01)


@pytest.mark.parametrize("pair", ["SrO", "TiO", "YO", "OO"])
def test_no_collapse_and_no_jump_at_any_distance(pair):
    symbols = {"SrO": ["Sr", "O"], "TiO": ["Ti", "O"], "YO": ["Y", "O"], "OO": ["O", "O"]}[pair]
    calculator = BuckinghamCalculator()
    distances = np.arange(0.3, 2.0, 0.005)
    energies, slopes = [], []
    for distance in distances:
        atoms = Atoms(symbols, positions=[[0, 0, 0], [distance, 0, 0]], cell=30 * np.eye(3), pbc=True)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        slopes.append(atoms.get_forces()[0, 0])
    close = distances < 1.0
    assert (np.diff(energies)[close[1:]] < 0).all()
    trapezoid = np.cumsum(0.005 * 0.5 * (np.array(slopes)[1:] + np.array(slopes)[:-1]))
    np.testing.assert_allclose(np.array(energies)[1:] - energies[0], trapezoid, rtol=2e-3, atol=2e-2)


def test_energy_and_force_end_smoothly_at_the_cutoff():
    calculator = BuckinghamCalculator()
    values = []
    for distance in (CUTOFF - 1e-5, CUTOFF + 1e-5):
        atoms = Atoms("SrO", positions=[[0, 0, 0], [distance, 0, 0]], cell=40 * np.eye(3), pbc=True)
        atoms.calc = calculator
        values.append((atoms.get_potential_energy(), atoms.get_forces()[0, 0]))
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_left_handed_cell_has_the_same_numbers():
    atoms = Atoms("SrTiO3", scaled_positions=PEROVSKITE, cell=[[4.0, 0.2, 0], [0, 3.9, 0.3], [0.1, 0, 4.1]], pbc=True)
    atoms.rattle(0.2, seed=3)
    atoms.calc = BuckinghamCalculator()
    mirrored = Atoms(
        atoms.symbols, scaled_positions=atoms.get_scaled_positions()[:, [1, 0, 2]], cell=atoms.cell[[1, 0, 2]], pbc=True
    )
    mirrored.calc = atoms.calc
    energy, stress = atoms.get_potential_energy(), atoms.get_stress()
    assert mirrored.get_potential_energy() == pytest.approx(energy)
    np.testing.assert_allclose(mirrored.get_stress(), stress, atol=1e-10)


def test_cubic_perovskite_keeps_its_cell(perovskite):
    tier = TierConfig(calculator="buckingham", fmax=0.01, smax=0.1)
    result = AseRelaxer(tier).relax(perovskite(4.2))
    assert result.outcome is Outcome.CONVERGED
    assert result.structure.lattice.abc == pytest.approx([3.955] * 3, abs=0.01)
    assert result.structure.lattice.angles == pytest.approx([90.0] * 3, abs=1e-3)


def test_missing_elements():
    assert missing_elements(["Sr", "Ti", "O"]) == set()
    assert missing_elements(["Sr", "Mg", "O"]) == {"Mg"}
    assert missing_elements(["Mg", "O"], charges={"Mg": 2.0, "O": -2.0}) == {"Mg", "O"}
    assert missing_elements(["Mg", "O"], charges={"Mg": 2, "O": -2}, pairs={"O-Mg": (900, 0.3, 0)}) == set()


def test_unknown_element_is_an_error():
    atoms = Atoms("Mg", cell=3 * np.eye(3), pbc=True)
    atoms.calc = BuckinghamCalculator()
    with pytest.raises(ValueError, match="no charge for Mg"):
        atoms.get_potential_energy()


def test_formula_is_neutral():
    assert sum(CHARGES[el] * n for el, n in {"Sr": 1, "Ti": 1, "O": 3}.items()) == 0
