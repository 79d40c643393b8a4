from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.structures.blocks import Block, BlockStructure, block_origins, grid_for, wrap

grids = st.tuples(*[st.integers(1, 7)] * 3)


@st.composite
def block_structures(draw):
    """Random triclinic cells, with some atoms exactly on faces and a hair beside them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lattice = rng.normal(size=(3, 3)) + 2 * np.eye(3)
    n_atoms = draw(st.integers(1, 40))
    coords = rng.uniform(-2, 2, size=(n_atoms, 3))
    grid = draw(grids)
    awkward = draw(
        st.lists(st.sampled_from([-1e-17, 1.0, 0.0, 1 - 1e-16, 1 / 3, 2 / 3, 0.5, 1e-300]), max_size=n_atoms)
    )
    coords[: len(awkward), draw(st.integers(0, 2))] = awkward
    on_faces = rng.random(coords.shape) < 0.2
    coords[on_faces] = (rng.integers(0, 8, size=coords.shape) / np.array(grid))[on_faces]
    return BlockStructure(4 * lattice, rng.integers(1, 90, size=n_atoms), coords, grid)


@settings(deadline=None, max_examples=200)
@given(block_structures())
def test_slicing_and_assembling_is_the_identity_to_the_last_bit(structure):
    blocks = structure.blocks()
    assert len(blocks) == structure.n_blocks
    assert sum(len(block) for block in blocks) == len(structure)
    for block in blocks:
        assert ((block.frac_coords >= 0) & (block.frac_coords < 1)).all()
    assert BlockStructure.from_blocks(structure.lattice, structure.grid, blocks).is_identical(structure)


@settings(deadline=None, max_examples=100)
@given(block_structures(), grids)
def test_a_block_holds_the_atoms_that_lie_in_its_part_of_the_cell(structure, grid):
    structure = BlockStructure(structure.lattice, structure.numbers, structure.frac_coords, grid)
    for origin, block in zip(block_origins(grid), structure.blocks(), strict=True):
        absolute = (origin + block.frac_coords) @ structure.block_vectors
        inside = np.linalg.solve(structure.lattice.T, absolute.T).T * np.array(grid) - origin
        assert ((inside > -1e-6) & (inside < 1 + 1e-6)).all()


@settings(deadline=None, max_examples=50)
@given(block_structures())
def test_the_way_through_pymatgen_loses_nothing(structure):
    back = BlockStructure.from_structure(structure.to_structure(), grid=structure.grid)
    assert back.is_identical(structure)


def test_x_runs_fastest_among_the_blocks():
    origins = block_origins((2, 3, 2))
    assert origins[:4].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]
    coords = (origins + 0.25) / (2, 3, 2)
    structure = BlockStructure(np.eye(3) * 9, np.arange(1, 13)[::-1], coords[::-1], (2, 3, 2))
    assert structure.numbers.tolist() == list(range(1, 13))
    assert [block.numbers.tolist() for block in structure.blocks()] == [[n] for n in range(1, 13)]


def test_wrapping_puts_all_values_into_the_half_open_interval():
    values = wrap([-1e-17, 1.0, 0.0, 1 - 1e-17, -0.25, 7.75, 1 - 1e-14])
    assert values.tolist() == [0, 0, 0, 0, 0.75, 0.75, 0]
    assert wrap(np.array([1 / 3]))[0] == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize(
    ("lengths", "grid"),
    [((11.85, 11.85, 11.85), (3, 3, 6)), ((1.0, 1.0, 0.9), (1, 1, 1)), ((4.2, 8.5, 4.2), (1, 2, 2))],
)
def test_the_grid_of_a_relaxed_cell_is_never_empty(lengths, grid):
    assert grid_for(np.diag(lengths), edge=4.238) == grid
    structure = Structure(Lattice(np.diag(lengths)), ["Fe"], [[0, 0, 0]])
    assert BlockStructure.from_structure(structure, edge=4.238).grid == grid


def test_the_parents_block_vectors_are_kept():
    lattice = np.array([[5.0, 0, 0], [1, 6, 0], [-1, 2, 7]])
    structure = BlockStructure(lattice, [1, 2], [[0, 0, 0], [0.6, 0.7, 0.8]], (2, 1, 3))
    assert np.allclose(structure.block_vectors * np.array([[2], [1], [3]]), lattice, atol=0)
    again = BlockStructure.from_blocks(structure.lattice, structure.grid, structure.blocks())
    assert np.array_equal(again.lattice, lattice)
    assert structure.volume == pytest.approx(210)
    assert structure.angles[2] == pytest.approx(np.degrees(np.arccos(1 / np.sqrt(37))))


def test_without_edge_the_grid_comes_from_the_radii_of_the_atoms():
    structure = Structure(Lattice.cubic(5.48), ["Mn"], [[0, 0, 0]])
    assert BlockStructure.from_structure(structure).grid == (1, 1, 2)


def test_atoms_that_stick_out_of_their_block_end_in_the_next_one():
    blocks = [
        Block(np.array([8]), np.array([[0.5, 0.5, 0.5]])).shifted([0.75, 0, 0]),
        Block(np.array([], int), np.empty((0, 3))),
    ]
    structure = BlockStructure.from_blocks(np.eye(3) * 4, (2, 1, 1), blocks)
    assert [len(block) for block in structure.blocks()] == [0, 1]
    assert structure.frac_coords.tolist() == [[0.625, 0.5, 0.5]]


def test_arrays_cannot_be_written():
    structure = BlockStructure(np.eye(3), [1], [[0, 0, 0]], (1, 1, 1))
    for array in (structure.lattice, structure.numbers, structure.frac_coords, structure.blocks()[0].numbers):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("lattice", "numbers", "coords", "grid"),
    [
        (np.eye(2), [1], [[0, 0, 0]], (1, 1, 1)),
        (np.eye(3), [], np.empty((0, 3)), (1, 1, 1)),
        (np.eye(3), [1], [[0, 0]], (1, 1, 1)),
        (np.eye(3), [1], [[0, 0, np.nan]], (1, 1, 1)),
        (np.full((3, 3), np.inf), [1], [[0, 0, 0]], (1, 1, 1)),
        (np.eye(3), [1], [[0, 0, 0]], (1, 0, 1)),
    ],
)
def test_nonsense_is_refused(lattice, numbers, coords, grid):
    with pytest.raises(ValueError, match=r"needed|finite|grid"):
        BlockStructure(lattice, numbers, coords, grid)


def test_blocks_must_fill_the_grid():
    structure = BlockStructure(np.eye(3), [1], [[0, 0, 0]], (1, 1, 1))
    with pytest.raises(ValueError, match="do not fill"):
        BlockStructure.from_blocks(structure.lattice, (2, 1, 1), structure.blocks())


def test_disordered_structures_are_refused():
    with pytest.raises(ValueError, match="ordered"):
        BlockStructure.from_structure(Structure(Lattice.cubic(4), [{"Fe": 0.5}], [[0, 0, 0]]), edge=4)
