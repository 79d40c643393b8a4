"""Drives the compiled L-BFGS with an engine that is called from Python: where to compute next, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

    from fuse_flows.relax.cell import CellOptimizable

#: Longest step of an atom, and of sqrt(n) A times the strain, A.
CAP = 0.35
#: Steps after which the springs are drawn anew.
REFRESH = 3
#: Energies per atom that differ by less are equal, eV: single precision of a machine-learned potential.
NOISE = 2e-6
#: The same for plane waves up to a fixed energy: each cell has a basis of its own, and energies contradict the stress
#: (by 1 GPa, or 0.5 meV/atom for a percent of the volume, in MgO at 700 eV). Forces and stress are then to be followed.
BASIS_NOISE = 1e-3


def strain_scale(n_atoms: int) -> float:
    """Return the length that stands for a strain of one: with it strain is as stiff as a bond whatever the cell.

    Parameters
    ----------
    n_atoms
        Number of atoms; the elastic energy grows with it.

    Returns
    -------
    float
        In A.
    """
    return float(np.sqrt(n_atoms))


def warm_up() -> None:
    """Compile, or load from the cache, what a :class:`Descent` calls, so that no relaxation pays for it."""
    from fuse_flows.relax import lbfgs
    from fuse_flows.relax.springs import guess_inverse

    x = np.zeros(12)
    memory = lbfgs.with_guess(lbfgs.new_memory(x.size, lbfgs.MEMORY, CAP, NOISE, 1.0))
    lbfgs.start(memory, x)
    guess_inverse(x, 3.0 * np.eye(3), 1.0, np.ones(1), memory.inverse)
    lbfgs.tell(memory, 0.0, np.ones(x.size))
    lbfgs.refuse(memory)


class Descent:
    """Minimisation of a crystal's energy, one trial geometry after the other.

    Parameters
    ----------
    crystal
        Moved to each trial geometry; made with ``scale=strain_scale(len(atoms))``.
    atoms
        Its atoms, as they are at the start.
    noise
        Energies per atom that differ by less are equal, eV.
    """

    def __init__(self, crystal: CellOptimizable, atoms: Atoms, noise: float = NOISE) -> None:
        from ase.data import covalent_radii

        from fuse_flows.relax import lbfgs

        self.crystal = crystal
        self._cell = atoms.cell.array.copy()
        self._scale = strain_scale(len(atoms))
        self._radii = covalent_radii[atoms.numbers].astype(float)
        self._memory = lbfgs.with_guess(lbfgs.new_memory(crystal.ndofs(), lbfgs.MEMORY, CAP, noise * len(atoms), 1.0))
        self._accepted = 0
        lbfgs.start(self._memory, crystal.get_x())

    def tell(self, energy: float, gradient: np.ndarray) -> bool:
        """Take the numbers of the present geometry and move the crystal to the next one.

        Parameters
        ----------
        energy, gradient
            Energy (eV) and gradient (eV/A) of the crystal; finite.

        Returns
        -------
        bool
            Whether the geometry they belong to is the new best guess; if not, the step that led there was too long.
        """
        from fuse_flows.relax import lbfgs
        from fuse_flows.relax.springs import guess_inverse

        memory = self._memory
        if self._accepted % REFRESH == 0:
            guess_inverse(memory.trial, self._cell, self._scale, self._radii, memory.inverse)
        accepted = bool(lbfgs.tell(memory, energy, np.ascontiguousarray(gradient)) == lbfgs.ACCEPTED)
        self._accepted += accepted
        self.crystal.set_x(memory.trial)
        return accepted

    def refuse(self) -> bool:
        """Discard the present geometry, for which there are no numbers, and move the crystal to one nearer by.

        Returns
        -------
        bool
            False if there is none: even the smallest steps were refused.
        """
        from fuse_flows.relax import lbfgs

        if lbfgs.refuse(self._memory) == lbfgs.STUCK:
            return False
        self.crystal.set_x(self._memory.trial)
        return True
