"""A tier that relaxes with an ASE calculator and an ASE optimiser, with guards before, during and after."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fuse_flows.relax.calculators import cutoff as cutoff_of
from fuse_flows.relax.calculators import engine_version, make_calculator
from fuse_flows.relax.guards import (
    Verdict,
    check_contacts,
    check_geometry,
    check_isolated,
    check_numbers,
    out_of_steps,
    out_of_time,
    residual_of,
)
from fuse_flows.relax.result import Outcome, RelaxResult, one_line, with_geometry

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.cell import CellOptimizable, Numbers


class _State(NamedTuple):
    """A geometry with the numbers that belong to it."""

    numbers: Numbers
    cell: np.ndarray
    frac_coords: np.ndarray

    @property
    def fmax(self) -> float:
        """Largest norm of a force, eV/A."""
        return float(np.linalg.norm(self.numbers.forces, axis=1).max())

    @property
    def smax(self) -> float | None:
        """Largest component of the stress, GPa."""
        from ase.units import GPa

        stress = self.numbers.stress
        return None if stress is None else float(np.abs(stress).max() / GPa)


@dataclass
class _End:
    """What the loop hands back: the verdict, the last good state and the steps made."""

    verdict: Verdict
    state: _State | None
    steps: int


class AseRelaxer:
    """Relaxation with any ASE calculator.

    Converged means that no force on an atom exceeds ``tier.fmax`` and, when the cell is relaxed, no component of the
    stress exceeds ``tier.smax``; both are the true ones, not those of a cell filter.

    Parameters
    ----------
    tier
        The calculator, the optimiser and the limits.
    calculator
        An ASE calculator to use in place of the one that the tier names.

    Raises
    ------
    ConfigError
        If the tier's calculator is unknown or does not accept its keywords.
    MissingExtraError
        If its package is not installed.
    """

    def __init__(self, tier: TierConfig, calculator: Any = None) -> None:
        self.tier = tier
        self.calculator = make_calculator(tier) if calculator is None else calculator
        self.cutoff = cutoff_of(self.calculator)
        self._version = engine_version(self.calculator)
        if tier.optimizer == "L-BFGS":
            from fuse_flows.relax.descent import warm_up

            warm_up()

    @property
    def name(self) -> str:
        """Name of the calculator, as in the configuration."""
        return self.tier.calculator

    @property
    def version(self) -> str:
        """Version of the package behind the calculator; empty if unknown."""
        return self._version

    def relax(self, structure: Structure) -> RelaxResult:
        """Relax a structure; see :meth:`fuse_flows.relax.base.Relaxer.relax`.

        The same input gives the same result to the last bit in the same environment: the calculator forgets what it
        computed before. Energies are kept only for ``CONVERGED``, ``NOT_CONVERGED`` and ``TIMED_OUT``.

        Parameters
        ----------
        structure
            Ordered, periodic structure; it is not changed.

        Returns
        -------
        RelaxResult
            The end of the relaxation.
        """
        start = time.monotonic()
        try:
            end = self._run(structure, start)
        except Exception as error:  # noqa: BLE001 - engines raise anything; every failure is a result with a reason
            end = _End(Verdict(Outcome.ENGINE_ERROR, _one_line(error)), None, 0)
        return self._result(structure, end, time.monotonic() - start)

    def _run(self, structure: Structure, start: float) -> _End:
        cell, frac_coords = structure.lattice.matrix, structure.frac_coords
        verdict = check_contacts(self.tier, cell, frac_coords) or check_isolated(self.cutoff, cell, frac_coords)
        if verdict is not None:
            return _End(verdict, None, 0)
        atoms = _to_atoms(structure)
        if hasattr(self.calculator, "reset"):
            self.calculator.reset()
        atoms.calc = self.calculator
        return self._descend(atoms, start) if self.tier.optimizer == "L-BFGS" else self._loop(atoms, start)

    def _descend(self, atoms: Atoms, start: float) -> _End:
        """Minimise with our own L-BFGS; every call of the engine after the first is a step."""
        from fuse_flows.relax.cell import CellOptimizable
        from fuse_flows.relax.descent import Descent, strain_scale

        steps, state = 0, None
        reference = atoms.cell.array.copy()
        crystal = CellOptimizable(atoms, relax_cell=self.tier.relax_cell, scale=strain_scale(len(atoms)))
        descent = Descent(crystal, atoms)
        while True:
            try:
                verdict, last = self._look(crystal, reference)
                called = crystal.is_computed
                if last is not None:
                    accepted = descent.tell(last.numbers.energy, crystal.get_gradient())
                    state = last if accepted or state is None else state
                    verdict = None
                elif state is not None and descent.refuse():  # a step too far is shortened until it is very small
                    verdict = None
                if verdict is None and state is not None:
                    verdict = self._decide(state, steps, time.monotonic() - start)
            except Exception as error:  # noqa: BLE001 - keeps the last good structure; see relax
                return _End(self._explain(error, crystal, reference), state, steps)
            if verdict is not None:
                return _End(verdict, state, steps)
            steps += called

    def _loop(self, atoms: Atoms, start: float) -> _End:
        """Step until something ends the relaxation."""
        from fuse_flows.relax.cell import CellOptimizable

        tier, steps, state = self.tier, 0, None
        reference = atoms.cell.array.copy()
        crystal = CellOptimizable(atoms, relax_cell=tier.relax_cell)
        stepper = _Stepper(tier.optimizer, crystal)
        while True:
            try:
                verdict, last = self._look(crystal, reference)
                state = last or state
                if last is not None and verdict is None:
                    verdict = self._decide(last, steps, time.monotonic() - start)
                if verdict is not None:
                    return _End(verdict, state, steps)
                stepper.step()
            except Exception as error:  # noqa: BLE001 - keeps the last good structure; see relax
                return _End(self._explain(error, crystal, reference), state, steps)
            steps += 1

    def _look(self, crystal: CellOptimizable, reference: np.ndarray) -> tuple[Verdict | None, _State | None]:
        """Judge the geometry, compute, judge the numbers."""
        cell, frac_coords = crystal.geometry()
        verdict = check_geometry(self.tier, self.cutoff, cell, frac_coords, reference)
        if verdict is not None:
            return verdict, None
        numbers = crystal.numbers()
        verdict = check_numbers(*numbers)
        return verdict, None if verdict else _State(numbers, cell, frac_coords)

    def _decide(self, state: _State, steps: int, seconds: float) -> Verdict | None:
        """Converged, at a limit, or None to go on."""
        tier, fmax, smax = self.tier, state.fmax, state.smax
        if fmax <= tier.fmax and (not tier.relax_cell or smax is None or smax <= tier.smax):
            return Verdict(Outcome.CONVERGED, "")
        if steps >= tier.max_steps:
            return out_of_steps(residual_of(tier, fmax, smax), steps)
        if seconds > tier.time_limit:
            return out_of_time(residual_of(tier, fmax, smax), seconds)
        return None

    def _explain(self, error: Exception, crystal: CellOptimizable, reference: np.ndarray) -> Verdict:
        """Find the cause of an exception: a structure that went astray inside a step, or the engine."""
        from ase.calculators.calculator import PropertyNotImplementedError

        if isinstance(error, PropertyNotImplementedError) and self.tier.relax_cell:
            return Verdict(Outcome.ENGINE_ERROR, f"{self.name} gives no stress; set tiers.relax_cell to false")
        with contextlib.suppress(np.linalg.LinAlgError):
            verdict = check_geometry(self.tier, self.cutoff, *crystal.geometry(), reference)
            if verdict is not None:
                return verdict
        return Verdict(Outcome.ENGINE_ERROR, _one_line(error))

    def _result(self, structure: Structure, end: _End, seconds: float) -> RelaxResult:
        state, outcome = end.state, end.verdict.outcome
        trusted = state is not None and outcome.has_energy
        return RelaxResult(
            outcome=outcome,
            structure=structure.copy() if state is None else with_geometry(structure, state.cell, state.frac_coords),
            energy=state.numbers.energy if state is not None and trusted else None,
            fmax=None if state is None else state.fmax,
            smax=None if state is None else state.smax,
            steps=end.steps,
            seconds=seconds,
            reason=end.verdict.reason,
            engine=self.name,
            engine_version=self.version,
        )


class _Stepper:
    """One of ASE's optimisers, without log, trajectory and its own test of convergence."""

    def __init__(self, name: str, crystal: CellOptimizable) -> None:
        self.name = name
        self.crystal = crystal
        self.optimizer = self._new()

    def _new(self) -> Any:
        from ase import optimize

        return getattr(optimize, self.name)(self.crystal, logfile=None)

    def step(self) -> None:
        """Make one step; a line search that leads uphill starts again with an optimiser that remembers nothing."""
        if self.name != "BFGSLineSearch":
            self.optimizer.step()
            return
        x = self.crystal.get_x()
        with contextlib.redirect_stdout(io.StringIO()):  # it prints remarks of its own
            try:
                self.optimizer.step()
            except RuntimeError as error:
                if "LineSearch failed" not in str(error):
                    raise
                self.crystal.set_x(x)
                self.optimizer = self._new()
                self.optimizer.step()


def _to_atoms(structure: Structure) -> Atoms:
    """Atoms in the order of the sites, periodic in all directions."""
    from ase import Atoms

    if not structure.is_ordered:
        raise ValueError("the structure has partly occupied sites")
    numbers = [site.specie.Z for site in structure]
    return Atoms(numbers=numbers, cell=structure.lattice.matrix, scaled_positions=structure.frac_coords, pbc=True)


def _one_line(error: Exception) -> str:
    """Class and message of an exception on one line."""
    return one_line(f"{type(error).__name__}: {error}")
