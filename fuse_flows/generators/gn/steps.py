"""One step of training, compiled: gradients of the loss, AdamW, and a running mean of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.generators.gn.backend import tf
from fuse_flows.generators.gn.graphs import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fuse_flows.generators.gn.network import Network
    from fuse_flows.generators.gn.packing import Room

_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Rules:
    """How weights follow gradients.

    Attributes
    ----------
    decay
        Weight decay of the kernels, per unit of learning rate (Loshchilov and Hutter, arXiv:1711.05101).
    clip
        Longest gradient, all weights together.
    knee
        The loss is quadratic below this error and linear above it, in standard deviations of the targets (Huber).
    memory
        Share that the running mean of the weights keeps in each step.
    graphs
        The loss is the sum over a batch divided by this.
    """

    decay: float = 0.01
    clip: float = 3.0
    knee: float = 0.02
    memory: float = 0.999
    graphs: float = 64.0


class Optimiser:
    """AdamW with a running mean of the weights, and the compiled step that moves them.

    Parameters
    ----------
    network
        Whose weights are trained.
    rules
        How.
    room
        Shape of the batches.
    compiled
        Compile with XLA: half a minute at the beginning, and a third less time afterwards.
    """

    def __init__(self, network: Network, rules: Rules, room: Room, *, compiled: bool = True) -> None:
        self.network = network
        self.rules = rules
        self.steps = tf.Variable(0.0)
        self.means = [tf.Variable(variable) for variable in network.variables]
        self.first = [tf.Variable(tf.zeros_like(variable)) for variable in network.variables]
        self.second = [tf.Variable(tf.zeros_like(variable)) for variable in network.variables]
        self._step: Callable[..., Any] = tf.function(self._moved(room.graphs), jit_compile=compiled)

    def step(self, batch: Batch, targets: NDArray[np.float32], weights: NDArray[np.float32], rate: float) -> Any:
        """Make one step.

        Parameters
        ----------
        batch
            As of :func:`~fuse_flows.generators.gn.packing.filled`.
        targets, weights
            One per graph of the batch, shape (graphs,); weight 0 where it was filled up.
        rate
            Learning rate.

        Returns
        -------
        Tensor
            The loss.
        """
        return self._step(tuple(batch)[:-1], targets, weights, tf.constant(rate, tf.float32))

    def _moved(self, graphs: int) -> Callable[..., Any]:
        rules, network = self.rules, self.network

        def move(arrays: Any, targets: Any, weights: Any, rate: Any) -> Any:
            with tf.GradientTape() as tape:
                errors = tf.abs(network(Batch(*(*arrays, np.int32(graphs)))) - targets)
                inner = 0.5 * tf.square(errors) / rules.knee
                losses = tf.where(errors < rules.knee, inner, errors - 0.5 * rules.knee)
                loss = tf.reduce_sum(losses * weights) / rules.graphs
            gradients = [tf.convert_to_tensor(part) for part in tape.gradient(loss, network.variables)]
            gradients, _ = tf.clip_by_global_norm(gradients, rules.clip)
            self.steps.assign_add(1.0)
            slow = tf.sqrt(1.0 - tf.pow(_SECOND, self.steps)) / (1.0 - tf.pow(_FIRST, self.steps))
            keep = tf.minimum(rules.memory, self.steps / (self.steps + 10.0))
            columns = network.variables, gradients, self.first, self.second, self.means
            for variable, gradient, first, second, mean in zip(*columns, strict=True):
                first.assign(_FIRST * first + (1.0 - _FIRST) * gradient)
                second.assign(_SECOND * second + (1.0 - _SECOND) * tf.square(gradient))
                change = slow * first / (tf.sqrt(second) + _TINY)
                if len(variable.shape) > 1:
                    change += rules.decay * variable
                variable.assign_sub(rate * change)
                mean.assign(keep * mean + (1.0 - keep) * variable)
            return loss

        return move

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return everything that decides how training goes on, by name."""
        state = {"steps": self.steps.numpy()}
        for kind, variables in self._columns().items():
            names = self.network.shapes()
            state |= {f"{kind}/{name}": part.numpy() for name, part in zip(names, variables, strict=True)}
        return state

    def set_state(self, state: dict[str, NDArray[np.float32]]) -> None:
        """Go back to a state.

        Parameters
        ----------
        state
            As of :meth:`state`.
        """
        self.steps.assign(state["steps"])
        for kind, variables in self._columns().items():
            for name, part in zip(self.network.shapes(), variables, strict=True):
                part.assign(state[f"{kind}/{name}"])

    def _columns(self) -> dict[str, list[Any]]:
        return {
            "weights": self.network.variables,
            "means": self.means,
            "first": self.first,
            "second": self.second,
        }

    def mean_weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the running mean of the weights, by name: what is evaluated and kept."""
        return {name: part.numpy() for name, part in zip(self.network.shapes(), self.means, strict=True)}
