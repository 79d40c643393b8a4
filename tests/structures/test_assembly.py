from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_flows.config import make_config
from fuse_flows.errors import GenerationError
from fuse_flows.structures.assembly import SITES_PER_BLOCK, occupation, random_structure, site_coordinates, stacking
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.checks import check_structure
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.lattices import cell_vectors
from fuse_flows.structures.neighbours import neighbour_pairs

CHARGES = {"Sr": 2, "Ti": 4, "O": -2}


def setting(formula, max_atoms=50, **values):
    config = make_config({"formula": formula, "max_atoms": max_atoms, **values})
    unit = FormulaUnit.from_config(config)
    return unit, {"max_formula_units": max_atoms // unit.n_atoms, "config": config}


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from([("Ca3Ti2O7", 50), ("SrTiO3", 10), ("MgO", 8), ("Mn", 50), ("WCl2", 50), ("YWB4", 24)]),
    st.integers(0, 2**32 - 1),
)
def test_assembled_structures_pass_all_checks(case, seed):
    unit, limits = setting(*case)
    structure = random_structure(unit, rng=np.random.default_rng(seed), **limits)
    units = unit.count_in(structure.numbers)
    assert 1 <= units <= limits["max_formula_units"]
    checks = limits["config"].checks
    assert check_structure(structure, unit, checks, max_atoms=case[1], coordination=True) is None
    vacant = SITES_PER_BLOCK * structure.n_blocks - len(structure)
    assert 0 <= vacant <= limits["config"].generator.vacancy_ratio * len(structure)


@pytest.mark.parametrize("charges", [None, CHARGES])
def test_equal_seeds_give_equal_structures_and_others_do_not(charges):
    unit, limits = setting("SrTiO3", 20, oxidation_states=charges)
    one, same, other = (random_structure(unit, rng=np.random.default_rng(seed), **limits) for seed in (5, 5, 6))
    assert one.is_identical(same)
    assert not one.is_identical(other)


def test_all_numbers_of_formula_units_are_equally_likely():
    unit, limits = setting("Ca3Ti2O7", 48)
    rng = np.random.default_rng(11)
    sizes = Counter(len(random_structure(unit, rng=rng, **limits)) // 12 for _ in range(400))
    assert sorted(sizes) == [1, 2, 3, 4]
    assert all(65 <= n <= 135 for n in sizes.values())  # four standard deviations around 100


def test_no_needles_are_drawn_and_sizes_stay_equally_likely():
    rng = np.random.default_rng(12)
    for limit in (3.0, 12.0):
        unit, limits = setting("Ca3Ti2O7", 48, generator={"max_aspect": limit})
        drawn = [random_structure(unit, rng=rng, **limits) for _ in range(400)]
        aspects = [structure.lengths.max() / structure.lengths.min() for structure in drawn]
        assert limit / 2 < max(aspects) <= limit + 1e-9
        sizes = Counter(len(structure) // 12 for structure in drawn)
        assert sorted(sizes) == [1, 2, 3, 4]
        assert all(65 <= n <= 135 for n in sizes.values())  # four standard deviations around 100


def test_the_longest_published_structure_could_be_drawn():
    """Li3Si3O5Cl5 of the FUSE2 paper's random search, 3.03 x 9.10 x 34.9 A, the extreme of its 46 structures."""
    limit = make_config({"formula": "Li3Si3O5Cl5"}).generator.max_aspect
    assert 34.8888 / 3.02981 < limit < 15


def test_every_lattice_system_is_assembled():
    unit, limits = setting("SrTiO3", 20)
    rng = np.random.default_rng(2)
    angles = [random_structure(unit, rng=rng, **limits).angles for _ in range(200)]
    kinds = Counter(tuple(round(angle) for angle in triple) for triple in angles)
    assert kinds[90, 90, 90] > 0
    assert kinds[90, 90, 120] > 0
    assert any(kinds[90, beta, 90] for beta in (75, 105))
    assert any(90 not in triple for triple in kinds)


def test_the_vacancy_ratio_is_a_bound():
    unit, limits = setting("WCl2", 30, generator={"vacancy_ratio": 0.5})
    rng = np.random.default_rng(4)
    for _ in range(30):
        structure = random_structure(unit, rng=rng, **limits)
        assert SITES_PER_BLOCK * structure.n_blocks <= 1.5 * len(structure)


@pytest.mark.parametrize(
    "values",
    [
        {"checks": {"min_density": 1.5, "max_density": 1.6}},
        {"checks": {"min_distance": 50.0}},
        {"generator": {"vacancy_ratio": 0.0}, "max_atoms": 6},
        {"generator": {"max_axis": 1}, "max_atoms": 50, "checks": {"min_density": 1.0}},
    ],
)
def test_the_assembler_gives_up_when_nothing_fits(values):
    unit, limits = setting("WCl2", **{"max_atoms": 30, **values})
    with pytest.raises(GenerationError, match=r"WCl2 in 1000 draws; most frequent reason: \w"):
        random_structure(unit, rng=np.random.default_rng(0), **limits)


def test_less_than_one_formula_unit_cannot_be_assembled():
    unit, limits = setting("WCl2")
    with pytest.raises(GenerationError, match="no whole formula unit"):
        random_structure(unit, rng=np.random.default_rng(0), max_formula_units=0, config=limits["config"])


def test_close_packed_layers_give_every_site_twelve_neighbours():
    rng = np.random.default_rng(8)
    for n_layers in (2, 3, 4, 5, 7):
        grid = (1, 1, n_layers)
        coords = site_coordinates(grid, stacking(n_layers, triangular=True, rng=rng))
        # sub-modules of height sqrt(2/3) times the spacing make the packing ideal
        lattice = cell_vectors((2.0, 2.0, n_layers * np.sqrt(2 / 3)), (90.0, 90.0, 120.0))
        first, _, distance = neighbour_pairs(lattice, coords, 1.2)
        assert np.bincount(first).tolist() == [12] * len(coords)
        assert np.allclose(distance, 1)


def test_triangular_layers_never_lie_on_top_of_each_other():
    rng = np.random.default_rng(1)
    drawn = set()
    for _ in range(200):
        offsets = stacking(6, triangular=True, rng=rng)
        assert (np.abs(offsets - np.roll(offsets, 1, axis=0)).max(axis=1) > 0.3).all()
        drawn.add(tuple(offsets[:, 0]))
    assert len(drawn) == 22  # colourings of a ring of six with three colours, the first one fixed
    assert stacking(1, triangular=True, rng=rng).tolist() == [[0, 0]]


def test_square_layers_alternate():
    rng = np.random.default_rng(1)
    assert stacking(4, triangular=False, rng=rng).tolist() == [[0, 0], [0.5, 0.5], [0, 0], [0.5, 0.5]]


def test_sites_of_a_full_square_stack_are_a_simple_cubic_lattice():
    coords = site_coordinates((2, 2, 4), stacking(4, triangular=False, rng=np.random.default_rng(0)))
    first, _, distance = neighbour_pairs(np.eye(3) * 8, coords, 2.1)
    assert np.bincount(first).tolist() == [6] * 64
    assert np.allclose(distance, 2)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_cations_and_anions_take_their_places(units, spare, seed):
    unit = FormulaUnit.from_counts({"Sr": 1, "Ti": 1, "O": 3}, CHARGES)
    n_blocks = -(-5 * units // 4) + spare
    sites = occupation(unit, units, n_blocks, np.random.default_rng(seed)).reshape(n_blocks, 4)
    assert sites.size == 4 * n_blocks
    assert unit.count_in(sites[sites > 0]) == units
    cations_elsewhere = (sites[:, 1:] > 8).sum()
    anions_first = (sites[:, 0] == 8).sum()
    assert cations_elsewhere == max(0, 2 * units - n_blocks)
    assert anions_first == max(0, 3 * units - 3 * n_blocks)


def test_neutral_atoms_go_anywhere():
    unit = FormulaUnit.from_counts({"Mg": 1, "O": 1})
    rng = np.random.default_rng(0)
    first = Counter(int(occupation(unit, 2, 2, rng)[0]) for _ in range(400))
    assert set(first) == {0, 8, 12}


def test_the_grid_of_an_assembled_structure_is_the_grid_it_is_cut_by():
    unit, limits = setting("SrTiO3", 40)
    rng = np.random.default_rng(9)
    for _ in range(20):
        structure = random_structure(unit, rng=rng, **limits)
        assert BlockStructure.from_structure(structure.to_structure(), edge=4.672).is_identical(structure)
