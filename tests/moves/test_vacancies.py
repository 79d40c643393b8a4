from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_flows.config import MoveName, make_config
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.registry import apply_move
from fuse_flows.moves.vacancies import separate_points, vacant_points
from fuse_flows.search.propose import move_context
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.neighbours import neighbour_pairs

BOTH = (MoveName.PERMUTE_ATOMS_AND_VACANCIES, MoveName.PERMUTE_ALL_ATOMS_AND_VACANCIES)
SPECIES = {"MgO": [12, 8] * 3, "Mn": [25] * 6}


def triclinic(rng, numbers):
    lattice = np.diag(rng.uniform(5, 8, size=3)) + np.tril(rng.uniform(-3, 3, size=(3, 3)), -1)
    return BlockStructure(lattice, numbers, rng.random((len(numbers), 3)), (1, 1, 2))


@pytest.mark.parametrize("name", BOTH)
@settings(deadline=None, max_examples=150)
@given(formula=st.sampled_from(sorted(SPECIES)), seed=st.integers(0, 2**32 - 1))
def test_atoms_really_go_to_vacancies_and_stay_apart(name, formula, seed):
    rng = np.random.default_rng(seed)
    context = move_context(make_config({"formula": formula}))
    parent = triclinic(rng, SPECIES[formula])
    moved = apply_move(name, parent, context, rng)
    assert np.array_equal(moved.lattice, parent.lattice)
    assert np.array_equal(np.sort(moved.numbers), np.sort(parent.numbers))
    old = {tuple(f) for f in parent.frac_coords.tolist()}
    arrived = np.array([tuple(f) not in old for f in moved.frac_coords.tolist()])
    assert arrived.any()
    limit = context.config.moves.vacancy_distance
    first, second, _ = neighbour_pairs(moved.lattice, moved.frac_coords, limit - 1e-6)
    assert not (arrived[first] | arrived[second])[first != second].any()
    before = np.vstack([parent.frac_coords, moved.frac_coords[arrived]])  # not where an atom has just left either
    first, second, _ = neighbour_pairs(parent.lattice, before, limit - 1e-6)
    assert not ((first >= len(parent)) ^ (second >= len(parent))).any()
    if name is MoveName.PERMUTE_ATOMS_AND_VACANCIES:
        stayed = {(z, *f) for z, f in zip(parent.numbers.tolist(), parent.frac_coords.tolist(), strict=True)}
        assert stayed & {(z, *f) for z, f in zip(moved.numbers.tolist(), moved.frac_coords.tolist(), strict=True)}


@pytest.mark.parametrize("name", BOTH)
def test_between_one_and_all_permuted_atoms_go(name):
    context = move_context(make_config({"formula": "MgO"}))
    parent = triclinic(np.random.default_rng(8), SPECIES["MgO"])
    old = {tuple(f) for f in parent.frac_coords.tolist()}
    counts, vacated = set(), set()
    for seed in range(300):
        moved = apply_move(name, parent, context, np.random.default_rng(seed))
        new = {tuple(f) for f in moved.frac_coords.tolist()}
        counts.add(len(new - old))
        vacated |= old - new
    assert vacated == old
    assert counts == set(range(1, 6 if name is BOTH[0] else 7))


@pytest.mark.parametrize("name", BOTH)
def test_without_room_there_is_no_move(name):
    coords = np.stack(np.meshgrid(*[np.arange(2) / 2] * 3), axis=-1).reshape(-1, 3)
    full = BlockStructure(np.eye(3) * 4.0, [12, 8] * 4, coords, (1, 1, 2))
    context = move_context(make_config({"formula": "MgO", "moves": {"vacancy_distance": 1.8}}))
    with pytest.raises(MoveFailed, match="no vacant point"):
        apply_move(name, full, context, np.random.default_rng(0))


def test_one_vacancy_is_filled_once():
    lattice = np.eye(3) * 4.0
    coords = np.stack(np.meshgrid(*[np.arange(2) / 2] * 3), axis=-1).reshape(-1, 3)
    vacant = BlockStructure(lattice, [25] * 7, coords[1:], (1, 1, 2))
    points = vacant_points(vacant, spacing=0.5, distance=1.9)
    assert len(points) > 0
    rng = np.random.default_rng(0)
    assert len(separate_points(points, vacant, count=5, distance=1.5, rng=rng)) == 1
    context = move_context(make_config({"formula": "Mn", "moves": {"vacancy_distance": 1.9, "vacancy_grid": 0.5}}))
    with pytest.raises(MoveFailed, match="result is the parent"):  # a lattice with one vacancy, wherever it is
        apply_move(MoveName.PERMUTE_ALL_ATOMS_AND_VACANCIES, vacant, context, rng)
