"""Sizes of the network, and the names and shapes of its weights; free of TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Architecture:
    """Sizes of a network; the defaults are those of MEGNet (Chen et al., Chem. Mater. 31, 3564 (2019)).

    Attributes
    ----------
    cutoff
        Longest edge, A.
    centres, furthest, width
        Number of Gaussians, the centre of the last one and their width, A.
    elements
        Atomic numbers below this have an embedding.
    embedding
        Numbers per element.
    blocks
        MEGNet blocks.
    units
        Outputs of the layers of each small network: first and second one, third one, last one of the readout.
    passes
        Steps of Set2Set.
    state
        Length of the (zero) state that every graph begins with.
    """

    cutoff: float = 5.0
    centres: int = 100
    furthest: float = 6.0
    width: float = 0.5
    elements: int = 95
    embedding: int = 16
    blocks: int = 3
    units: tuple[int, int, int] = (64, 32, 16)
    passes: int = 3
    state: int = 2

    @classmethod
    def of(cls, sizes: Mapping[str, Any]) -> Architecture:
        """Return the architecture with these sizes, as read from JSON."""
        return cls(**{**sizes, "units": tuple(sizes["units"])})

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of all weights, in the order of the network's variables."""
        n1, n2, n3 = self.units
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.elements, self.embedding)}

        def stack(name: str, *sizes: int) -> None:
            for depth, (rows, columns) in enumerate(pairwise(sizes)):
                shapes[f"{name}_kernel{depth}"] = (rows, columns)
                shapes[f"{name}_bias{depth}"] = (columns,)

        inputs = {"atom": self.embedding, "bond": self.centres, "state": self.state}
        for k in range(self.blocks):
            for part, size in inputs.items():
                stack(f"pre{k}_{part}", size, n1, n2)
            inputs = dict.fromkeys(inputs, n2)
            for part, size in {"v": 3 * n2, "e": 4 * n2, "u": 3 * n2}.items():
                stack(f"block{k}_{part}", size, n1, n1, n2)
        for part in ("atom", "bond"):
            shapes[f"read_{part}_m_weight"] = (n2, n3)
            shapes[f"read_{part}_m_bias"] = (n3,)
            shapes[f"read_{part}_recurrent_kernel"] = (2 * n3, 4 * n3)
            shapes[f"read_{part}_recurrent_bias"] = (4 * n3,)
        stack("last", 4 * n3 + n2, n2, n3, 1)
        return shapes
