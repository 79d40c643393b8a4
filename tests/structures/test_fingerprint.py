"""The primitive cell and the key of a crystal do not depend on how it is written down."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.structures.fingerprint import (
    Cell,
    Fingerprint,
    energy_bin,
    fingerprint,
    primitive,
    reduced_structure,
    volume_bin,
)

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PEROVSKITE = Structure(
    Lattice.cubic(3.905),
    ["Sr", "Ti", "O", "O", "O"],
    [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)
CORUNDUM = Structure.from_spacegroup(
    "R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]
)
ATOMS = {"rocksalt": (ROCKSALT, 2), "perovskite": (PEROVSKITE, 5), "corundum": (CORUNDUM, 10)}
MATRICES = st.lists(st.integers(-2, 2), min_size=9, max_size=9).map(lambda values: np.reshape(values, (3, 3)))
SMALL = MATRICES.filter(lambda matrix: 1 <= abs(round(np.linalg.det(matrix))) <= 6)


def noisy(structure, deviation, seed):
    rng = np.random.default_rng(seed)
    coords = structure.cart_coords + rng.normal(scale=deviation, size=(len(structure), 3))
    return Structure(structure.lattice, structure.species, coords, coords_are_cartesian=True)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(ATOMS)), matrix=SMALL, seed=st.integers(0, 1000))
def test_primitive_cell_of_any_noisy_supercell(name, matrix, seed):
    structure, atoms = ATOMS[name]
    supercell = noisy(structure * matrix, 0.01, seed)
    cell = Cell.from_structure(supercell)
    small = primitive(cell)
    assert len(small.numbers) == atoms
    assert small.volume_per_atom == pytest.approx(cell.volume_per_atom)
    shares = [np.bincount(numbers) / len(numbers) for numbers in (cell.numbers, small.numbers)]
    assert shares[0] == pytest.approx(shares[1])


@settings(deadline=None, max_examples=30)
@given(matrix=SMALL)
def test_primitive_cell_repeats_to_the_crystal(matrix):
    """Every atom of the supercell lies on an atom of the lattice that the primitive cell spans."""
    cell = Cell.from_structure(CORUNDUM * matrix)
    small = primitive(cell)
    coords = cell.frac_coords @ cell.lattice @ np.linalg.inv(small.lattice)
    delta = coords[:, None, :] - small.frac_coords[None, :, :]
    delta -= np.round(delta)
    distance = np.linalg.norm(delta @ small.lattice, axis=-1)
    distance[cell.numbers[:, None] != small.numbers[None, :]] = np.inf
    assert distance.min(axis=1).max() < 1e-6


def test_noise_above_the_tolerance_is_structure():
    doubled = PEROVSKITE * (2, 1, 1)
    doubled.translate_sites([1], [0, 0, 0.3 / 3.905])
    cell = Cell.from_structure(doubled)
    assert len(primitive(cell).numbers) == 10
    assert len(primitive(cell, tolerance=0.4).numbers) == 5


def test_translations_that_form_no_group_are_not_believed():
    """Three atoms nearly 1/4 apart: 1/2 and -1/2 are translations only if 1/4 is."""
    chain = Structure(Lattice.tetragonal(3, 12), ["Cu"] * 4, [[0, 0, z] for z in (0, 0.25, 0.507, 0.745)])
    assert len(primitive(Cell.from_structure(chain)).numbers) in (1, 2, 4)
    assert len(primitive(Cell.from_structure(chain), tolerance=0.02).numbers) == 4


def test_noise_is_averaged():
    supercell = noisy(ROCKSALT * (2, 2, 2), 0.015, seed=4)
    small = primitive(Cell.from_structure(supercell))
    gap = small.frac_coords[1] - small.frac_coords[0]
    offset = (gap - np.round(2 * gap) / 2) @ small.lattice
    assert len(small.numbers) == 2
    assert np.linalg.norm(offset) < 0.01  # of two atoms alone: 0.015 * sqrt(6)


def test_cell_from_structure_and_dictionary_agree():
    first, second = Cell.from_structure(CORUNDUM), Cell.from_dict(CORUNDUM.as_dict(verbosity=0))
    assert all(np.array_equal(mine, its) for mine, its in zip(first, second, strict=True))
    assert first.volume_per_atom == pytest.approx(CORUNDUM.volume / 30)


def test_reduced_structure_is_a_small_compact_cell():
    flat = PEROVSKITE * [[1, 0, 0], [3, 1, 0], [0, -2, 1]]
    small = reduced_structure(Cell.from_structure(flat))
    assert sorted(small.lattice.parameters) == pytest.approx([3.905] * 3 + [90] * 3)
    assert [str(site.specie) for site in small] == ["O", "O", "O", "Ti", "Sr"]


def test_fingerprint_is_the_same_for_every_cell_and_survives_its_string():
    cells = [ROCKSALT, ROCKSALT.get_primitive_structure(), ROCKSALT * (1, 2, 3)]
    prints = {fingerprint(Cell.from_structure(cell), -6.3139, 1e-3, 0.02, 225) for cell in cells}
    assert len(prints) == 1
    (found,) = prints
    assert str(found) == f"2/-6314/{found.volume_bin}/225"
    assert Fingerprint.parse(str(found)) == found


@given(energy=st.floats(-20, 5), share=st.floats(-0.999, 0.999), tolerance=st.sampled_from([1e-4, 1e-3, 0.01]))
def test_energies_within_the_tolerance_are_at_most_one_bin_apart(energy, share, tolerance):
    assert abs(energy_bin(energy + share * tolerance, tolerance) - energy_bin(energy, tolerance)) <= 1


@given(volume=st.floats(2, 100), share=st.floats(-0.999, 0.999), tolerance=st.sampled_from([0.005, 0.02, 0.1]))
def test_volumes_within_the_tolerance_are_at_most_one_bin_apart(volume, share, tolerance):
    other = volume * (1 + tolerance) ** share
    assert abs(volume_bin(other, tolerance) - volume_bin(volume, tolerance)) <= 1
