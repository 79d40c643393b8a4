"""The course of one relaxation with our L-BFGS: which geometry is wanted next, and how it ended.

Whoever holds an engine asks :meth:`Course.seek`, computes, and answers with :meth:`Course.take`; one engine may serve
many courses at once. The guards look at every geometry before the engine sees it, and at every answer.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fuse_flows.relax.guards import Verdict, check_geometry, check_numbers, out_of_steps, out_of_time, residual_of
from fuse_flows.relax.result import Outcome, one_line
from fuse_flows.relax.screening import Watch

if TYPE_CHECKING:
    from ase import Atoms

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.cell import CellOptimizable, Numbers


class State(NamedTuple):
    """A geometry with the numbers that belong to it."""

    numbers: Numbers
    cell: np.ndarray
    frac_coords: np.ndarray
    pressure: float = 0.0  # eV/A^3

    @property
    def enthalpy(self) -> float:
        """Energy, and p V with a pressure, eV."""
        energy = self.numbers.energy
        return energy + self.pressure * abs(float(np.linalg.det(self.cell))) if self.pressure else energy

    @property
    def fmax(self) -> float:
        """Largest norm of a force, eV/A."""
        return float(np.linalg.norm(self.numbers.forces, axis=1).max())

    @property
    def smax(self) -> float | None:
        """Largest component of the stress, counted from the pressure, GPa."""
        from ase.units import GPa

        stress = self.numbers.stress
        if stress is not None and self.pressure:
            stress = stress + self.pressure * np.eye(3)
        return None if stress is None else float(np.abs(stress).max() / GPa)


@dataclass
class End:
    """How a relaxation ended: the verdict, the last good state and the steps made."""

    verdict: Verdict
    state: State | None
    steps: int


class Course:
    """A relaxation with our L-BFGS that is told numbers from outside.

    Parameters
    ----------
    tier
        Limits and guards.
    cutoff
        Radius beyond which the engine sees no neighbour, A; None if it does not tell.
    atoms
        The crystal at the start; moved in place.
    began
        ``time.monotonic()`` at the start of the relaxation.
    reference
        Enthalpy of the best candidate in this tier, eV/atom, for ``tier.stop_above_best``.
    noise
        Energies per atom that differ by less are equal, eV; None: those of :data:`.descent.NOISE`.
    """

    def __init__(
        self,
        tier: TierConfig,
        cutoff: float | None,
        atoms: Atoms,
        *,
        began: float,
        reference: float | None = None,
        noise: float | None = None,
    ) -> None:
        from fuse_flows.relax.cell import CellOptimizable
        from fuse_flows.relax.descent import NOISE, Descent, strain_scale

        self.tier = tier
        self.end: End | None = None
        self.crystal = CellOptimizable(
            atoms, relax_cell=tier.relax_cell, scale=strain_scale(len(atoms)), pressure=tier.gigapascals
        )
        self._cutoff = cutoff
        self._began = began
        self._cell = atoms.cell.array.copy()
        self._descent = Descent(self.crystal, atoms, NOISE if noise is None else noise)
        self._watch = Watch(tier, reference, len(atoms))
        self._state: State | None = None
        self._steps = 0

    def seek(self) -> bool:
        """Go on to a geometry that may be computed.

        A step into a bad geometry is shortened until it is very small.

        Returns
        -------
        bool
            Whether the numbers of ``crystal`` are wanted; False if the relaxation has ended.
        """
        while self.end is None:
            verdict = check_geometry(self.tier, self._cutoff, *self.crystal.geometry(), self._cell)
            if verdict is None:
                return True
            self._turn_back(verdict)
        return False

    def take(self, numbers: Numbers) -> None:
        """Take the numbers of the present geometry, which is the one that :meth:`seek` went to.

        Parameters
        ----------
        numbers
            From the engine.
        """
        self.crystal.know(numbers)
        verdict = check_numbers(*numbers)
        if verdict is not None:
            self._turn_back(verdict)
        else:
            now = State(numbers, *self.crystal.geometry(), self.crystal.pressure)
            accepted = self._descent.tell(self.crystal.get_value(), self.crystal.get_gradient())
            self._state = now if accepted or self._state is None else self._state
            self._decide()
        self._steps += self.end is None

    def fail(self, error: Exception) -> None:
        """End with an exception: its cause is a structure that went astray, or the engine.

        Parameters
        ----------
        error
            What the engine raised.
        """
        verdict = explain(error, self.tier, self._cutoff, self.crystal, self._cell)
        self.end = End(verdict, self._state, self._steps)

    @property
    def state(self) -> State | None:
        """The last good state; None if there is none yet."""
        return self._state

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self._steps

    def _turn_back(self, verdict: Verdict) -> None:
        """Try a geometry nearer to the last good one; end where there is none."""
        if self._state is None or not self._descent.refuse():
            self.end = End(verdict, self._state, self._steps)
        else:
            self._decide()

    def _decide(self) -> None:
        """End if the last good state is the minimum, hopeless, or at a limit."""
        state = self._state
        if state is None:
            return
        verdict = decide(self.tier, state, self._steps, time.monotonic() - self._began)
        verdict = verdict or self._watch.look(state.enthalpy)
        if verdict is not None:
            self.end = End(verdict, state, self._steps)


def decide(tier: TierConfig, state: State, steps: int, seconds: float) -> Verdict | None:
    """Say whether a relaxation is at its end.

    Parameters
    ----------
    tier
        The limits.
    state
        Where it stands.
    steps, seconds
        What it took.

    Returns
    -------
    Verdict or None
        ``CONVERGED``, ``NOT_CONVERGED`` or ``TIMED_OUT``, or None to go on.
    """
    fmax, smax = state.fmax, state.smax
    if fmax <= tier.fmax and (not tier.relax_cell or smax is None or smax <= tier.smax):
        return Verdict(Outcome.CONVERGED, "")
    if steps >= tier.max_steps:
        return out_of_steps(residual_of(tier, fmax, smax), steps)
    if seconds > tier.time_limit:
        return out_of_time(residual_of(tier, fmax, smax), seconds)
    return None


def explain(
    error: Exception, tier: TierConfig, cutoff: float | None, crystal: CellOptimizable, reference: np.ndarray
) -> Verdict:
    """Find the cause of an exception: a structure that went astray inside a step, or the engine.

    Parameters
    ----------
    error
        The exception.
    tier, cutoff, reference
        As for :func:`.check_geometry`.
    crystal
        Where the relaxation stood.

    Returns
    -------
    Verdict
        That of the guards if they object, else ``ENGINE_ERROR``.
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    if isinstance(error, PropertyNotImplementedError) and tier.relax_cell:
        return Verdict(Outcome.ENGINE_ERROR, f"{tier.calculator} gives no stress; set tiers.relax_cell to false")
    with contextlib.suppress(np.linalg.LinAlgError):
        verdict = check_geometry(tier, cutoff, *crystal.geometry(), reference)
        if verdict is not None:
            return verdict
    return Verdict(Outcome.ENGINE_ERROR, one_line(f"{type(error).__name__}: {error}"))
