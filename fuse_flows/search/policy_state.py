"""What a walker has learnt about the moves, as its state keeps it; how it learns stands in ``policy.py``."""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fuse_flows.config import MoveName

LARGEST = 5.0
"""Scaled energies and rewards are cut at this many standard deviations."""


class Record(BaseModel):
    """Part of a state: frozen, and nothing else may be in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunningStatistics(Record):
    """Mean and variance of a series that is not kept (Welford's recurrence)."""

    count: int = Field(0, description="Values so far.")
    mean: float = 0.0
    variance: float = Field(0.0, description="Of the population.")

    def with_value(self, value: float, window: int) -> RunningStatistics:
        """Return the statistics after one more value.

        Parameters
        ----------
        value
            The value.
        window
            Up to this many values all count alike; from then on older ones fade with this time constant.

        Returns
        -------
        RunningStatistics
            A new object.
        """
        weight = 1 / min(self.count + 1, window)
        difference = value - self.mean
        variance = (1 - weight) * (self.variance + weight * difference**2)
        return RunningStatistics(count=self.count + 1, mean=self.mean + weight * difference, variance=variance)

    def scaled(self, value: float) -> float:
        """Return a value in standard deviations from the mean, cut at :data:`LARGEST`."""
        deviation = math.sqrt(self.variance)
        return float(np.clip((value - self.mean) / (deviation if deviation > 0 else 1), -LARGEST, LARGEST))


class PolicyState(Record):
    """What a walker has learnt about the moves: below 5 kB, JSON-able."""

    preferences: dict[MoveName, tuple[float, float]] = Field(
        default_factory=dict, description="Slope with the scaled energy, and offset, of each move; zero if absent."
    )
    energies: tuple[float, ...] = Field((), description="The newest energies, each once, eV/atom, oldest first.")
    rewards: RunningStatistics = Field(RunningStatistics(), description="Rewards before they are scaled.")

    def scaled(self, energy: float) -> float:
        """Return an energy in standard deviations from the mean of those kept, cut at :data:`LARGEST`; 0 if unknown.

        Parameters
        ----------
        energy
            eV/atom.

        Returns
        -------
        float
            The feature z that the policy depends on.
        """
        if len(self.energies) < 2:
            return 0.0
        return float(np.clip((energy - np.mean(self.energies)) / self.deviation, -LARGEST, LARGEST))

    @property
    def deviation(self) -> float:
        """Standard deviation of the energies kept, eV/atom; 1 as long as there are less than two."""
        return float(np.std(self.energies)) if len(self.energies) > 1 else 1.0

    @property
    def high_energy(self) -> float:
        """Mean of the highest tenth of the energies kept, at least of one, eV/atom."""
        return float(np.mean(sorted(self.energies)[-max(1, len(self.energies) // 10) :]))

    def with_energy(self, energy: float, window: int) -> PolicyState:
        """Return the state with one more energy (eV/atom) unless it is kept already; the oldest gives way."""
        if energy in self.energies:
            return self
        return self.model_copy(update={"energies": (*self.energies, energy)[-window:]})
