from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.config import ChecksConfig
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.checks import check_structure, coordination_numbers, density_ratio
from fuse_flows.structures.comparison import same_arrangement
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.neighbours import neighbour_pairs, shortest_distance

# space group, lattice, species and coordinates of common structures (textbook values)
PROTOTYPES = {
    "MgO": ("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "SrTiO3": ("Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]),
    "CsCl": ("Pm-3m", Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "ZnS": ("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "CaF2": ("Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "TiO2": ("P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]),
    "Al2O3": ("R-3c", Lattice.hexagonal(4.759, 12.991), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]),
    "Si": ("Fd-3m", Lattice.cubic(5.431), ["Si"], [[0, 0, 0]]),
    "Cu": ("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]]),
    "W": ("Im-3m", Lattice.cubic(3.165), ["W"], [[0, 0, 0]]),
    "Mg": ("P6_3/mmc", Lattice.hexagonal(3.209, 5.211), ["Mg"], [[1 / 3, 2 / 3, 0.25]]),
}


def prototype(name):
    structure = Structure.from_spacegroup(*PROTOTYPES[name])
    amounts = structure.composition.get_reduced_composition_and_factor()[0].get_el_amt_dict()
    return BlockStructure.from_structure(structure), FormulaUnit.from_counts({el: int(n) for el, n in amounts.items()})


def brute_force(lattice, coords, reach=6):
    images = np.array(list(product(range(-reach, reach + 1), repeat=3)))
    delta = coords[:, None, None, :] - coords[None, :, None, :] + images
    distances = np.linalg.norm(delta @ lattice, axis=-1)
    distances[np.arange(len(coords)), np.arange(len(coords)), len(images) // 2] = np.inf
    return distances.min()


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_shortest_distance_agrees_with_all_images_of_skewed_cells(seed, n_atoms):
    rng = np.random.default_rng(seed)
    lattice = np.diag(rng.uniform(2, 6, size=3))
    lattice[1, 0], lattice[2, 0], lattice[2, 1] = rng.uniform(-6, 6, size=3)
    coords = rng.random((n_atoms, 3))
    assert shortest_distance(lattice, coords) == pytest.approx(brute_force(lattice, coords), abs=1e-8)


def test_contacts_across_a_face_and_with_the_own_image_are_seen():
    assert shortest_distance(np.eye(3) * 5, [[0.01, 0.5, 0.5], [0.99, 0.5, 0.5]]) == pytest.approx(0.1)
    assert shortest_distance(np.diag([0.8, 9.0, 9.0]), [[0.2, 0.2, 0.2]]) == pytest.approx(0.8)
    sheared = np.array([[3.0, 0, 0], [0, 3, 0], [3 - 0.3, -6 + 0.3, 3]])  # short only along c - a + 2b
    assert shortest_distance(sheared, [[0, 0, 0]]) == pytest.approx(3.0)
    sheared[2, 2] = 0.5
    assert shortest_distance(sheared, [[0, 0, 0]]) == pytest.approx(np.sqrt(2 * 0.3**2 + 0.5**2))


def test_coincident_atoms_and_cells_without_volume_have_distance_zero():
    assert shortest_distance(np.eye(3) * 4, [[0.3, 0.3, 0.3], [0.3, 0.3, 0.3]]) == 0
    assert shortest_distance(np.eye(3) * 4, [[0, 0, 0], [1, 1, 1]]) == 0
    assert shortest_distance(np.diag([4.0, 4.0, 0.0]), [[0, 0, 0]]) == 0


def test_each_pair_appears_from_both_sides_with_every_image():
    first, second, distance = neighbour_pairs(np.eye(3) * 3, [[0, 0, 0]], 3.1)
    assert first.tolist() == second.tolist() == [0] * 6
    assert np.allclose(distance, 3)


def test_density_ratio_is_one_when_spheres_fill_the_cell():
    unit = FormulaUnit.from_counts({"Mn": 1})
    sphere = 4 / 3 * np.pi * 1.37**3
    assert density_ratio(2 * sphere, 2, unit) == pytest.approx(1)
    assert density_ratio(4 * sphere, 2, unit) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Cu", {29: 12}), ("Si", {14: 4}), ("MgO", {12: 6, 8: 6}), ("ZnS", {30: 4, 16: 4}), ("CaF2", {20: 8, 9: 4})],
)
def test_coordination_numbers_count_every_image_but_not_the_atom(name, expected):
    structure, unit = prototype(name)
    primitive = BlockStructure.from_structure(structure.to_structure().get_primitive_structure())
    for cell in (structure, primitive):
        numbers = coordination_numbers(cell, unit, 1.1)
        assert {int(z): set(numbers[cell.numbers == z].tolist()) for z in cell.numbers} == {
            z: {n} for z, n in expected.items()
        }


@pytest.mark.parametrize("name", PROTOTYPES)
def test_common_structures_pass_the_default_checks(name):
    structure, unit = prototype(name)
    assert check_structure(structure, unit, ChecksConfig(), max_atoms=40, coordination=True) is None


def test_ionic_radii_judge_cations_by_their_anions():
    structure, neutral = prototype("SrTiO3")
    unit = FormulaUnit.from_counts(dict(neutral.counts), {"Sr": 2, "Ti": 4, "O": -2})
    assert check_structure(structure, unit, ChecksConfig(), max_atoms=5, coordination=True) is None
    numbers = coordination_numbers(structure, unit, 1.35)
    assert numbers[structure.numbers == 38].tolist() == [12]
    assert numbers[structure.numbers == 22].tolist() == [6]


def test_every_reason_for_a_refusal():
    structure, unit = prototype("MgO")
    checks = ChecksConfig()

    def reason(candidate, max_atoms=8, *, coordination=False):
        return check_structure(candidate, unit, checks, max_atoms=max_atoms, coordination=coordination)

    coords = structure.frac_coords.copy()
    coords[1] = coords[0]
    flat = BlockStructure(np.diag([4.0, 4.0, 0.01]), [12, 8], [[0, 0, 0], [0.5, 0.5, 0]], (1, 1, 1))
    gas = BlockStructure(np.diag([2.2, 2.2, 30.0]), [12, 8], [[0, 0, 0], [0, 0, 0.5]], (1, 1, 1))
    chains = BlockStructure(np.diag([4.0, 4.0, 4.4]), [12, 8], [[0, 0, 0], [0, 0, 0.5]], (1, 1, 1))
    assert reason(structure, 7) == "too many atoms"
    assert reason(structure.with_atoms([12] * 8, structure.frac_coords)) == "wrong composition"
    assert reason(flat) == "degenerate cell"
    assert reason(gas) == "density too low"
    assert reason(structure.scaled(0.7)) == "density too high"
    assert reason(structure.with_atoms(structure.numbers, coords)) == "contact too short"
    assert reason(chains) is None
    assert reason(chains, coordination=True) == "unusual coordination"
    assert reason(structure, coordination=True) is None


def test_noble_gases_can_be_checked():
    unit = FormulaUnit.from_counts({"Ar": 1})
    structure = BlockStructure.from_structure(Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.3), ["Ar"], [[0] * 3]))
    assert check_structure(structure, unit, ChecksConfig(), max_atoms=4, coordination=True) is None


def test_arrangements_are_the_same_up_to_translation_and_inversion():
    rng = np.random.default_rng(3)
    lattice = np.array([[6.0, 0, 0], [1, 7, 0], [2, -1, 8]])
    numbers, coords = np.array([12, 12, 8, 8, 8]), rng.random((5, 3))
    structure = BlockStructure(lattice, numbers, coords, (1, 1, 2))
    order = rng.permutation(5)
    moved = BlockStructure(lattice, numbers[order], (coords + np.array([0.3, 0.9, -0.4]))[order], (2, 1, 1))
    assert same_arrangement(structure, moved)
    assert same_arrangement(structure, BlockStructure(lattice, numbers, 0.1 - coords, (1, 1, 1)))
    shifted = coords.copy()
    shifted[0] += 0.05
    assert not same_arrangement(structure, structure.with_atoms(numbers, shifted))
    assert not same_arrangement(structure, structure.with_atoms(numbers[[2, 1, 0, 3, 4]], coords))
    assert not same_arrangement(structure, structure.scaled(1.1))
    assert not same_arrangement(structure, structure.with_atoms([12, 12, 12, 8, 8], coords))


def test_exchanging_the_ions_of_rocksalt_changes_nothing():
    structure, _ = prototype("MgO")
    swapped = structure.with_atoms(np.where(structure.numbers == 8, 12, 8), structure.frac_coords)
    assert same_arrangement(structure, swapped)
