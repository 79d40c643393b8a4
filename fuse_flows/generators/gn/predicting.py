"""What the network makes of many graphs, compiled once for all sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.generators.gn.backend import tf
from fuse_flows.generators.gn.graphs import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fuse_flows.generators.gn.graphs import GraphSet
    from fuse_flows.generators.gn.network import Network

#: Edges that go through the network at once: many, because small operations cost more to start than to do.
_EDGES = 32768
_KINDS = (tf.int32, tf.float32, tf.int32, tf.int32, tf.int32, tf.int32, tf.float32, tf.float32, tf.int32, tf.float32)


class Predictor:
    """Calls a network on graphs, a bounded number of edges at a time.

    Parameters
    ----------
    network
        The network; changes of its weights are followed.
    """

    def __init__(self, network: Network) -> None:
        signature = [[tf.TensorSpec([None], kind) for kind in _KINDS], tf.TensorSpec([], tf.int32)]
        self._call: Any = tf.function(lambda arrays, size: network(Batch(*(*arrays, size))), input_signature=signature)

    def __call__(self, graphs: GraphSet, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the network says of some graphs, shape (len(chosen),).

        Parameters
        ----------
        graphs
            The graphs.
        chosen
            Indices of fine ones.
        """
        if not len(chosen):
            return np.zeros(0, np.float32)
        order = np.argsort(graphs.sizes[chosen], kind="stable")
        group = np.cumsum(graphs.sizes[chosen][order]) // _EDGES
        cuts = np.flatnonzero(np.diff(group)) + 1
        out = np.empty(len(chosen), np.float32)
        for places in np.split(order, cuts):
            *arrays, size = graphs.batch(chosen[places])
            out[places] = self._call(arrays, size).numpy()
        return out
