from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_flows.config import make_config
from fuse_flows.moves.repair import MAX_GROWTH, pushed_apart, with_open_contacts, with_open_joins
from fuse_flows.search.propose import move_context
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.neighbours import shortest_distance

LOOSE = {"formula": "MgO", "checks": {"min_density": 0.01}, "volume": {"low": 0.0, "high": 1e3}}
CONTEXT = move_context(make_config(LOOSE))
OPEN = 0.65 * (1.60 + 0.74)  # of Mg and O


def pair(distance, edge=4.0):
    return BlockStructure(np.eye(3) * edge, [12, 8], [[0, 0, 0], [0, 0, distance / edge]], (1, 1, 1))


def contact(structure):
    return shortest_distance(structure.lattice, structure.frac_coords)


def test_short_contacts_are_opened_by_an_expansion_if_that_is_enough():
    fine = pair(1.8)
    assert with_open_contacts(fine, CONTEXT) is fine
    opened = with_open_contacts(pair(1.4), CONTEXT)
    assert contact(opened) == pytest.approx(OPEN, abs=1e-4)
    assert np.allclose(opened.frac_coords, pair(1.4).frac_coords)


def test_shorter_contacts_are_pushed_open_in_the_same_cell():
    for distance in (1.1, 0.8, 0.1):
        opened = with_open_contacts(pair(distance), CONTEXT)
        assert contact(opened) == pytest.approx(OPEN, abs=1e-3)
        assert np.array_equal(opened.lattice, pair(distance).lattice)
        assert opened.is_identical(with_open_contacts(pair(distance), CONTEXT))


def test_what_a_push_cannot_open_grows_by_at_most_sixty_percent_of_volume():
    tight = pair(0.9, edge=2.3)
    opened = with_open_contacts(tight, CONTEXT)
    assert 1 < opened.volume / tight.volume <= MAX_GROWTH * 1.001
    assert contact(opened) > 1.15 * contact(tight)


def test_coincident_atoms_are_refused():
    assert with_open_contacts(pair(0.0), CONTEXT) == "contact too short"
    assert np.array_equal(pushed_apart(pair(0.0), CONTEXT).frac_coords, pair(0.0).frac_coords)


def test_images_of_the_same_atom_do_not_push_it():
    flat = BlockStructure(np.diag([1.5, 6, 6]), [12], [[0.3, 0.3, 0.3]], (1, 1, 1))
    assert np.allclose(pushed_apart(flat, CONTEXT).frac_coords, flat.frac_coords)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_a_push_never_moves_the_centre_and_opens_most_of_a_crowd(seed):
    rng = np.random.default_rng(seed)
    lattice = np.diag(rng.uniform(7, 9, size=3)) + rng.normal(scale=1.0, size=(3, 3))
    crowd = BlockStructure(lattice, [12, 8] * 3, 0.3 * rng.random((6, 3)) + 0.35, (1, 1, 1))
    pushed = pushed_apart(crowd, CONTEXT)
    assert np.array_equal(pushed.numbers, crowd.numbers)  # one block: the order stays
    shift = pushed.frac_coords - crowd.frac_coords
    assert np.abs((shift - np.round(shift)).sum(axis=0)).max() < 1e-9
    assert with_open_contacts(pushed, CONTEXT).volume <= 1.1 * crowd.volume


def test_joins_open_along_the_normal_and_slabs_stay_rigid():
    lattice = np.array([[4.0, 0, 0], [1.0, 4, 0], [2.0, 1.5, 10]])
    coords = np.array([[0.1, 0.1, 0.02], [0.6, 0.6, 0.48], [0.6, 0.6, 0.52], [0.1, 0.1, 0.98]])
    stack = BlockStructure(lattice, [12, 8, 12, 8], coords, (1, 1, 2))
    opened = with_open_joins(stack, CONTEXT, axis=2, slabs=2)
    assert contact(opened) == pytest.approx(OPEN, abs=1e-4)
    step = opened.lattice[2] - lattice[2]
    assert np.allclose(step[:2], 0)
    assert step[2] > 1
    old, new = coords @ lattice, opened.frac_coords @ opened.lattice
    assert np.allclose(new[1] - new[0], old[1] - old[0])
    assert np.allclose(new[3] - new[2], old[3] - old[2])
    assert np.allclose((new[2] - new[1])[:2], (old[2] - old[1])[:2])
    assert with_open_joins(opened, CONTEXT, axis=2, slabs=2) is opened
