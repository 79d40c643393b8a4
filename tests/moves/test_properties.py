"""Thousands of random cells through all fourteen moves: what holds for every cell, whatever it looks like.

A plain seeded loop, because hypothesis spends most of its time on drawing and shrinking: every failure names the cell
by its kind and its number, which make the same cell again.
"""

from __future__ import annotations

from collections import Counter
from functools import cache, partial

import numpy as np
import pytest

from fuse_flows.config import MoveName, make_config
from fuse_flows.errors import MoveFailed
from fuse_flows.moves.cells import cut_between_layers, inverted, mirrored, repeated, translated
from fuse_flows.moves.registry import MOVES, apply_move
from fuse_flows.search.propose import move_context
from fuse_flows.structures.blocks import BlockStructure, grid_for
from fuse_flows.structures.checks import check_structure
from fuse_flows.structures.comparison import same_arrangement
from fuse_flows.structures.neighbours import shortest_distance

CELLS = {
    "triclinic": 300,
    "element": 240,
    "tiny": 300,
    "flat": 300,
    "needle": 240,
    "full": 80,
    "big": 30,
    "crowded": 50,
}
"""How many cells of each kind; each goes through every third move or so, the next cell through the next ones."""
SYMBOLS = ["H", "Li", "C", "O", "F", "Na", "Mg", "Al", "Si", "S", "Cl", "Ti", "Fe", "Co", "Ni", "Cu", "Sr", "Cs", "W"]
COPIES = {MoveName.DOUBLE_CELL: 2, MoveName.TRIPLE_CELL: 3}
FRESH = (MoveName.NEW_STRUCTURE_CURRENT_SIZE, MoveName.NEW_STRUCTURE_MAXIMUM_SIZE)
REASONS = {
    "contact too short",
    "density too high",
    "density too low",
    "no atom left in the cell",
    "no other shape drawn",
    "no random structure found",
    "no vacant point",
    "only one element drawn",
    "result is the parent",
    "volume out of the window",
}
STACKINGS = {
    "repeat 2": partial(repeated, count=2),
    "translate 2": partial(translated, count=2),
    "invert": inverted,
    "mirror": mirrored,
    "repeat 3": partial(repeated, count=3),
    "translate 3": partial(translated, count=3),
}


@cache
def context_of(kind, number):
    """A composition: two to four elements in small counts, or one element; every seventh with charges."""
    rng = np.random.default_rng([sum(kind.encode()), number])
    symbols = rng.permutation(SYMBOLS)[: 1 if kind == "element" else int(rng.integers(1 + (kind != "tiny"), 5))]
    counts = rng.integers(1, 2 if kind == "tiny" else 4, size=len(symbols))
    if kind == "tiny":
        symbols = symbols[:3]
    formula = "".join(f"{el}{n}" for el, n in zip(symbols, counts, strict=False))
    values = {
        "formula": formula,
        "max_atoms": {"big": 240, "tiny": 9}.get(kind, 40),
        "checks": {"min_distance": float(rng.choice([0.7, 1.0, 1.4, 1.8])), "min_density": 0.01, "max_density": 20.0},
        "generator": {"attempts": 40},
        "moves": {"attempts": 10, "vacancy_distance": 1.5},
    }
    return move_context(make_config(values))


def random_lattice(kind, rng):
    """Three vectors, right- or left-handed, whose cell is not thinner than a twentieth of its longest edge."""
    while True:
        lengths = rng.uniform(7, 16, size=3)
        if kind in ("flat", "needle"):
            lengths[rng.permutation(3)[: 1 if kind == "flat" else 2]] *= 0.25
        vectors = rng.normal(size=(3, 3))
        lattice = vectors / np.linalg.norm(vectors, axis=1)[:, None] * lengths[:, None]
        areas = np.linalg.norm(np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]), axis=1)
        if abs(np.linalg.det(lattice)) / areas.max() > lengths.max() / 20:
            return lattice


def spread_points(lattice, size, rng):
    """Points one after the other, each the one of 30 that lies farthest from those before it."""
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3) @ lattice
    coords = rng.random((1, 3))
    for _ in range(size - 1):
        drawn = rng.random((30, 3))
        delta = (drawn[:, None] - coords[None]) @ lattice
        squares = ((delta[:, :, None] + images) ** 2).sum(axis=-1)
        coords = np.vstack([coords, drawn[squares.min(axis=(1, 2)).argmax()]])
    return coords


def random_cell(kind, number):
    """A cell of a whole number of formula units; its contacts are above the floor, but for the kind "crowded"."""
    context = context_of(kind, number % 20)
    rng = np.random.default_rng([number, sum(kind.encode())])
    unit, floor = context.formula_unit, context.config.checks.min_distance
    most = context.config.max_atoms // unit.n_atoms
    units = {"tiny": 1, "full": most // 2, "big": most // 4}.get(kind, int(rng.integers(1, most // 2 + 2)))
    units = min(max(units, 1), most)
    numbers = rng.permutation(np.tile(unit.numbers, units))
    lattice, size = random_lattice(kind, rng), len(numbers)
    if kind == "full":  # sites of a grid, nearly all of them taken, as close as the floor allows
        edge = int(np.ceil(size ** (1 / 3)))
        sites = np.stack(np.meshgrid(*[np.arange(edge) / edge] * 3), axis=-1).reshape(-1, 3)
        coords = sites[rng.permutation(len(sites))[:size]] + rng.random(3)
    else:
        coords = spread_points(lattice, size, rng)
    contact = 0.6 * floor if kind == "crowded" else floor * (1.02 if kind == "full" else rng.uniform(1.02, 2.5))
    lattice = lattice * contact / shortest_distance(lattice, coords)
    grid = grid_for(lattice, context.edge) if number % 2 else tuple(int(n) for n in rng.integers(1, 5, size=3))
    return BlockStructure(lattice, numbers, coords, grid), context


def layer_distances(positions, numbers, lateral, cutoff=4.0):
    """Species and distances of all pairs in a slab without end along two vectors, sorted; shape (n_pairs, 2)."""
    area = np.linalg.norm(np.cross(*lateral))
    reach = [int(np.ceil(cutoff * np.linalg.norm(other) / area)) + 1 for other in lateral[::-1]]
    steps = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach]), axis=-1).reshape(-1, 2)
    # in-plane coordinates to within half a cell, so that the images reach far enough
    delta = positions[:, None] - positions[None]
    plane = np.linalg.lstsq(lateral.T, delta.reshape(-1, 3).T, rcond=None)[0].T
    delta = delta - (np.round(plane) @ lateral).reshape(delta.shape)
    distance = np.linalg.norm(delta[:, :, None] + steps @ lateral, axis=-1)
    species = np.broadcast_to((numbers[:, None] * numbers[None, :])[:, :, None], distance.shape)
    near = distance < cutoff
    pairs = np.stack([species[near], distance[near]], axis=1)
    return pairs[np.lexsort((pairs[:, 1].round(5), pairs[:, 0]))]


def outcome_of(name, parent, context, seed):
    """What a move makes of a cell: a structure, or the reason why there is none."""
    try:
        return apply_move(name, parent, context, np.random.default_rng(seed))
    except MoveFailed as failure:
        return failure.reason if failure.move == name else f"failure of {failure.move}"


def assert_sound(name, parent, moved, context):
    """Composition, size, contacts and, but for moves within the cell, all checks before a relaxation."""
    if name not in FRESH:
        assert np.array_equal(np.sort(moved.numbers), np.sort(np.tile(parent.numbers, COPIES.get(name, 1))))
    assert context.formula_unit.count_in(moved.numbers) >= 1
    assert len(moved) <= context.config.max_atoms
    assert not same_arrangement(parent, moved)
    shortest = shortest_distance(moved.lattice, moved.frac_coords)
    checks = context.config.checks
    if name.number <= 6:
        assert np.array_equal(moved.lattice, parent.lattice)
        assert shortest >= min(checks.min_distance, shortest_distance(parent.lattice, parent.frac_coords)) - 1e-9
        assert shortest > 0.3
    else:
        assert shortest >= checks.min_distance - 1e-9
        limits = {"max_atoms": context.config.max_atoms, "coordination": False}
        assert check_structure(moved, context.formula_unit, checks, **limits) is None


@pytest.mark.parametrize("kind", CELLS)
def test_every_move_of_every_cell_ends_in_a_sound_structure_or_a_known_reason(kind):
    made, tried = Counter(), Counter()
    for number in range(CELLS[kind]):
        parent, context = random_cell(kind, number)
        for name, move in list(MOVES.items())[number % 3 :: 3]:
            cell = f"{kind} {number}, {name.value}"
            outcome = outcome_of(name, parent, context, number)
            refused = move.guard(parent, context)
            if number % 8 == 0:  # the same draws make the same structure
                again = outcome_of(name, parent, context, number)
                same = outcome == again if isinstance(outcome, str) else outcome.is_identical(again)
                assert same, cell
            tried[name] += refused is None
            if isinstance(outcome, str):
                assert outcome == refused if refused else outcome in REASONS, f"{cell}: {outcome}"
                continue
            assert refused is None, cell
            made[name] += 1
            try:
                assert_sound(name, parent, outcome, context)
            except AssertionError as error:
                raise AssertionError(f"{cell}: {error}") from error
    if kind not in ("full", "crowded"):  # nothing of this holds because no move succeeds
        assert all(made[name] >= 0.4 * tried[name] for name in MOVES), (made, tried)


@pytest.mark.parametrize("kind", ["triclinic", "element", "tiny", "flat", "needle", "full"])
def test_every_slab_of_a_stack_of_any_cell_keeps_all_its_distances(kind):
    for number in range(20):
        parent, rng = random_cell(kind, number)[0], np.random.default_rng(number)
        axis = int(rng.integers(3))
        parent = cut_between_layers(parent, axis, rng.random())
        lateral = np.delete(parent.lattice, axis, axis=0)
        wanted = layer_distances(parent.frac_coords @ parent.lattice, parent.numbers, lateral)
        for stacking, make in STACKINGS.items():
            stack = make(parent, axis)
            copies = len(stack) // len(parent)
            slab = np.floor(stack.frac_coords[:, axis] * copies)
            for copy in range(copies):
                mine = slab == copy
                found = layer_distances(stack.frac_coords[mine] @ stack.lattice, stack.numbers[mine], lateral)
                assert found.shape == wanted.shape, (kind, number, stacking)
                assert np.allclose(found, wanted, atol=1e-4), (kind, number, stacking)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("kind", ["triclinic", "element", "tiny", "flat", "needle"])
def test_what_the_moves_put_together_holds_the_original_unchanged(name, kind):
    kept = made = 0
    for number in range(30):
        parent, context = random_cell(kind, number)
        moved = outcome_of(name, parent, context, number)
        if isinstance(moved, str):
            continue
        made += 1
        axis = int(np.argmax(np.array(moved.grid) / parent.grid))
        lowest = np.argsort(moved.frac_coords[:, axis], kind="stable")[: len(parent)]
        coords = moved.frac_coords[lowest] @ moved.lattice @ np.linalg.inv(parent.lattice)
        original = BlockStructure(parent.lattice, moved.numbers[lowest], coords, parent.grid)
        kept += same_arrangement(parent, original, 1e-6)
    assert kept == made > 5
