"""What every optimiser does: asked for candidates in batches, told how good they were, stopped and continued."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Box(NamedTuple):
    """The box [0, 1)^dimensions in which an optimiser searches.

    Attributes
    ----------
    dimensions
        Entries of a vector.
    choices
        Into how many equal parts, without order, the first entry is divided; 1 where it is a number like the others.
    structured
        Entries at the beginning that decide what the others mean (space group and Wyckoff combination: 2).
    """

    dimensions: int
    choices: int = 1
    structured: int = 0


class Asked(NamedTuple):
    """Candidates that an optimiser wants to know about.

    Attributes
    ----------
    tickets
        What the optimiser knows each by, to be told with the loss, shape (n,).
    vectors
        The candidates, shape (n, dimensions).
    """

    tickets: NDArray[np.int64]
    vectors: NDArray[np.float64]


class Optimiser(ABC):
    """An optimiser of functions on a box.

    Every draw comes from a stream of its own, named by the seed and the number of draws before, so the state holds no
    state of a random generator, and a run that was stopped after any batch goes on as if it had not been.

    Parameters
    ----------
    box
        Where to search.
    seed
        Seed of all draws; a sequence of integers counts as one seed.
    """

    name: str

    def __init__(self, box: Box, seed: int | tuple[int, ...]) -> None:
        self.box = box
        self._seed = seed
        self._draws = 0

    @abstractmethod
    def ask(self, n: int) -> Asked:
        """Return the next candidates.

        Parameters
        ----------
        n
            How many are wanted.

        Returns
        -------
        Asked
            At most ``n`` and at least one of them, unless the optimiser waits to be told about all it may ask.
        """

    @abstractmethod
    def tell(self, asked: Asked, losses: NDArray[np.float64]) -> None:
        """Take in how good candidates were.

        Parameters
        ----------
        asked
            Candidates that were asked for, in any order and division.
        losses
            What is to be lowered, shape (n,); infinity for candidates that were refused.
        """

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`restore` needs, as JSON knows it."""
        return {"name": self.name, "draws": self._draws, **self._own_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state of an optimiser of the same name, box and seed.

        Raises
        ------
        ValueError
            If the state is that of another optimiser.
        """
        if state.get("name") != self.name:
            raise ValueError(f"this is the state of {state.get('name')}, not of {self.name}")
        self._draws = int(state["draws"])
        self._restore_own(state)

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _restore_own(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`_own_state` returned."""
        del state

    def _rng(self) -> np.random.Generator:
        """Return the generator of the next draw."""
        sequence = np.random.SeedSequence(self._seed, spawn_key=(self._draws,))
        self._draws += 1
        return np.random.default_rng(sequence)
