"""What composition alone says of the formation energy; the network learns the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Baseline:
    """Energy = ``composition @ slopes + mean + std * (what the network says)``.

    Attributes
    ----------
    slopes
        eV/atom per atomic number, shape (119,); zeros where a model has no such part.
    mean, std
        Of what is left on the training crystals, eV/atom.
    """

    slopes: NDArray[np.float64]
    mean: float = 0.0
    std: float = 1.0

    def targets(self, composition: NDArray[np.float32], energies: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the network has to learn, shape (n,)."""
        return ((energies - composition @ self.slopes - self.mean) / self.std).astype(np.float32)

    def energies(self, composition: NDArray[np.float32], outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return formation energies in eV/atom from what the network says, shape (n,)."""
        return np.asarray(composition @ self.slopes + self.mean + self.std * outputs.astype(np.float64))


def fit_baseline(composition: NDArray[np.float32], energies: NDArray[np.float32], *, ridge: float = 1.0) -> Baseline:
    """Fit the composition's part by ridge regression.

    Parameters
    ----------
    composition
        Fractions of the atomic numbers, shape (n, 119).
    energies
        Formation energies, eV/atom, shape (n,).
    ridge
        Penalty on the squares of the slopes, in crystals.
    """
    x = composition.astype(np.float64)
    matrix = x.T @ x + ridge * np.eye(x.shape[1])
    slopes = np.linalg.solve(matrix, x.T @ energies.astype(np.float64))
    rest = energies - x @ slopes
    return Baseline(np.asarray(slopes, dtype=np.float64), float(rest.mean()), float(max(rest.std(), 1e-6)))
