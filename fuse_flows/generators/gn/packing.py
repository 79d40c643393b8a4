"""Batches of one shape: graphs are packed until edges, nodes or places run out, and the rest is filled up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.generators.gn.graphs import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.generators.gn.graphs import GraphSet


@dataclass(frozen=True)
class Room:
    """What fits into a batch; one of each is kept for filling up.

    Attributes
    ----------
    edges, lengths, nodes, graphs
        Sizes of the arrays of every batch.
    """

    edges: int = 5632
    lengths: int = 3072
    nodes: int = 640
    graphs: int = 96


def pack(graphs: GraphSet, order: NDArray[np.int64], room: Room) -> list[NDArray[np.int64]]:
    """Cut a sequence of graphs into batches.

    Parameters
    ----------
    graphs
        The graphs.
    order
        Indices in the order in which they are to be seen; each fits into the room.
    room
        What a batch holds.

    Returns
    -------
    list of numpy.ndarray
        The indices of each batch.
    """
    sizes = np.stack([np.diff(part)[order] for part in (graphs.edges, graphs.shells, graphs.nodes)], axis=1)
    limits = np.array([room.edges, room.lengths, room.nodes]) - 1
    cuts = [0]
    used = np.zeros(3, np.int64)
    for k, size in enumerate(sizes):
        used = used + size
        if (used > limits).any() or k - cuts[-1] >= room.graphs - 1:
            cuts.append(k)
            used = size
    return [order[a:b] for a, b in zip(cuts, [*cuts[1:], len(order)], strict=True) if b > a]


def filled(batch: Batch, room: Room) -> Batch:
    """Fill a batch up with edges, nodes and graphs that count nothing.

    Parameters
    ----------
    batch
        Smaller than the room by at least one of each.
    room
        Sizes of the arrays that are returned.
    """

    def up(values: NDArray[Any], size: int, filler: float) -> NDArray[Any]:
        out = np.full(size, filler, values.dtype)
        out[: len(values)] = values
        return out

    last_node, last_graph = room.nodes - 1, room.graphs - 1
    return Batch(
        up(batch.elements, room.nodes, 0),
        up(batch.node_share, room.nodes, 0.0),
        up(batch.node_graph, room.nodes, last_graph),
        up(batch.centres, room.edges, last_node),
        up(batch.others, room.edges, last_node),
        up(batch.kinds, room.edges, room.lengths - 1),
        up(batch.edge_share, room.edges, 0.0),
        up(batch.edge_weight, room.edges, 0.0),
        up(batch.edge_graph, room.edges, last_graph),
        up(batch.lengths, room.lengths, 1.0),
        np.int32(room.graphs),
    )
