"""Positions and cell as one vector for ASE's optimisers: the logarithm of the strain beside the atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.utils.abc import Optimizable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms


class Numbers(NamedTuple):
    """What a calculator says about one structure.

    Parameters
    ----------
    energy
        Total energy, eV.
    forces
        (n, 3) forces, eV/A.
    stress
        (3, 3) stress, eV/A^3; None if the calculator has none and it is not needed.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


class CellOptimizable(Optimizable):
    """Degrees of freedom of a crystal, as :class:`ase.filters.FrechetCellFilter` has them, without rotations.

    The vector holds the positions in the undeformed cell and s A, with s a length and A (3, 3) the
    logarithm of the symmetric stretch U that takes the undeformed cell to the present one: cell = cell_0 U. The
    gradient with respect to A is exact (Daleckii-Krein formula on the eigenvectors of A) and costs a tenth of the
    general matrix logarithm, which matters for cheap potentials.

    Parameters
    ----------
    atoms
        Atoms with a calculator; moved in place.
    relax_cell
        False keeps the cell fixed; the calculator then needs no stress.
    scale
        Length s that stands for a strain of one, A; the number of atoms if not given.
    pressure
        GPa; the value is the enthalpy E + p V.
    """

    def __init__(
        self, atoms: Atoms, *, relax_cell: bool = True, scale: float | None = None, pressure: float = 0.0
    ) -> None:
        from ase.units import GPa

        self.pressure = pressure * GPa
        self.atoms = atoms
        self.relax_cell = relax_cell
        self._cell = atoms.cell.array.copy()
        self._scale = float(len(atoms)) if scale is None else scale
        self._x = np.concatenate([atoms.positions.ravel(), np.zeros(9 if relax_cell else 0)])
        self._values = np.zeros(3)
        self._vectors = np.eye(3)
        self._numbers: Numbers | None = None

    @property
    def is_computed(self) -> bool:
        """Whether the calculator was asked for the present structure already."""
        return self._numbers is not None

    def numbers(self) -> Numbers:
        """Return energy, forces and stress of the present structure; computed once for each.

        Raises
        ------
        PropertyNotImplementedError
            If the cell is relaxed and the calculator gives no stress.
        """
        if self._numbers is None:
            forces = self.atoms.get_forces()
            energy = float(self.atoms.get_potential_energy())
            try:
                stress = self.atoms.get_stress(voigt=False)
            except NotImplementedError:
                if self.relax_cell:
                    raise
                stress = None
            self._numbers = Numbers(energy, forces, stress)
        return self._numbers

    def know(self, numbers: Numbers) -> None:
        """Take the numbers of the present structure from outside, in place of the calculator's."""
        self._numbers = numbers

    def geometry(self) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of the cell (3, 3), A, and of the fractional coordinates (n, 3), not wrapped."""
        cell = self.atoms.cell.array.copy()
        return cell, np.linalg.solve(cell.T, self.atoms.positions.T).T

    @property
    def _stretch(self) -> np.ndarray:
        return (self._vectors * np.exp(self._values)) @ self._vectors.T

    def ndofs(self) -> int:
        """Return the length of the vector."""
        return self._x.size

    def get_x(self) -> np.ndarray:
        """Return a copy of the vector."""
        return self._x.copy()

    def set_x(self, x: np.ndarray) -> None:
        """Move the atoms and the cell to a new vector."""
        x = np.array(x, dtype=float)
        self._numbers = None
        if not self.relax_cell:
            self._x = x
            self.atoms.positions = x.reshape(-1, 3)
            return
        strain = x[-9:].reshape(3, 3)
        strain = 0.5 * (strain + strain.T)
        x[-9:] = strain.ravel()
        self._x = x
        self._values, self._vectors = np.linalg.eigh(strain / self._scale)
        stretch = self._stretch
        self.atoms.set_cell(self._cell @ stretch)
        self.atoms.positions = x[:-9].reshape(-1, 3) @ stretch

    def get_value(self) -> float:
        """Return the energy, eV; with a pressure the enthalpy."""
        energy = self.numbers().energy
        return energy + self.pressure * self.atoms.get_volume() if self.pressure else energy

    def get_gradient(self) -> np.ndarray:
        """Return the gradient of :meth:`get_value` with respect to the vector."""
        _, forces, stress = self.numbers()
        if stress is None or not self.relax_cell:
            return -forces.ravel()
        if self.pressure:
            stress = stress + self.pressure * np.eye(3)
        stretch = self._stretch
        to_strain = self.atoms.get_volume() * stress
        to_stretch = np.linalg.solve(stretch, to_strain)
        to_stretch = 0.5 * (to_stretch + to_stretch.T)
        to_log = _chain_through_exponential(self._values, self._vectors, to_stretch)
        return np.concatenate([-(forces @ stretch).ravel(), to_log.ravel() / self._scale])

    def iterimages(self) -> Iterator[Atoms]:
        """Return the atoms, for trajectories."""
        return iter([self.atoms])


def _chain_through_exponential(values: np.ndarray, vectors: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Gradient with respect to A from the symmetric gradient with respect to exp(A), A = vectors values vectors^T.

    Parameters
    ----------
    values, vectors
        Eigenvalues (3,) and eigenvectors (3, 3) of A.
    gradient
        (3, 3) gradient with respect to exp(A).

    Returns
    -------
    np.ndarray
        (3, 3) gradient with respect to A.
    """
    half = 0.5 * (values[:, None] - values[None, :])
    mean = np.exp(0.5 * (values[:, None] + values[None, :]))
    small = np.abs(half) < 1e-6
    safe = np.where(small, 1.0, half)
    factor = mean * np.where(small, 1.0 + half**2 / 6.0, np.sinh(safe) / safe)
    return vectors @ (factor * (vectors.T @ gradient @ vectors)) @ vectors.T
