import numpy as np
import pytest
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.generators.base import Cell
from fuse_flows.generators.gn.graphs import build_graphs
from fuse_flows.generators.gn.packing import Room, filled, pack

CUTOFF = 5.0


def random_cell(seed, n=6, volume=14.0):
    rng = np.random.default_rng(seed)
    lattice = np.eye(3) + rng.uniform(-0.6, 0.6, (3, 3))
    while abs(np.linalg.det(lattice)) < 0.15:
        lattice = np.eye(3) + rng.uniform(-0.6, 0.6, (3, 3))
    lattice *= (n * volume / abs(np.linalg.det(lattice))) ** (1 / 3)
    return Cell(lattice, rng.choice([8, 12, 22], n), rng.random((n, 3)))


def by_pymatgen(cell):
    structure = Structure(Lattice(cell.lattice), cell.numbers.tolist(), cell.frac_coords)
    centres, others, _, distances = structure.get_neighbor_list(CUTOFF)
    return np.array(sorted(zip(centres.tolist(), others.tolist(), distances.round(9).tolist(), strict=True)))


def rows(graphs, graph):
    at = slice(*graphs.edges[graph : graph + 2])
    lengths = graphs.lengths[slice(*graphs.shells[graph : graph + 2])]
    return graphs.centres[at], graphs.others[at], lengths[graphs.kinds[at]], graphs.counts[at]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 8), volume=st.floats(4.0, 30.0))
def test_neighbours_are_those_of_pymatgen(seed, n, volume):
    cell = random_cell(seed, n, volume)
    graphs = build_graphs([cell], merge=False)
    expected = by_pymatgen(cell)
    if not graphs.fine[0]:
        assert len(set(expected[:, 0])) < n if len(expected) else True
        return
    centres, others, distances, counts = rows(graphs, 0)
    assert (counts == 1).all()
    found = sorted(zip(centres.tolist(), others.tolist(), distances.tolist(), strict=True))
    assert len(found) == len(expected)
    found = np.array(found)
    order, ours = np.lexsort(expected.T[::-1]), np.lexsort(found.T[::-1])
    np.testing.assert_array_equal(found[ours][:, :2], expected[order][:, :2])
    np.testing.assert_allclose(found[ours][:, 2], expected[order][:, 2], atol=2e-6)


@pytest.mark.parametrize("lattice", ["flat", "needle", "skewed"])
def test_cells_smaller_and_flatter_than_the_cutoff(lattice):
    matrix = {
        "flat": np.diag([2.6, 2.6, 40.0]),
        "needle": np.diag([12.0, 12.0, 1.9]),
        "skewed": np.array([[3.0, 0.0, 0.0], [8.5, 3.1, 0.0], [-7.7, 9.0, 3.3]]),
    }[lattice]
    cell = Cell(matrix, np.array([29]), np.array([[0.3, 0.6, 0.9]]))
    centres, others, distances, _ = rows(build_graphs([cell], merge=False), 0)
    expected = by_pymatgen(cell)
    assert len(centres) == len(expected)
    np.testing.assert_allclose(np.sort(distances), np.sort(expected[:, 2]), atol=2e-6)
    assert not centres.any()
    assert not others.any()


def test_equivalent_atoms_share_a_node():
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 1, 1)
    cell = Cell(np.array(salt.cell), salt.numbers.astype(int), salt.get_scaled_positions())
    graphs = build_graphs([cell])
    assert graphs.elements.tolist() == [11, 17]
    assert graphs.atoms.tolist() == [8, 8]
    _, _, distances, counts = rows(graphs, 0)
    order = np.argsort(distances[:3])
    np.testing.assert_allclose(distances[order], [2.82, 3.988, 4.884], atol=1e-3)
    assert counts[order].tolist() == [6, 12, 8]
    assert len(counts) == 6


def test_different_surroundings_are_told_apart():
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    fractions = salt.get_scaled_positions()
    fractions[0] += 0.03
    graphs = build_graphs([Cell(np.array(salt.cell), salt.numbers.astype(int), fractions)])
    assert len(graphs.elements) > 2
    assert graphs.atoms.sum() == 8


def test_shares_add_up():
    graphs = build_graphs([random_cell(seed) for seed in range(6)])
    batch = graphs.batch(np.array([4, 1, 2]))
    np.testing.assert_allclose(np.bincount(batch.node_graph, batch.node_share), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.bincount(batch.edge_graph, batch.edge_weight), 1.0, atol=1e-6)
    np.testing.assert_allclose(np.bincount(batch.centres, batch.edge_share), 1.0, atol=1e-6)
    assert (np.diff(batch.centres) >= 0).all()


def test_atoms_without_neighbours_and_collapsed_cells_have_no_graph():
    alone = Cell(np.eye(3) * 9.0, np.array([55]), np.zeros((1, 3)))
    collapsed = Cell(np.eye(3) * 1e-4, np.array([55]), np.zeros((1, 3)))
    flat = Cell(np.array([[3.0, 0, 0], [0, 3.0, 0], [3.0, 3.0, 0]]), np.array([55]), np.zeros((1, 3)))
    graphs = build_graphs([alone, random_cell(1), collapsed, flat])
    assert graphs.fine.tolist() == [False, True, False, False]
    assert graphs.sizes[[0, 2, 3]].tolist() == [0, 0, 0]


def test_packed_batches_hold_everything_once_and_fill_up():
    graphs = build_graphs([random_cell(seed, n=1 + seed % 5) for seed in range(40)])
    order = np.random.default_rng(0).permutation(np.flatnonzero(graphs.fine))
    room = Room(edges=700, lengths=600, nodes=20, graphs=6)
    batches = pack(graphs, order, room)
    np.testing.assert_array_equal(np.concatenate(batches), order)
    for chosen in batches:
        batch = filled(graphs.batch(chosen), room)
        assert len(batch.kinds) == room.edges
        assert len(batch.lengths) == room.lengths
        assert len(batch.elements) == room.nodes
        assert batch.size == room.graphs
        assert batch.edge_weight[batch.edge_graph == room.graphs - 1].sum() == 0.0
        assert batch.node_graph.max() == room.graphs - 1
