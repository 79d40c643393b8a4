"""MEGNet's layers for graphs with merged nodes, with the same weights and the same answers, and less work.

What differs from ``megnet.layers``: means and attention count a merged node or edge as often as it stands for; the
first product of a block's edge network is taken on nodes and graphs, before its rows are gathered; graphs without
edges are allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.generators.gn.backend import MEGNetLayer, Set2Set, tf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.generators.gn.graphs import Batch

Tensor = Any


@tf.custom_gradient
def softplus2(x: Tensor) -> tuple[Tensor, Any]:
    """Return log(1 + exp(x)) - log(2), MEGNet's activation; its derivative follows from its value."""
    y = tf.nn.relu(x) + tf.math.log(0.5 * tf.exp(-tf.abs(x)) + 0.5)
    return y, lambda outer: outer * (1.0 - 0.5 * tf.exp(-y))


def dense(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, first: Tensor | None = None) -> Tensor:
    """Apply a stack of layers; the last one has no activation (as in MEGNet's blocks).

    Parameters
    ----------
    x
        Input, shape (rows, features).
    weights, biases
        One of each per layer.
    first
        The product of the first layer, biases included, if it is already known; ``x`` is not looked at then.
    """
    out = tf.matmul(x, weights[0]) + biases[0] if first is None else first
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        out = tf.matmul(softplus2(out), weight) + bias
    return out


class MergedBlock(MEGNetLayer):
    """One MEGNet block on merged graphs; it is built, and named, like its parent."""

    def update(
        self, nodes: Tensor, edges: Tensor, state: Tensor, batch: Batch, *, by_length: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new features of nodes, edges and graphs.

        Parameters
        ----------
        nodes, edges, state
            Features, shapes (nodes, v), (edges, e), (graphs, u).
        batch
            The graphs.
        by_length
            If the features of an edge follow from its length: those of the lengths, shape (lengths, e).
        """
        v, e = nodes.shape[-1], edges.shape[-1]
        kernel = self.phi_e_weights[0]
        by_graph = tf.matmul(state, kernel[2 * v + e :]) + self.phi_e_biases[0]
        by_centre = tf.matmul(nodes, kernel[:v]) + tf.gather(by_graph, batch.node_graph)
        by_other = tf.matmul(nodes, kernel[v : 2 * v])
        part = kernel[2 * v : 2 * v + e]
        first = tf.matmul(edges, part) if by_length is None else tf.gather(tf.matmul(by_length, part), batch.kinds)
        first += tf.gather(by_centre, batch.centres) + tf.gather(by_other, batch.others)
        new_edges = dense(edges, self.phi_e_weights, self.phi_e_biases, first=first)
        gathered = tf.math.unsorted_segment_sum(
            new_edges * batch.edge_share[:, None], batch.centres, tf.shape(nodes)[0]
        )
        # the mean over the edges of a graph is the mean over its nodes, each weighted with its part of the edges
        of_edges = tf.math.unsorted_segment_sum(
            new_edges * batch.edge_weight[:, None], batch.edge_graph, tf.shape(state)[0]
        )
        around = tf.concat([gathered, nodes, tf.gather(state, batch.node_graph)], -1)
        new_nodes = dense(around, self.phi_v_weights, self.phi_v_biases)
        of_nodes = tf.math.unsorted_segment_sum(
            new_nodes * batch.node_share[:, None], batch.node_graph, tf.shape(state)[0]
        )
        new_state = dense(tf.concat([of_edges, of_nodes, state], -1), self.phi_u_weights, self.phi_u_biases)
        return new_nodes, new_edges, new_state


class MergedSet2Set(Set2Set):
    """Set2Set over merged nodes or edges; it is built, and named, like its parent."""

    def read(self, features: Tensor, shares: Tensor, graph: Tensor, size: Tensor) -> Tensor:
        """Reduce the features of each graph to one vector.

        Parameters
        ----------
        features
            Shape (rows, features).
        shares
            What each row counts within its graph, shape (rows,).
        graph
            Graph of each row, ascending, shape (rows,).
        size
            Number of graphs.

        Returns
        -------
        Tensor
            Shape (graphs, 2 n_hidden).
        """
        m = tf.matmul(features, self.m_weight) + self.m_bias
        c = tf.zeros((1, size, self.n_hidden))  # stays zero: so the published weights were trained
        query = tf.zeros((size, 2 * self.n_hidden))
        for _ in range(self.T):
            h, _ = self._lstm(query[None], c)
            h = h[0]
            e = tf.reduce_sum(m * tf.gather(h, graph), axis=-1)
            highest = tf.stop_gradient(tf.math.unsorted_segment_max(e, graph, size))
            e = shares * tf.exp(e - tf.gather(highest, graph))
            total = tf.math.unsorted_segment_sum(e, graph, size)
            read = tf.math.unsorted_segment_sum(m * e[:, None], graph, size)
            read = tf.math.divide_no_nan(read, total[:, None])
            query = tf.concat([h, read], -1)
        return query
