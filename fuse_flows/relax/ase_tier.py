"""A tier that relaxes with an ASE calculator and an ASE optimiser, with guards before, during and after."""

from __future__ import annotations

import contextlib
import io
import time
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.ase_programs import noise_of
from fuse_flows.relax.calculators import cutoff as cutoff_of
from fuse_flows.relax.calculators import engine_version, make_calculator
from fuse_flows.relax.course import Course, End, State, decide, explain
from fuse_flows.relax.guards import Verdict, check_contacts, check_geometry, check_isolated, check_numbers
from fuse_flows.relax.result import Outcome, RelaxResult, one_line, with_geometry
from fuse_flows.relax.screening import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from ase import Atoms
    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.cell import CellOptimizable


class AseRelaxer:
    """Relaxation with any ASE calculator.

    Converged means that no force on an atom exceeds ``tier.fmax`` and, when the cell is relaxed, no component of the
    stress is farther than ``tier.smax`` from the tier's pressure; both are the true ones, not those of a cell filter.

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
        self._has_twins = calculator is None  # other processes can make the same one
        self.cutoff = cutoff_of(self.calculator)
        self._noise = noise_of(self.calculator)
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

    def relax(self, structure: Structure, reference: float | None = None) -> RelaxResult:
        """Relax a structure; see :meth:`fuse_flows.relax.base.Relaxer.relax`.

        The same input gives the same result to the last bit in the same environment: the calculator forgets what it
        computed before. Energies are kept only for outcomes with :attr:`.Outcome.has_energy`.

        Parameters
        ----------
        structure
            Ordered, periodic structure; it is not changed.
        reference
            Energy of the best candidate in this tier, eV/atom, for ``tier.stop_above_best``.

        Returns
        -------
        RelaxResult
            The end of the relaxation.
        """
        start = time.monotonic()
        try:
            end = self._run(structure, start, reference)
        except Exception as error:  # noqa: BLE001 - engines raise anything; every failure is a result with a reason
            end = _failure(error)
        return self.result(structure, end, time.monotonic() - start)

    def relax_batch(
        self, structures: Sequence[Structure], workers: int | None = None, reference: float | None = None
    ) -> list[RelaxResult]:
        """Relax many structures: together on a GPU, in several processes otherwise.

        On a CPU each result is that of :meth:`relax` to the last bit, whatever the number of processes: batches of
        graphs gain little there. On a GPU sums come in no certain order, and results agree as those of two runs do.

        Parameters
        ----------
        structures
            Ordered, periodic structures; they are not changed.
        workers
            Processes; None: ``FUSE_FLOWS_RELAX_WORKERS``. A calculator that was handed over as an object works alone.
        reference
            As for :meth:`relax`.

        Returns
        -------
        list of RelaxResult
            In the order of the structures.
        """
        from fuse_flows.settings import settings

        workers = settings().relax_workers if workers is None else workers
        if len(structures) > 1 and self.tier.optimizer == "L-BFGS" and self.calculator_runs_on_gpu:
            from fuse_flows.relax.batches import relax_together

            return relax_together(self, structures, reference=reference)
        if len(structures) > 1 and workers > 1 and self._has_twins:
            from fuse_flows.relax.processes import relax_in_processes

            return relax_in_processes(self, structures, workers, reference=reference)
        return [self.relax(structure, reference) for structure in structures]

    @property
    def calculator_runs_on_gpu(self) -> bool:
        """Whether the calculator can compute many structures at once, and on a GPU."""
        device = str(getattr(self.calculator, "device", ""))
        return hasattr(self.calculator, "compute_many") and device.startswith("cuda")

    def course_of(self, structure: Structure, start: float, reference: float | None = None) -> Course | End:
        """Begin to relax a structure with our L-BFGS.

        Parameters
        ----------
        structure
            Ordered, periodic structure; it is not changed.
        start
            ``time.monotonic()`` at the start.
        reference
            As for :meth:`relax`.

        Returns
        -------
        Course or End
            The end if the structure is refused as it is.
        """
        try:
            atoms = self._checked(structure)
            if isinstance(atoms, End):
                return atoms
            return self._course(atoms, start, reference)
        except Exception as error:  # noqa: BLE001 - see relax
            return _failure(error)

    def _course(self, atoms: Atoms, start: float, reference: float | None) -> Course:
        return Course(self.tier, self.cutoff, atoms, began=start, reference=reference, noise=self._noise)

    def _checked(self, structure: Structure) -> Atoms | End:
        """Return the atoms, or the end if the guards refuse them."""
        cell, frac_coords = structure.lattice.matrix, structure.frac_coords
        verdict = check_contacts(self.tier, cell, frac_coords) or check_isolated(self.cutoff, cell, frac_coords)
        return to_atoms(structure) if verdict is None else End(verdict, None, 0)

    def _run(self, structure: Structure, start: float, reference: float | None) -> End:
        atoms = self._checked(structure)
        if isinstance(atoms, End):
            return atoms
        if hasattr(self.calculator, "reset"):
            self.calculator.reset()
        atoms.calc = self.calculator
        if self.tier.optimizer == "L-BFGS":
            return _descend(self._course(atoms, start, reference))
        return self._loop(atoms, start, Watch(self.tier, reference, len(atoms)))

    def _loop(self, atoms: Atoms, start: float, watch: Watch) -> End:
        """Step with an optimiser of ASE until something ends the relaxation."""
        from fuse_flows.relax.cell import CellOptimizable

        tier, steps, state = self.tier, 0, None
        reference = atoms.cell.array.copy()
        crystal = CellOptimizable(atoms, relax_cell=tier.relax_cell, pressure=tier.gigapascals)
        stepper = _Stepper(tier.optimizer, crystal)
        while True:
            try:
                verdict, last = self._look(crystal, reference)
                state = last or state
                if last is not None and verdict is None:
                    verdict = decide(tier, last, steps, time.monotonic() - start) or watch.look(last.enthalpy)
                if verdict is not None:
                    return End(verdict, state, steps)
                stepper.step()
            except Exception as error:  # noqa: BLE001 - keeps the last good structure; see relax
                return End(explain(error, tier, self.cutoff, crystal, reference), state, steps)
            steps += 1

    def _look(self, crystal: CellOptimizable, reference: np.ndarray) -> tuple[Verdict | None, State | None]:
        """Judge the geometry, compute, judge the numbers."""
        cell, frac_coords = crystal.geometry()
        verdict = check_geometry(self.tier, self.cutoff, cell, frac_coords, reference)
        if verdict is not None:
            return verdict, None
        numbers = crystal.numbers()
        verdict = check_numbers(*numbers)
        return verdict, None if verdict else State(numbers, cell, frac_coords, crystal.pressure)

    def result(self, structure: Structure, end: End, seconds: float) -> RelaxResult:
        """Return the end of a relaxation of a structure that took so many seconds."""
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
            pressure=self.tier.gigapascals,
        )


def _descend(course: Course) -> End:
    """Minimise with our own L-BFGS; every call of the engine after the first is a step."""
    while course.end is None:
        try:
            if course.seek():
                course.take(course.crystal.numbers())
        except Exception as error:  # noqa: BLE001 - keeps the last good structure; see AseRelaxer.relax
            course.fail(error)
    return course.end


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


def to_atoms(structure: Structure) -> Atoms:
    """Return atoms in the order of the sites, periodic in all directions."""
    import numpy as np
    from ase import Atoms

    if not structure.is_ordered:
        raise ValueError("the structure has partly occupied sites")
    numbers = [site.specie.Z for site in structure]
    cell = np.ascontiguousarray(structure.lattice.matrix)  # may be a transposed view: other bits
    return Atoms(numbers=numbers, cell=cell, scaled_positions=structure.frac_coords, pbc=True)


def _failure(error: Exception) -> End:
    """Return the end of a relaxation that did not even begin."""
    return End(Verdict(Outcome.ENGINE_ERROR, one_line(f"{type(error).__name__}: {error}")), None, 0)
