"""Standard cells hold the same crystal with the right number of atoms, and nothing that goes wrong does harm."""

import numpy as np
import pytest
import spglib
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from fuse_flows.config import SymmetryConfig
from fuse_flows.structures.neighbours import neighbour_pairs
from fuse_flows.structures.symmetry import choose_cell, exactly_symmetric

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(3.82, 6.26), ["Zn", "S"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]
)
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
IRON = Structure.from_spacegroup("Im-3m", Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]])
CRYSTALS = [(ROCKSALT, 2, 8), (PEROVSKITE, 5, 5), (WURTZITE, 4, 4), (RUTILE, 6, 6), (IRON, 1, 2)]
PRIMITIVE, CONVENTIONAL = SymmetryConfig(standardise="primitive"), SymmetryConfig(standardise="conventional")
NIGGLI = SymmetryConfig(reduce="niggli")


def supercell(structure, matrix, seed=0):
    """A supercell that is shifted, cut at another place and mixed up."""
    rng = np.random.default_rng(seed)
    large = structure.copy()
    large.make_supercell(matrix)
    large.translate_sites(list(range(len(large))), rng.random(3))
    return Structure.from_sites([large[int(i)] for i in rng.permutation(len(large))])


def skewed(structure, shears):
    lattice = structure.lattice.matrix.copy()
    for row, other, times in shears:
        lattice[row] += times * lattice[other]
    coords = structure.cart_coords
    return Structure(Lattice(lattice), structure.species, coords, coords_are_cartesian=True, to_unit_cell=True)


def distances(structure, cutoff=5.0):
    """The sorted distances per atom, which do not depend on the cell."""
    numbers = np.array([site.specie.Z for site in structure])
    first, second, distance = neighbour_pairs(structure.lattice.matrix, structure.frac_coords, cutoff)
    kinds = numbers[first] * 1000 + numbers[second]
    return {int(kind): np.histogram(distance[kinds == kind], 50, (0, 5.003))[0] / len(structure) for kind in set(kinds)}


def assert_same_crystal(one, other):
    before, after = distances(one), distances(other)
    assert before.keys() == after.keys()
    for kind, histogram in before.items():
        assert np.allclose(histogram, after[kind])
    assert one.composition.reduced_formula == other.composition.reduced_formula


@pytest.mark.parametrize("matrix", [[2, 1, 1], [2, 2, 2], [[1, 1, 0], [0, 1, 1], [1, 0, 2]]])
@pytest.mark.parametrize(("crystal", "primitive", "conventional"), CRYSTALS)
def test_supercells_come_back_as_standard_cells(crystal, primitive, conventional, matrix):
    large = supercell(crystal, matrix)
    for wanted, n_atoms, note in ((PRIMITIVE, primitive, "primitive"), (CONVENTIONAL, conventional, "conventional")):
        chosen = choose_cell(large, wanted, max_atoms=50)
        assert (len(chosen.structure), chosen.note) == (n_atoms, note)
        assert_same_crystal(large, chosen.structure)
        assert StructureMatcher().fit(crystal, chosen.structure)


def test_small_deviations_are_idealised_and_large_ones_are_kept():
    large = supercell(ROCKSALT, [2, 1, 1])
    small, much = large.copy(), large.copy()
    small.perturb(0.002)
    much.perturb(0.1)
    assert len(choose_cell(small, PRIMITIVE, 50).structure) == 2
    assert len(choose_cell(much, PRIMITIVE, 50).structure) == 16
    assert len(choose_cell(much, SymmetryConfig(standardise="primitive", symprec=0.4), 50).structure) == 2


def test_conventional_cell_that_is_too_large_gives_way():
    large = supercell(ROCKSALT, [1, 1, 2])
    chosen = choose_cell(large, CONVENTIONAL, max_atoms=7)
    assert (len(chosen.structure), chosen.note) == (2, "primitive (conventional too large)")
    kept = choose_cell(large, CONVENTIONAL, max_atoms=1)
    assert kept.structure is large
    assert kept.note == "unchanged (too large)"


@pytest.mark.parametrize("answer", ["none", "error", "other composition", "other density"])
@pytest.mark.parametrize("wanted", [PRIMITIVE, CONVENTIONAL])
def test_what_spglib_cannot_do_is_left_as_it_is(monkeypatch, answer, wanted):
    def standardize_cell(cell, **_):
        lattice, positions, numbers = cell
        match answer:
            case "error":
                raise spglib.error.SpglibError("too close distance between atoms")
            case "other composition":
                return lattice, positions[1:], numbers[1:]
            case "other density":
                return lattice * 1.1, positions, numbers
        return None

    monkeypatch.setattr(spglib, "standardize_cell", standardize_cell)
    chosen = choose_cell(ROCKSALT, wanted, 50)
    assert chosen.structure is ROCKSALT
    assert chosen.note.startswith("unchanged (spglib ")


def test_real_failures_of_spglib_are_harmless():
    """Two atoms at one place, for which spglib 2.8 returns None or raises, by configuration."""
    coincident = Structure(Lattice.cubic(4), ["Mg", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    chosen = choose_cell(coincident, PRIMITIVE, 50)
    assert chosen.structure is coincident
    assert chosen.note == "unchanged (spglib failed)"


def test_nothing_happens_unless_asked_for():
    chosen = choose_cell(ROCKSALT, SymmetryConfig(), 50)
    assert chosen.structure is ROCKSALT
    assert chosen.note == ""


@pytest.mark.parametrize("wanted", [PRIMITIVE, CONVENTIONAL])
def test_energy_per_atom_is_that_of_the_supercell(wanted):
    crystal = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.7), ["Au", "Cu"], [[0, 0, 0], [0.5, 0.5, 0]])
    for large in (supercell(crystal, [2, 2, 1]), supercell(crystal, [[1, 1, 0], [0, 1, 1], [1, 0, 2]])):
        energies = []
        for structure in (large, choose_cell(large, wanted, 50).structure):
            atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
            atoms.calc = EMT()
            energies.append(atoms.get_potential_energy() / len(structure))
        assert energies[0] == pytest.approx(energies[1], abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([crystal for crystal, *_ in CRYSTALS]),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(-3, 3)),
        min_size=1,
        max_size=4,
    ),
)
def test_niggli_reduction_changes_the_cell_only(crystal, shears):
    oblique = skewed(crystal, [(row, (row + step) % 3, times) for row, step, times in shears])
    chosen = choose_cell(oblique, NIGGLI, 50)
    assert chosen.note == "niggli"
    reduced = chosen.structure
    assert reduced.species == oblique.species
    assert reduced.volume == pytest.approx(oblique.volume)
    assert np.linalg.det(reduced.lattice.matrix) > 0
    assert np.allclose(sorted(reduced.lattice.abc), sorted(crystal.lattice.get_niggli_reduced_lattice().abc), atol=1e-3)
    # every atom is where it was, up to a vector of the old lattice
    shift = oblique.lattice.get_fractional_coords(reduced.cart_coords - oblique.cart_coords)
    assert np.allclose(shift, np.round(shift), atol=1e-6)


def test_primitive_cell_of_a_layered_crystal_is_flat_until_it_is_reduced():
    ruddlesden = Structure.from_spacegroup(
        "I4/mmm",
        Lattice.tetragonal(3.88, 12.6),
        ["Sr", "Ti", "O", "O"],
        [[0, 0, 0.355], [0, 0, 0], [0.5, 0, 0], [0, 0, 0.162]],
    )
    primitive = choose_cell(ruddlesden, PRIMITIVE, 50).structure
    reduced = choose_cell(ruddlesden, SymmetryConfig(standardise="primitive", reduce="niggli"), 50)
    assert len(primitive) == len(reduced.structure) == 7
    assert reduced.note == "primitive, niggli"
    assert max(primitive.lattice.angles) > 140
    assert all(70 < angle < 120 for angle in reduced.structure.lattice.angles)


@pytest.mark.parametrize("wanted", [PRIMITIVE, CONVENTIONAL, NIGGLI])
def test_same_structure_same_cell(wanted):
    large = supercell(RUTILE, [1, 2, 1])
    assert choose_cell(large, wanted, 50).structure.as_dict() == choose_cell(large, wanted, 50).structure.as_dict()
    before = large.copy()
    choose_cell(large, wanted, 50)
    assert large == before


@pytest.mark.parametrize("crystal", [crystal for crystal, *_ in CRYSTALS])
@pytest.mark.parametrize("matrix", [np.eye(3), [[1, 1, 0], [0, 1, 0], [0, 0, 2]]])
def test_symmetry_is_made_exact_in_the_same_cell(crystal, matrix):
    ideal = supercell(crystal, matrix)
    number = SpacegroupAnalyzer(ideal, 1e-4).get_space_group_number()
    rng = np.random.default_rng(3)
    noisy = Structure(
        ideal.lattice.matrix + rng.normal(0, 2e-3, (3, 3)),
        ideal.species,
        ideal.frac_coords + rng.uniform(-1e-3, 1e-3, (len(ideal), 3)),
        site_properties={"magmom": list(range(len(ideal)))},
    )
    assert SpacegroupAnalyzer(noisy, 1e-5).get_space_group_number() == 1 or len(ideal) == 2
    exact = exactly_symmetric(noisy, 0.05)
    assert SpacegroupAnalyzer(exact, 1e-5).get_space_group_number() == number
    assert (exact.species, exact.site_properties) == (noisy.species, noisy.site_properties)
    assert np.abs(exact.lattice.matrix - noisy.lattice.matrix).max() < 0.05
    shifts = exact.frac_coords - noisy.frac_coords
    assert np.abs((shifts - np.round(shifts)) @ noisy.lattice.matrix).max() < 0.05
    assert exactly_symmetric(noisy, None) is noisy


def test_what_has_no_symmetry_stays(monkeypatch):
    rng = np.random.default_rng(0)
    random = Structure(Lattice([[4, 0, 0], [1, 5, 0], [0.5, 0.7, 6]]), ["Mg", "O", "O"], rng.random((3, 3)))
    same = exactly_symmetric(random, 0.01)
    assert np.allclose(same.lattice.matrix, random.lattice.matrix)
    monkeypatch.setattr("ase.spacegroup.symmetrize.refine_symmetry", lambda *_, **__: 1 / 0)
    assert exactly_symmetric(random, 0.01) is random
