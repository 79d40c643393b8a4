"""The network: embedded elements, expanded distances, MEGNet blocks, Set2Set readout, dense layers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.generators.gn.backend import tf
from fuse_flows.generators.gn.layers import MergedBlock, MergedSet2Set, softplus2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from fuse_flows.generators.gn.architecture import Architecture
    from fuse_flows.generators.gn.graphs import Batch

Tensor = Any


class Network:
    """The weights of a network, and what it makes of a batch.

    Parameters
    ----------
    architecture
        Its sizes.
    seed
        Of the first weights.
    """

    def __init__(self, architecture: Architecture, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.architecture = architecture
        n1, n2, n3 = architecture.units
        self._named: list[tuple[str, Any]] = []
        embedding = self._rng.uniform(-0.5, 0.5, (architecture.elements, architecture.embedding)).astype(np.float32)
        self.embedding = self._add("embedding", tf.Variable(embedding))
        inputs = {"atom": architecture.embedding, "bond": architecture.centres, "state": architecture.state}
        self.pre: list[dict[str, list[Any]]] = []
        self.blocks: list[MergedBlock] = []
        for k in range(architecture.blocks):
            self.pre.append({part: self._stack(f"pre{k}_{part}", (inputs[part], n1, n2)) for part in inputs})
            inputs = dict.fromkeys(inputs, n2)
            units = [n1, n1, n2]
            options = {"activation": "softplus2", "kernel_initializer": "zeros", "name": f"block{k}"}
            block = MergedBlock(units, units, units, **options)
            block.build([(1, None, n2)] * 3)
            for part in ("v", "e", "u"):
                kernels, biases = getattr(block, f"phi_{part}_weights"), getattr(block, f"phi_{part}_biases")
                for depth, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
                    kernel.assign(self._glorot(*kernel.shape))
                    self._add(f"block{k}_{part}_kernel{depth}", kernel)
                    self._add(f"block{k}_{part}_bias{depth}", bias)
            self.blocks.append(block)
        self.readers: dict[str, MergedSet2Set] = {}
        for part in ("atom", "bond"):
            options = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros", "name": f"read_{part}"}
            reader = MergedSet2Set(T=architecture.passes, n_hidden=n3, **options)
            reader.build([(1, None, n2), (1, None)])
            reader.m_weight.assign(self._glorot(n2, n3))
            turn, _ = np.linalg.qr(self._rng.normal(size=(4 * n3, 2 * n3)))
            reader.recurrent_kernel.assign(turn.T)
            for weight in ("m_weight", "m_bias", "recurrent_kernel", "recurrent_bias"):
                self._add(f"read_{part}_{weight}", getattr(reader, weight))
            self.readers[part] = reader
        self.last = self._stack("last", (4 * n3 + n2, n2, n3, 1))
        spacing = architecture.furthest / (architecture.centres - 1)
        self.centres = tf.constant(spacing * np.arange(architecture.centres), tf.float32)

    def _glorot(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Return first values of a kernel (uniform as of Glorot and Bengio, AISTATS 2010)."""
        reach = float(np.sqrt(6.0 / (rows + columns)))
        return self._rng.uniform(-reach, reach, (rows, columns)).astype(np.float32)

    def _add(self, name: str, variable: Any) -> Any:
        self._named.append((name, variable))
        return variable

    def _stack(self, name: str, sizes: Sequence[int]) -> list[Any]:
        """Make kernels and biases of dense layers, in turns."""
        made = []
        for depth, (rows, columns) in enumerate(pairwise(sizes)):
            made.append(self._add(f"{name}_kernel{depth}", tf.Variable(self._glorot(rows, columns))))
            made.append(self._add(f"{name}_bias{depth}", tf.Variable(tf.zeros(columns))))
        return made

    @property
    def variables(self) -> list[Any]:
        """All variables, in a fixed order."""
        return [variable for _, variable in self._named]

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return all weights by name."""
        return {name: variable.numpy() for name, variable in self._named}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all weights by name."""
        return {name: tuple(variable.shape) for name, variable in self._named}

    def set_weights(self, weights: dict[str, NDArray[np.float32]]) -> None:
        """Replace all weights.

        Parameters
        ----------
        weights
            By name, of the right shapes.
        """
        for name, variable in self._named:
            variable.assign(weights[name])

    def __call__(self, batch: Batch) -> Tensor:
        """Return one number per graph, shape (graphs,)."""
        size = batch.size
        nodes = tf.gather(self.embedding, batch.elements)
        edges = tf.exp(-tf.square((batch.lengths[:, None] - self.centres) / self.architecture.width))
        state = tf.zeros((size, self.architecture.state))
        for k, (pre, block) in enumerate(zip(self.pre, self.blocks, strict=True)):
            before = nodes, edges, state
            inner = _activated(nodes, pre["atom"]), _activated(edges, pre["bond"]), _activated(state, pre["state"])
            by_length = None
            if k == 0:  # here an edge is nothing but its length, and its short cut begins behind the dense layers
                by_length = inner[1]
                before = inner = inner[0], tf.gather(by_length, batch.kinds), inner[2]
            outer = block.update(*inner, batch, by_length=by_length)
            nodes, edges, state = (a + b for a, b in zip(before, outer, strict=True))
        read = [
            self.readers["atom"].read(nodes, batch.node_share, batch.node_graph, size),
            self.readers["bond"].read(edges, batch.edge_weight, batch.edge_graph, size),
            state,
        ]
        out = _activated(tf.concat(read, -1), self.last[:-2])
        return (tf.matmul(out, self.last[-2]) + self.last[-1])[:, 0]


def _activated(x: Tensor, stack: Sequence[Any]) -> Tensor:
    """Apply dense layers, each with its activation."""
    for kernel, bias in zip(stack[::2], stack[1::2], strict=True):
        x = softplus2(tf.matmul(x, kernel) + bias)
    return x
