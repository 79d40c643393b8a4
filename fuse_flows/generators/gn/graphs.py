"""Many crystal graphs in flat arrays, and batches of them for the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fuse_flows.generators.gn.merging import merged_graph
from fuse_flows.potentials.kernels import FINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from fuse_flows.generators.base import Cell

CUTOFF = 5.0
#: Distances closer than this (A) are taken for the same, so that equivalent atoms can be merged.
SAME_DISTANCE = 1e-4
# of elements, atoms; centres, others, kinds, counts; lengths
_KINDS = (np.int32, np.float32, np.int32, np.int32, np.int32, np.float32, np.float32)


class Batch(NamedTuple):
    """Some graphs as one, in the order in which the network takes them.

    Attributes
    ----------
    elements
        Atomic numbers of the nodes, shape (nodes,).
    node_share
        Atoms of the node over atoms of its graph, shape (nodes,).
    node_graph
        Graph of each node, ascending, shape (nodes,).
    centres, others
        Nodes that an edge leads from and to, shape (edges,); centres ascend.
    kinds
        Which of the lengths an edge has, shape (edges,).
    edge_share
        What an edge counts among those of its centre, shape (edges,).
    edge_weight
        What an edge counts among those of its graph, shape (edges,).
    edge_graph
        Graph of each edge, ascending, shape (edges,).
    lengths
        The distances that occur, A, shape (lengths,).
    size
        Number of graphs.
    """

    elements: NDArray[np.int32]
    node_share: NDArray[np.float32]
    node_graph: NDArray[np.int32]
    centres: NDArray[np.int32]
    others: NDArray[np.int32]
    kinds: NDArray[np.int32]
    edge_share: NDArray[np.float32]
    edge_weight: NDArray[np.float32]
    edge_graph: NDArray[np.int32]
    lengths: NDArray[np.float32]
    size: np.int32


@dataclass(frozen=True)
class GraphSet:
    """Many graphs in flat arrays.

    Attributes
    ----------
    nodes, edges, shells
        Shape (n + 1,): the nodes of graph g are ``nodes[g]:nodes[g + 1]``, likewise its edges and lengths.
    elements, atoms
        Per node: atomic number, and how many atoms of the cell it stands for.
    centres, others, kinds, counts
        Per edge: the nodes it leads from and to and the length it has (counted within the graph), and how many such
        neighbours one atom of the centre has.
    lengths
        The distances that occur in each graph, A.
    fine
        Shape (n,): whether every atom has a neighbour and the cell is not collapsed.
    """

    nodes: NDArray[np.int64]
    edges: NDArray[np.int64]
    shells: NDArray[np.int64]
    elements: NDArray[np.int32]
    atoms: NDArray[np.float32]
    centres: NDArray[np.int32]
    others: NDArray[np.int32]
    kinds: NDArray[np.int32]
    counts: NDArray[np.float32]
    lengths: NDArray[np.float32]
    fine: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.fine)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Edges per graph, shape (n,)."""
        return np.diff(self.edges)

    def batch(self, chosen: NDArray[np.int64]) -> Batch:
        """Join some graphs.

        Parameters
        ----------
        chosen
            Their indices; each must be ``fine``.
        """
        node_sizes, edge_sizes = np.diff(self.nodes)[chosen], np.diff(self.edges)[chosen]
        at_node, at_edge = _ranges(self.nodes[chosen], node_sizes), _ranges(self.edges[chosen], edge_sizes)
        shells = np.diff(self.shells)[chosen]
        size = len(chosen)
        node_graph = np.repeat(np.arange(size, dtype=np.int32), node_sizes)
        edge_graph = np.repeat(np.arange(size, dtype=np.int32), edge_sizes)
        shift = np.repeat((np.cumsum(node_sizes) - node_sizes).astype(np.int32), edge_sizes)
        atoms, counts = self.atoms[at_node], self.counts[at_edge]
        centres = self.centres[at_edge] + shift
        cell_atoms = np.bincount(node_graph, atoms, size)
        degrees = np.bincount(centres, counts, len(atoms))
        weights = counts * atoms[centres]
        return Batch(
            elements=self.elements[at_node],
            node_share=(atoms / cell_atoms[node_graph]).astype(np.float32),
            node_graph=node_graph,
            centres=centres,
            others=self.others[at_edge] + shift,
            kinds=self.kinds[at_edge] + np.repeat((np.cumsum(shells) - shells).astype(np.int32), edge_sizes),
            edge_share=(counts / degrees[centres]).astype(np.float32),
            edge_weight=(weights / np.bincount(edge_graph, weights, size)[edge_graph]).astype(np.float32),
            edge_graph=edge_graph,
            lengths=self.lengths[_ranges(self.shells[chosen], shells)],
            size=np.int32(size),
        )


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all numbers of the ranges that begin at ``starts`` and hold ``sizes`` numbers."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)


def build_graphs(
    cells: Iterable[Cell],
    *,
    cutoff: float = CUTOFF,
    merge: bool = True,
    progress: Callable[[int], None] | None = None,
) -> GraphSet:
    """Build the graphs of many crystals.

    Parameters
    ----------
    cells
        The crystals.
    cutoff
        Largest length of an edge, A.
    merge
        Merge equivalent atoms; the network answers the same, faster.
    progress
        Called with the number of graphs built so far, now and then.

    Returns
    -------
    GraphSet
        One graph per crystal, in order; graphs that are not ``fine`` are empty.
    """
    tolerance = SAME_DISTANCE if merge else -1.0
    parts: list[tuple[NDArray[np.generic], ...]] = []
    fine: list[bool] = []
    for count, cell in enumerate(cells):
        if progress is not None and count % 500 == 0:
            progress(count)
        status, *arrays = merged_graph(
            np.ascontiguousarray(cell.lattice, dtype=np.float64),
            np.ascontiguousarray(cell.numbers, dtype=np.int64),
            np.ascontiguousarray(cell.frac_coords, dtype=np.float64),
            cutoff,
            tolerance,
        )
        elements, _, centres = arrays[:3]
        connected = status == FINE and len(np.unique(centres)) == len(elements) > 0
        fine.append(bool(connected))
        parts.append(
            tuple(array[: None if connected else 0].astype(kind) for array, kind in zip(arrays, _KINDS, strict=True))
        )
    columns = [np.concatenate([np.zeros(0, kind), *(part[k] for part in parts)]) for k, kind in enumerate(_KINDS)]
    nodes, edges, shells = (
        np.concatenate([[0], np.cumsum([len(part[k]) for part in parts])]).astype(np.int64) for k in (0, 2, 6)
    )
    return GraphSet(*(nodes, edges, shells, *columns, np.array(fine, dtype=bool)))
