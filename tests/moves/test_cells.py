from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from fuse_flows.config import MoveName, make_config
from fuse_flows.moves.cells import cut_between_layers, inverted, mirrored, repeated, translated
from fuse_flows.moves.registry import apply_move
from fuse_flows.search.propose import move_context
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.checks import check_structure
from fuse_flows.structures.comparison import same_arrangement
from fuse_flows.structures.neighbours import shortest_distance

STACKINGS = {
    "repeat 2": partial(repeated, count=2),
    "translate 2": partial(translated, count=2),
    "invert": inverted,
    "mirror": mirrored,
    "repeat 3": partial(repeated, count=3),
    "translate 3": partial(translated, count=3),
}
SEEDS = st.integers(0, 2**32 - 1)


def triclinic(rng, n_pairs=3):
    """A skewed cell of MgO without short contacts, and as many sub-modules as it likes."""
    lattice = np.diag(rng.uniform(4.5, 7, size=3)) + np.tril(rng.uniform(-4, 4, size=(3, 3)), -1)
    grid = tuple(int(n) for n in rng.integers(1, 4, size=3))
    return BlockStructure(lattice, [12, 8] * n_pairs, rng.random((2 * n_pairs, 3)), grid)


def space_group(structure):
    return SpacegroupAnalyzer(structure.to_structure(), 1e-4).get_space_group_symbol()


def layer_distances(positions, numbers, lateral):
    """All distances within a slab that is periodic along two vectors, with the product of the species, sorted."""
    n = np.arange(-6, 7)
    images = (n[:, None, None] * lateral[0] + n[None, :, None] * lateral[1]).reshape(-1, 3)
    delta = positions[:, None, None, :] - positions[None, :, None, :] + images
    distance = np.linalg.norm(delta, axis=-1)
    species = np.broadcast_to((numbers[:, None] * numbers[None, :])[:, :, None], distance.shape)
    near = distance < 8
    order = np.lexsort((distance[near].round(6), species[near]))
    return species[near][order], distance[near][order]


def assert_same_distances(one, other):
    assert np.array_equal(one[0], other[0])
    assert np.allclose(one[1], other[1], atol=1e-5)


@pytest.mark.parametrize("kind", STACKINGS)
@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, axis=st.integers(0, 2))
def test_every_slab_of_a_stack_keeps_all_its_distances(kind, seed, axis):
    rng = np.random.default_rng(seed)
    parent = cut_between_layers(triclinic(rng), axis, rng.random())
    stack = STACKINGS[kind](parent, axis)
    count = len(stack) // len(parent)
    assert stack.volume == pytest.approx(count * parent.volume)
    assert stack.grid == tuple(n * (count if k == axis else 1) for k, n in enumerate(parent.grid))
    lateral = np.delete(parent.lattice, axis, axis=0)
    assert np.array_equal(np.delete(stack.lattice, axis, axis=0), lateral)
    wanted = layer_distances(parent.frac_coords @ parent.lattice, parent.numbers, lateral)
    slab = np.floor(stack.frac_coords[:, axis] * count)
    for number in range(count):
        mine = slab == number
        positions = stack.frac_coords[mine] @ stack.lattice
        assert_same_distances(layer_distances(positions, stack.numbers[mine], lateral), wanted)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_repeated_cell_is_the_same_crystal(axis):
    parent = triclinic(np.random.default_rng(axis))
    supercell = parent.to_structure() * tuple(3 if k == axis else 1 for k in range(3))
    stack = repeated(parent, axis, count=3)
    assert same_arrangement(BlockStructure.from_structure(supercell, grid=stack.grid), stack, 1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, axis=st.integers(0, 2))
def test_a_mirrored_stack_has_the_mirror_and_an_inverted_one_the_centre(seed, axis):
    rng = np.random.default_rng(seed)
    parent = cut_between_layers(triclinic(rng), axis, rng.random())
    stack = mirrored(parent, axis)
    u, v = np.delete(stack.lattice, axis, axis=0)
    assert np.allclose([stack.lattice[axis] @ u, stack.lattice[axis] @ v], 0, atol=1e-9)
    flipped = stack.frac_coords.copy()
    flipped[:, axis] *= -1
    delta = flipped[:, None] - stack.frac_coords[None]
    near = (np.abs(delta - np.round(delta)).max(axis=-1) < 1e-9) & (stack.numbers[:, None] == stack.numbers)
    assert near.any(axis=1).all()
    stack = inverted(parent, axis)
    delta = -stack.frac_coords[:, None] - stack.frac_coords[None]
    near = (np.abs(delta - np.round(delta)).max(axis=-1) < 1e-9) & (stack.numbers[:, None] == stack.numbers)
    assert near.any(axis=1).all()


def test_a_mirrored_triclinic_cell_has_a_mirror_plane_for_spglib():
    lattice = Lattice.from_parameters(5, 6, 7, 75, 100, 112)
    species, coords = ["Mg", "Mg", "O", "O"], [[0, 0, 0], [0.4, 0.3, 0.5], [0.5, 0.1, 0.3], [0.2, 0.7, 0.8]]
    parent = BlockStructure.from_structure(Structure(lattice, species, coords), grid=(1, 1, 2))
    cut = cut_between_layers(parent, 2, 0.15)
    symbols = {stacking: space_group(make(cut, 2)) for stacking, make in STACKINGS.items()}
    assert symbols == {**dict.fromkeys(STACKINGS, "P1"), "mirror": "Pm", "invert": "P-1"}


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, axis=st.integers(0, 2), height=st.floats(0, 1, exclude_max=True))
def test_slabs_are_cut_midway_between_two_layers(seed, axis, height):
    parent = triclinic(np.random.default_rng(seed))
    cut = cut_between_layers(parent, axis, height)
    assert same_arrangement(parent, cut, 1e-6)
    layers = np.sort(cut.frac_coords[:, axis])
    assert layers[0] == pytest.approx(1 - layers[-1], abs=1e-9)
    gaps = np.diff(np.append(np.unique(parent.frac_coords[:, axis]), parent.frac_coords[:, axis].min() + 1))
    assert np.isclose(2 * layers[0], gaps).any()


@pytest.mark.parametrize(("name", "times"), [(MoveName.DOUBLE_CELL, 2), (MoveName.TRIPLE_CELL, 3)])
@settings(deadline=None, max_examples=150)
@given(seed=SEEDS)
def test_the_move_keeps_the_original_part_and_makes_no_coincident_atoms(name, times, seed):
    rng = np.random.default_rng(seed)
    context = move_context(make_config({"formula": "MgO", "checks": {"min_density": 0.01}}))
    parent = triclinic(rng)
    limits = {"max_atoms": 50, "coordination": False}
    assume(check_structure(parent, context.formula_unit, context.config.checks, **limits) is None)
    moved = apply_move(name, parent, context, rng)
    assert len(moved) == times * len(parent)
    assert shortest_distance(moved.lattice, moved.frac_coords) >= context.config.checks.min_distance
    (axis,) = (k for k in range(3) if moved.grid[k] != parent.grid[k])
    assert moved.grid[axis] == times * parent.grid[axis]
    # the lowest atoms along the axis are the original, in another cell: the same crystal, cut at some height
    lowest = np.argsort(moved.frac_coords[:, axis], kind="stable")[: len(parent)]
    coords = moved.frac_coords[lowest] @ moved.lattice @ np.linalg.inv(parent.lattice)
    assert same_arrangement(parent, BlockStructure(parent.lattice, moved.numbers[lowest], coords, parent.grid), 1e-6)
    assert np.ptp(coords[:, axis]) < 1


def test_one_atom_on_the_joining_face_is_not_doubled_onto_itself():
    atom = BlockStructure([[2.5, 0, 0], [0.8, 2.6, 0], [0.5, -0.9, 2.4]], [25], [[0, 0, 0]], (1, 1, 1))
    context = move_context(make_config({"formula": "Mn"}))
    shapes = set()
    for seed in range(60):
        moved = apply_move(MoveName.DOUBLE_CELL, atom, context, np.random.default_rng(seed))
        assert shortest_distance(moved.lattice, moved.frac_coords) > 1.8
        shapes.add(tuple(moved.lattice.round(3).ravel().tolist()))
    assert len(shapes) >= 6  # each axis, straightened by a mirror or not


@pytest.mark.parametrize(("name", "times"), [(MoveName.DOUBLE_CELL, 2), (MoveName.TRIPLE_CELL, 3)])
def test_every_kind_of_stack_comes_out_of_the_moves_along_every_axis(name, times):
    context = move_context(make_config({"formula": "MgO", "checks": {"min_density": 0.01}}))
    lattice = np.array([[4.2, 0, 0], [1.5, 4.4, 0], [-1.0, 0.8, 4.6]])
    coords = [[0.1, 0.2, 0.15], [0.55, 0.6, 0.7], [0.1, 0.7, 0.3], [0.6, 0.1, 0.9]]
    parent = BlockStructure(lattice, [12, 8, 12, 8], coords, (1, 1, 2))
    found = set()
    for seed in range(150):
        moved = apply_move(name, parent, context, np.random.default_rng(seed))
        axis = int(np.argmax(np.array(moved.grid) / parent.grid))
        is_repeat = same_arrangement(moved, repeated(parent, axis, count=times), 1e-6)
        found.add((axis, "repeat" if is_repeat else space_group(moved)))
    kinds = ("repeat", "P1", "P-1", "Pm") if times == 2 else ("repeat", "P1")
    assert found == {(axis, kind) for axis in range(3) for kind in kinds}
