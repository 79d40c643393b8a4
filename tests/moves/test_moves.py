from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher

from fuse_flows.config import MoveName, make_config
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.base import MoveContext
from fuse_flows.moves.modules import swap_submodules
from fuse_flows.moves.registry import MOVES, apply_move
from fuse_flows.moves.repair import MAX_GROWTH
from fuse_flows.moves.vacancies import vacant_points
from fuse_flows.structures.assembly import random_structure
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.checks import check_structure
from fuse_flows.structures.comparison import same_arrangement
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.neighbours import shortest_distance
from fuse_flows.structures.radii import module_edge

CASES = {"Ca3Ti2O7": 24, "SrTiO3": 10, "MgO": 8, "Mn": 20, "WCl2": 24}
IN_THE_CELL = tuple(name for name in MoveName if name.number <= 6)
LARGER = {MoveName.DOUBLE_CELL: 2, MoveName.TRIPLE_CELL: 3}
FRESH = (MoveName.NEW_STRUCTURE_CURRENT_SIZE, MoveName.NEW_STRUCTURE_MAXIMUM_SIZE)


def context_of(formula, max_atoms=None, **values):
    config = make_config({"formula": formula, "max_atoms": max_atoms or CASES[formula], **values})
    unit = FormulaUnit.from_config(config)
    return MoveContext(unit, config, module_edge(unit, config.generator))


def relaxed_like(context, rng):
    """A random structure, strained to a general triclinic cell and rattled, cut anew as after a relaxation."""
    limits = {"max_formula_units": context.config.max_atoms // context.formula_unit.n_atoms, "config": context.config}
    start = random_structure(context.formula_unit, rng=rng, **limits)
    lattice = start.lattice @ (np.eye(3) * 0.95 + rng.normal(scale=0.03, size=(3, 3)))
    coords = start.frac_coords + rng.normal(scale=0.01, size=(len(start), 3))
    structure = BlockStructure(lattice, start.numbers, coords, start.grid).to_structure()
    return BlockStructure.from_structure(structure, edge=context.edge)


def test_every_move_of_the_configuration_is_registered_under_its_name():
    assert set(MOVES) == set(MoveName)
    assert all(move.name is name and move.number == name.number for name, move in MOVES.items())
    assert [move.number for move in MOVES.values()] == list(range(1, 15))
    with pytest.raises(TypeError):
        MOVES[MoveName.SWAP_ATOMS] = None


@pytest.mark.parametrize("name", list(MoveName))
@settings(deadline=None, max_examples=100)
@given(formula=st.sampled_from(sorted(CASES)), seed=st.integers(0, 2**32 - 1))
def test_a_move_keeps_the_composition_and_never_gives_the_parent(name, formula, seed):
    context, rng = context_of(formula), np.random.default_rng(seed)
    parent = relaxed_like(context, rng)
    state = rng.bit_generator.state
    try:
        moved = apply_move(name, parent, context, rng)
    except MoveFailed:
        return  # how often that may happen is another test
    assert context.formula_unit.count_in(moved.numbers) >= 1
    assert len(moved) <= context.config.max_atoms
    assert not same_arrangement(parent, moved)
    if name not in FRESH:
        assert np.array_equal(np.sort(moved.numbers), np.sort(np.tile(parent.numbers, LARGER.get(name, 1))))
    present = shortest_distance(parent.lattice, parent.frac_coords)
    limit = context.config.checks.min_distance
    assert shortest_distance(moved.lattice, moved.frac_coords) > min(present, limit) - 1e-9 > 0
    if name in IN_THE_CELL:
        assert np.array_equal(moved.lattice, parent.lattice)
        assert moved.grid == parent.grid
    else:
        limits = {"max_atoms": context.config.max_atoms, "coordination": name in FRESH}
        assert check_structure(moved, context.formula_unit, context.config.checks, **limits) is None
    rng.bit_generator.state = state
    assert apply_move(name, parent, context, rng).is_identical(moved)


@pytest.mark.parametrize("name", list(MoveName))
@settings(deadline=None, max_examples=150)
@given(unit=st.sampled_from([[25], [12, 8]]), count=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_any_skewed_cell_is_moved_or_refused_with_a_reason(name, unit, count, seed):
    rng = np.random.default_rng(seed)
    context = context_of("Mn" if unit == [25] else "MgO", 16, moves={"attempts": 5}, generator={"attempts": 50})
    lattice = np.diag(rng.uniform(2.5, 7, size=3)) + np.tril(rng.uniform(-4, 4, size=(3, 3)), -1)
    grid = tuple(int(n) for n in rng.integers(1, 4, size=3))
    parent = BlockStructure(lattice, unit * count, rng.random((len(unit) * count, 3)), grid)
    present = shortest_distance(parent.lattice, parent.frac_coords)
    moved, reason = None, ""
    try:
        moved = apply_move(name, parent, context, rng)
    except MoveFailed as failure:
        reason = failure.reason
    if moved is None:
        assert reason
        assert not any(character.isdigit() for character in reason)  # reasons are counted
        return
    context.formula_unit.count_in(moved.numbers)
    assert len(moved) == len(parent) * LARGER.get(name, 1) or name in FRESH
    contact = shortest_distance(moved.lattice, moved.frac_coords)
    assert contact > min(present, context.config.checks.min_distance) - 1e-9
    if name not in IN_THE_CELL:
        assert contact >= context.config.checks.min_distance


@pytest.mark.parametrize("name", list(MoveName))
@pytest.mark.parametrize("formula", ["Ca3Ti2O7", "WCl2"])
def test_every_move_succeeds_on_nearly_all_compounds(name, formula):
    context, rng = context_of(formula, 36), np.random.default_rng(12)
    parents = [relaxed_like(context, rng) for _ in range(15)]
    parents = [parent for parent in parents if MOVES[name].guard(parent, context) is None]
    assert len(parents) > 2
    succeeded = 0
    for parent in parents:
        with suppress(MoveFailed):
            apply_move(name, parent, context, rng)
            succeeded += 1
    assert succeeded >= 0.8 * len(parents)


def full_cell(number, edge=2.0, count=3):
    """A simple cubic lattice so dense that there is no vacant point."""
    coords = np.stack(np.meshgrid(*[np.arange(count) / count] * 3), axis=-1).reshape(-1, 3)
    return BlockStructure(np.eye(3) * edge * count, [number] * count**3, coords, (1, 1, 2))


@pytest.mark.parametrize("name", list(MoveName))
@pytest.mark.parametrize("cell", ["one atom", "one flat atom", "two atoms", "full"])
def test_every_move_ends_for_elements_single_atoms_and_full_cells(name, cell):
    context = context_of("Mn", 27, moves={"attempts": 10})
    structure = {
        "one atom": BlockStructure(np.eye(3) * 2.4, [25], [[0.1, 0.2, 0.3]], (1, 1, 1)),
        "one flat atom": BlockStructure(np.diag([2.0, 2.0, 3.5]), [25], [[0, 0, 0]], (1, 1, 1)),
        "two atoms": BlockStructure(np.eye(3) * 2.9, [25, 25], [[0, 0, 0], [0.5, 0.5, 0.5]], (1, 1, 1)),
        "full": full_cell(25),
    }[cell]
    for seed in range(3):
        with suppress(MoveFailed):  # either end is right
            moved = apply_move(name, structure, context, np.random.default_rng(seed))
            assert set(moved.numbers.tolist()) == {25}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (MoveName.SWAP_ATOMS, "only one element"),
        (MoveName.PERMUTE_ALL_ATOMS, "only one element"),
        (MoveName.ATOM_TO_VACANCY, "only one atom"),
        (MoveName.SWAP_SUBMODULES, "only one sub-module"),
        (MoveName.PERMUTE_ATOMS, "only one element"),
        (MoveName.PERMUTE_ATOMS_AND_VACANCIES, "too few atoms"),
        (MoveName.PERMUTE_ALL_ATOMS_AND_VACANCIES, "too few atoms"),
        (MoveName.SWAP_MODULES, "fewer than three modules"),
        (MoveName.DOUBLE_CELL, "too many atoms"),
        (MoveName.TRIPLE_CELL, "too many atoms"),
    ],
)
def test_moves_that_cannot_be_made_say_why(name, reason):
    structure = BlockStructure(np.eye(3) * 2.4, [25], [[0, 0, 0]], (1, 1, 1))
    context = context_of("Mn", 1)
    assert MOVES[name].guard(structure, context) == reason
    with pytest.raises(MoveFailed, match=reason):
        apply_move(name, structure, context, np.random.default_rng(0))


def test_exchanging_the_ions_of_the_smallest_rocksalt_cell_is_no_move():
    primitive = BlockStructure(2.1 * (np.ones((3, 3)) - np.eye(3)), [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], (1, 1, 1))
    with pytest.raises(MoveFailed, match="result is the parent"):
        apply_move(MoveName.SWAP_ATOMS, primitive, context_of("MgO"), np.random.default_rng(0))
    with pytest.raises(MoveFailed, match="too few atoms"):
        apply_move(MoveName.PERMUTE_ALL_ATOMS, primitive, context_of("MgO"), np.random.default_rng(0))


def test_swap_exchanges_exactly_two_atoms_of_different_elements():
    context, rng = context_of("Ca3Ti2O7"), np.random.default_rng(1)
    parent = relaxed_like(context, rng)
    for _ in range(20):
        moved = apply_move(MoveName.SWAP_ATOMS, parent, context, rng)
        assert np.array_equal(moved.frac_coords, parent.frac_coords)
        changed = np.flatnonzero(moved.numbers != parent.numbers)
        assert len(changed) == 2
        assert moved.numbers[changed].tolist() == parent.numbers[changed[::-1]].tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_the_vacancy_move_puts_one_atom_on_a_vacant_point(seed):
    context, rng = context_of("SrTiO3"), np.random.default_rng(seed)
    parent = relaxed_like(context, rng)
    moved = apply_move(MoveName.ATOM_TO_VACANCY, parent, context, rng)
    old = {(z, *f) for z, f in zip(parent.numbers.tolist(), parent.frac_coords.tolist(), strict=True)}
    new = {(z, *f) for z, f in zip(moved.numbers.tolist(), moved.frac_coords.tolist(), strict=True)}
    assert len(new) == len(parent)
    (left,), (arrived,) = old - new, new - old
    assert left[0] == arrived[0]
    occupied = np.vstack([parent.frac_coords, arrived[1:]])
    # nearer than any contact of the parent only if the new atom is
    limit = min(shortest_distance(parent.lattice, parent.frac_coords), context.config.moves.vacancy_distance)
    assert shortest_distance(parent.lattice, occupied) > limit - 1e-9


def test_vacant_points_cover_skewed_cells_and_see_every_image():
    lattice = np.array([[6.0, 0, 0], [5.0, 4, 0], [-4.0, 3, 5]])
    structure = BlockStructure(lattice, [25], [[0.05, 0.05, 0.95]], (1, 1, 1))
    points = vacant_points(structure, spacing=0.5, distance=1.5)
    images = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), axis=-1).reshape(-1, 3)
    shape = np.ceil(np.linalg.norm(lattice, axis=1) / 0.5).astype(int)
    every = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    delta = (every[:, None, :] - structure.frac_coords[0] + images) @ lattice
    expected = every[np.linalg.norm(delta, axis=-1).min(axis=1) > 1.5]
    assert np.array_equal(points, expected)
    assert 0 < len(points) < len(every)
    assert points.max(axis=0).min() > 0.9


def test_a_full_cell_has_no_vacant_point():
    assert not len(vacant_points(full_cell(25), spacing=0.75, distance=1.8))
    context = context_of("Mn", 27, moves={"vacancy_distance": 1.8})
    with pytest.raises(MoveFailed, match="no vacant point"):
        apply_move(MoveName.ATOM_TO_VACANCY, full_cell(25), context, np.random.default_rng(0))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_a_partial_permutation_moves_some_species_and_no_site(seed):
    context, rng = context_of("SrTiO3"), np.random.default_rng(seed)
    parent = relaxed_like(context, rng)
    moved = apply_move(MoveName.PERMUTE_ATOMS, parent, context, rng)
    assert np.array_equal(moved.frac_coords, parent.frac_coords)
    assert 2 <= np.count_nonzero(moved.numbers != parent.numbers) < len(parent)


def test_swapping_submodules_of_a_triclinic_cell_exchanges_their_content():
    lattice = np.array([[16.0, 0, 0], [3.0, 4.5, 0], [-1.0, 1.5, 4.8]])
    numbers, coords = [12, 8, 12, 8], [[0.02, 0.1, 0.1], [0.15, 0.6, 0.5], [0.3, 0.1, 0.1], [0.55, 0.1, 0.1]]
    parent = BlockStructure(lattice, numbers, coords, (4, 1, 1))
    context = context_of("MgO", checks={"min_density": 0.0})
    results = []
    for seed in range(40):
        moved = swap_submodules(parent, context, np.random.default_rng(seed))
        growth = moved.volume / parent.volume
        assert 1 <= growth <= MAX_GROWTH * 1.001
        assert np.allclose(moved.lattice, parent.lattice * growth ** (1 / 3))
        results.append([len(block) for block in moved.blocks()])
        assert sorted(results[-1]) == [0, 1, 1, 2]
    assert len({tuple(counts) for counts in results}) > 2


def test_swapping_identical_submodules_is_no_move():
    coords = [[0, 0, 0.125 + i / 4] for i in range(4)]
    parent = BlockStructure(np.diag([2.5, 2.5, 10.0]), [25] * 4, coords, (1, 1, 4))
    with pytest.raises(MoveFailed, match="result is the parent"):
        apply_move(MoveName.SWAP_SUBMODULES, parent, context_of("Mn"), np.random.default_rng(0))


def test_a_new_cell_shape_keeps_the_blocks_and_differs_from_the_old_shape():
    context, rng = context_of("SrTiO3"), np.random.default_rng(6)
    parent, kept = relaxed_like(context, rng), 0
    for _ in range(30):
        moved = apply_move(MoveName.NEW_CELL_SHAPE, parent, context, rng)
        assert moved.n_blocks == parent.n_blocks
        assert moved.grid != parent.grid or np.abs(np.subtract(moved.angles, parent.angles)).max() > 5
        assert 0.999 <= moved.volume / parent.volume <= MAX_GROWTH * 1.001
        content = [sorted(block.numbers.tolist()) for block in moved.blocks()]
        assert content == [sorted(block.numbers.tolist()) for block in parent.blocks()]
        pairs = zip(parent.blocks(), moved.blocks(), strict=True)
        kept += all(np.allclose(old.frac_coords, new.frac_coords, atol=1e-9) for old, new in pairs)
    assert kept > 15  # in the others, atoms were pushed apart


def test_the_size_of_fresh_structures_is_bounded_by_parent_or_configuration():
    context, rng = context_of("WCl2"), np.random.default_rng(7)
    parent = random_structure(context.formula_unit, max_formula_units=2, config=context.config, rng=rng)
    small = [len(apply_move(MoveName.NEW_STRUCTURE_CURRENT_SIZE, parent, context, rng)) for _ in range(40)]
    large = [len(apply_move(MoveName.NEW_STRUCTURE_MAXIMUM_SIZE, parent, context, rng)) for _ in range(40)]
    assert max(small) <= len(parent)
    assert len(parent) < max(large) <= context.config.max_atoms


@pytest.mark.parametrize("name", FRESH)
def test_an_assembler_without_result_is_a_failed_move(name):
    context = context_of("MgO", checks={"min_density": 1.55, "max_density": 1.6}, generator={"attempts": 20})
    parent = BlockStructure(np.eye(3) * 3, [12, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], (1, 1, 1))
    with pytest.raises(MoveFailed, match="no random structure found"):
        apply_move(name, parent, context, np.random.default_rng(0))


def test_all_permutations_are_reached_and_the_sites_stay():
    context = context_of("MgO", 4)
    numbers, coords = [12, 12, 8, 8], [[0, 0, 0], [0.45, 0.5, 0], [0.5, 0.1, 0.5], [0.1, 0.5, 0.55]]
    parent = BlockStructure(np.diag([4.2, 4.4, 4.6]), numbers, coords, (1, 1, 2))
    rng = np.random.default_rng(0)
    results = [apply_move(MoveName.PERMUTE_ALL_ATOMS, parent, context, rng) for _ in range(60)]
    assert all(np.array_equal(moved.frac_coords, parent.frac_coords) for moved in results)
    assert len({tuple(moved.numbers.tolist()) for moved in results}) == 5


def test_moves_make_other_crystals_not_only_other_coordinates():
    context, rng = context_of("SrTiO3"), np.random.default_rng(3)
    parent = relaxed_like(context, rng)
    moved = apply_move(MoveName.ATOM_TO_VACANCY, parent, context, rng)
    assert not StructureMatcher(scale=False).fit(parent.to_structure(), moved.to_structure())
