from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fuse_flows.structures.lattices import (
    LatticeSystem,
    angle_choices,
    angle_factor,
    aspect,
    block_counts,
    cell_vectors,
    draw_angles,
    grids,
    shapes_with,
)


@pytest.mark.parametrize(
    ("system", "distinct"),
    [("cubic", 40), ("tetragonal", 656), ("hexagonal", 1297), ("orthorhombic", 2847), ("monoclinic", 3919)],
)
def test_distinct_numbers_of_submodules_up_to_forty_along_an_axis(system, distinct):
    numbers = {
        nx * ny * nz * (2 * nx if system == "cubic" else 1)
        for nx in range(1, 41)
        for ny in ([nx] if system in {"cubic", "tetragonal", "hexagonal"} else range(1, 41))
        for nz in ([1] if system == "cubic" else range(1, 41))
        if nz % 2 == 0 or system in {"cubic", "monoclinic"} or (system == "hexagonal" and nz > 1)
    }
    assert len(numbers) == distinct
    sample = range(1, 400)
    assert block_counts(LatticeSystem(system), 1, 399) == tuple(n for n in sample if n in numbers)


def test_cubic_shapes():
    assert block_counts(LatticeSystem.CUBIC, 1, 128) == (2, 16, 54, 128)
    assert [grids(LatticeSystem.CUBIC, n) for n in (2, 16, 54, 128)] == [
        ((1, 1, 2),), ((2, 2, 4),), ((3, 3, 6),), ((4, 4, 8),),
    ]  # fmt: skip
    assert grids(LatticeSystem.CUBIC, 2 * 40**3) == ((40, 40, 80),)


@pytest.mark.parametrize(("n_blocks", "counts"), [(8, (2, 2, 6, 10)), (16, (2, 2, 10, 15))])
def test_shapes_with_a_given_number_of_submodules(n_blocks, counts):
    found = Counter(system for system, _ in shapes_with(n_blocks))
    tetragonal, hexagonal, orthorhombic, monoclinic = counts
    assert found == {
        LatticeSystem.TETRAGONAL: tetragonal,
        LatticeSystem.HEXAGONAL: hexagonal,
        LatticeSystem.ORTHORHOMBIC: orthorhombic,
        LatticeSystem.MONOCLINIC: monoclinic,
        LatticeSystem.TRICLINIC: monoclinic,
    }
    assert all(np.prod(grid) == n_blocks for _, grid in shapes_with(n_blocks))


def test_a_single_submodule_has_a_shape_of_its_own():
    assert shapes_with(1) == ((LatticeSystem.MONOCLINIC, (1, 1, 1)), (LatticeSystem.TRICLINIC, (1, 1, 1)))


def test_the_longest_axis_is_bounded():
    assert grids(LatticeSystem.TRICLINIC, 41, max_axis=40) == ()
    assert max(max(grid) for _, grid in shapes_with(48, max_axis=12)) == 12


def test_the_aspect_of_a_cell_is_bounded():
    assert [aspect(grid) for grid in ((1, 1, 2), (1, 1, 1), (1, 1, 29), (1, 29, 1))] == [1, 2, 14.5, 58]
    for n_blocks in range(1, 60):
        shapes = shapes_with(n_blocks)
        near = tuple((system, grid) for system, grid in shapes if aspect(grid) <= 6)
        assert shapes_with(n_blocks, max_aspect=6) == near
    assert block_counts(LatticeSystem.CUBIC, 1, 128, max_aspect=1) == (2, 16, 54, 128)
    assert 29 in block_counts(LatticeSystem.TRICLINIC, 1, 40)
    assert 29 not in block_counts(LatticeSystem.TRICLINIC, 1, 40, max_aspect=12)


def test_monoclinic_cells_have_a_true_beta():
    rng = np.random.default_rng(0)
    drawn = {draw_angles(LatticeSystem.MONOCLINIC, rng) for _ in range(200)}
    assert {(alpha, gamma) for alpha, _, gamma in drawn} == {(90.0, 90.0)}
    assert {beta for _, beta, _ in drawn} == {60.0, 75.0, 105.0, 120.0}


@pytest.mark.parametrize("system", list(LatticeSystem))
def test_all_angles_make_a_cell(system):
    for angles in angle_choices(system):
        lattice = cell_vectors((4.0, 5.0, 6.0), angles)
        lengths = np.linalg.norm(lattice, axis=1)
        assert np.allclose(lengths, (4, 5, 6))
        cosines = [lattice[i] @ lattice[j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
        assert np.allclose(np.degrees(np.arccos(cosines)), angles)
        assert np.linalg.det(lattice) == pytest.approx(120 * angle_factor(angles))
        assert angle_factor(angles) >= 0.3


def test_triclinic_angles_are_many_and_oblique():
    choices = angle_choices(LatticeSystem.TRICLINIC)
    assert len(set(choices)) == len(choices) > 30
    assert all((alpha, beta) != (90.0, 90.0) for alpha, beta, _ in choices)
    assert {gamma for _, _, gamma in choices} == {90.0, 120.0}


@pytest.mark.parametrize("angles", [(60.0, 60.0, 120.0), (150.0, 150.0, 90.0), (60.0, 150.0, 60.0)])
def test_impossible_angles_are_seen(angles):
    assert angle_factor(angles) == 0
    with pytest.raises(ValueError, match="no cell"):
        cell_vectors((1.0, 1.0, 1.0), angles)
