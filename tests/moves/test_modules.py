from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_flows.config import MoveName, make_config
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.registry import MOVES, apply_move
from fuse_flows.search.propose import move_context
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.motifs import MOTIFS, SITES

SEEDS = st.integers(0, 2**32 - 1)
SKEWED = np.array([[6.0, 0, 0], [1.0, 5.5, 0], [-1.5, 2.0, 20.0]])


def context_for(formula, **values):
    return move_context(make_config({"formula": formula, "checks": {"min_density": 0.01}, **values}))


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS, n_modules=st.integers(3, 6))
def test_modules_are_exchanged_whole_and_stay_rigid(seed, n_modules):
    rng = np.random.default_rng(seed)
    numbers = np.array([12, 8] * n_modules)
    coords = rng.random((len(numbers), 3)) * [1, 1, 0.9] + [0, 0, 0.05]
    coords[:, 2] = (np.repeat(np.arange(n_modules), 2) + coords[:, 2]) / n_modules
    parent = BlockStructure(SKEWED * [[1], [1], [n_modules / 6]], numbers, coords, (1, 1, n_modules))
    context = context_for("MgO", max_atoms=len(numbers), checks={"min_density": 0.01, "min_distance": 1e-3})
    moved = apply_move(MoveName.SWAP_MODULES, parent, context, rng)
    assert np.array_equal(moved.lattice[:2], parent.lattice[:2])
    height = np.linalg.det(moved.lattice) / np.linalg.det(parent.lattice)
    assert 1 <= height <= 1.6 + 1e-9

    def inside(structure):
        """Species and vector from the lower to the upper atom of each module; along a and b modulo the period."""
        order = np.argsort(structure.frac_coords[:, 2]).reshape(n_modules, 2)
        positions = structure.frac_coords @ structure.lattice
        axes = np.vstack([structure.lattice[:2], [0, 0, 1]])
        vectors = (positions[order[:, 1]] - positions[order[:, 0]]) @ np.linalg.inv(axes)
        vectors[:, :2] -= np.round(vectors[:, :2])
        return list(zip(structure.numbers[order].tolist(), vectors, strict=True))

    old, new = inside(parent), inside(moved)
    used = [
        next(i for i, (s, v) in enumerate(old) if s == species and np.allclose(v, vector, atol=1e-6))
        for species, vector in new
    ]
    assert sorted(used) == list(range(n_modules))
    assert sum(i != place for place, i in enumerate(used)) == 2


def test_two_modules_cannot_be_exchanged():
    parent = BlockStructure(np.eye(3) * 5, [12, 8], [[0, 0, 0.2], [0, 0, 0.7]], (2, 2, 2))
    assert MOVES[MoveName.SWAP_MODULES].guard(parent, context_for("MgO")) == "fewer than three modules"


def motif_of(block):
    """The motif of the content of a block, or None if an atom is elsewhere."""
    delta = block.frac_coords[:, None, :] - SITES[None, :, :]
    near = np.abs(delta - np.round(delta)).max(axis=-1) < 1e-6
    if not near.any(axis=1).all():
        return None
    taken = near.any(axis=0)
    return next(m.name for m in MOTIFS if m.origin == taken[0] and m.others == taken[1:].sum())


def roomy():
    """Blocks of 6 x 6 x 6 angstrom with four, three, two, one and no atoms, none of them on a site."""
    sizes = (4, 3, 2, 1, 0)
    spots = np.array([[0.3, 0.3, 0.2], [0.7, 0.4, 0.75], [0.2, 0.75, 0.7], [0.75, 0.8, 0.3]])
    coords = np.concatenate([(spots[:n] + np.array([0, 0, i])) / [1, 1, 5] for i, n in enumerate(sizes)])
    return BlockStructure(np.diag([6.0, 6, 30]), [25] * 10, coords, (1, 1, 5))


def test_the_eight_motifs_are_distinct_and_named():
    assert len({m.name for m in MOTIFS}) == 8
    assert {(m.origin, m.others) for m in MOTIFS} == {(o, n) for o in (False, True) for n in range(4)}
    rng = np.random.default_rng(0)
    for motif in MOTIFS:
        drawn = {tuple(map(tuple, motif.positions(rng))) for _ in range(60)}
        assert len(drawn) == (1, 3, 3, 1)[motif.others]  # arrangements of the sites off the origin
        assert all(len(set(sites)) == motif.n_atoms for sites in drawn)
        assert all(((0, 0, 0.5) in sites) == motif.origin for sites in drawn)


def test_each_of_the_eight_motifs_is_reached():
    parent, context = roomy(), context_for("Mn", moves={"vacancy_distance": 2.0})
    before = [len(block) for block in parent.blocks()]
    assert [motif_of(block) for block in parent.blocks()] == [None] * 4 + ["empty"]
    found = Counter()
    for seed in range(300):
        moved = apply_move(MoveName.MUTATE_SUBMODULE, parent, context, np.random.default_rng(seed))
        assert np.array_equal(moved.lattice, parent.lattice)
        assert len(moved) == len(parent)
        blocks = moved.blocks()
        mutated = [i for i in range(4) if motif_of(blocks[i]) is not None]
        assert len(mutated) == 1
        assert len(blocks[mutated[0]]) <= before[mutated[0]]
        found[motif_of(blocks[mutated[0]])] += 1
    assert set(found) == {m.name for m in MOTIFS}


@settings(deadline=None, max_examples=100)
@given(seed=SEEDS)
def test_atoms_without_a_site_go_to_vacant_points_of_other_submodules(seed):
    parent, context = roomy(), context_for("Mn", moves={"vacancy_distance": 2.0})
    moved = apply_move(MoveName.MUTATE_SUBMODULE, parent, context, np.random.default_rng(seed))
    (place,) = (i for i, block in enumerate(moved.blocks()[:4]) if motif_of(block) is not None)
    old = {tuple(f) for f in parent.frac_coords.tolist()}
    arrived = [f for f in moved.frac_coords.tolist() if tuple(f) not in old]
    elsewhere = [f for f in arrived if int(f[2] * 5) != place]
    assert len(elsewhere) == len(parent.blocks()[place]) - len(moved.blocks()[place])


def test_submodules_without_atoms_or_with_five_are_left_alone():
    coords = np.column_stack([np.linspace(0.05, 0.9, 5), [0.1, 0.5, 0.9, 0.3, 0.7], np.linspace(0.05, 0.4, 5)])
    crowded = BlockStructure(np.diag([8.0, 8, 9]), [25] * 5, coords, (1, 1, 2))
    with pytest.raises(MoveFailed, match="no sub-module of one to four atoms"):
        apply_move(MoveName.MUTATE_SUBMODULE, crowded, context_for("Mn"), np.random.default_rng(0))


def test_the_only_atom_of_a_cell_cannot_leave_its_submodule():
    atom = BlockStructure(np.eye(3) * 2.5, [25], [[0.2, 0.3, 0.4]], (1, 1, 1))
    with pytest.raises(MoveFailed) as caught:
        apply_move(MoveName.MUTATE_SUBMODULE, atom, context_for("Mn"), np.random.default_rng(0))
    assert caught.value.reason in {"result is the parent", "no atom left in the cell"}
