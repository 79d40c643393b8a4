"""One stage of a relaxation with GPAW: our L-BFGS here, the numbers from the process of GPAW."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.relax.course import Course, State
from fuse_flows.relax.descent import BASIS_NOISE
from fuse_flows.relax.gpaw.options import gpaw_parameters, rescued
from fuse_flows.relax.gpaw.process import EngineDiedError, EngineTimeoutError
from fuse_flows.relax.guards import Verdict
from fuse_flows.relax.result import Outcome, one_line

if TYPE_CHECKING:
    from ase import Atoms

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.cell import Numbers
    from fuse_flows.relax.gpaw.options import GpawOptions, GpawStage
    from fuse_flows.relax.gpaw.process import Clock, Engine

#: How often the last stage may begin anew in the basis of the cell that it came to.
MAX_BASES = 5
_FOR_EVER = 1e12


@dataclass
class StageEnd:
    """How a stage ended.

    Parameters
    ----------
    state
        Last good geometry with its numbers; None if there is none.
    verdict
        What ended it; None if time was over.
    energy
        Total energy of ``state`` for a smearing of width zero, eV; of the last stage only.
    steps
        Steps that were made.
    corrections
        What went wrong with the electrons and was mended.
    record
        What was done, as plain values.
    """

    state: State | None = None
    verdict: Verdict | None = None
    energy: float | None = None
    steps: int = 0
    corrections: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def fmax(self) -> float | None:
        """Largest norm of a force of ``state``, eV/A."""
        return None if self.state is None else self.state.fmax

    @property
    def smax(self) -> float | None:
        """Largest component of the stress of ``state``, counted from the pressure, GPa."""
        return None if self.state is None else self.state.smax


class _StopError(Exception):
    """A verdict on its way up; None if time was over."""

    def __init__(self, verdict: Verdict | None) -> None:
        self.verdict = verdict
        super().__init__(str(verdict))


class StageRun:
    """Runs one stage.

    Parameters
    ----------
    engine
        A process of GPAW.
    options, stage
        The tier's options, and the stage, complete.
    tier
        The tier, for its guards and ``relax_cell``.
    clock
        The time that is left.
    """

    def __init__(self, engine: Engine, options: GpawOptions, stage: GpawStage, tier: TierConfig, clock: Clock) -> None:
        self._engine, self._clock, self._options, self._stage = engine, clock, options, stage
        limits = {"fmax": stage.fmax, "smax": stage.smax, "time_limit": _FOR_EVER, "stop_above_best": None}
        self._tier = tier.model_copy(update=limits)
        self._parameters: dict[str, Any] = {}
        self._is_rescued = False
        self._answer: dict[str, Any] = {}
        self._calls = 0

    def relax(self, atoms: Atoms, *, made: int = 0, is_last: bool) -> StageEnd:
        """Relax.

        The k-points are those of the cell with which a calculation begins. The last stage begins anew, from scratch,
        where it came to its end, until nothing is left to be done: its energy then belongs to the last geometry, in
        its basis and with its k-points, and depends on nothing that was before.

        Parameters
        ----------
        atoms
            The crystal; moved in place.
        made
            Steps of this stage that an earlier job has made.
        is_last
            Whether the energy counts.

        Returns
        -------
        StageEnd
            The end. Steps made do not include those of the earlier job.
        """
        start, end = time.monotonic(), StageEnd()
        allowed = max(0, (self._stage.max_steps or 0) - made)
        try:
            for number in range(1, MAX_BASES + 1):
                left = 0 if number == MAX_BASES else allowed - end.steps
                steps = self._from_scratch(atoms, end, max(0, left))
                if not is_last or steps == 0:
                    break
        except _StopError as stop:
            end.verdict = stop.verdict
        if is_last and end.verdict is not None and end.verdict.outcome.has_energy:
            end.energy = self._answer.get("energy")
        end.record = self._record(end, time.monotonic() - start)
        return end

    def _from_scratch(self, atoms: Atoms, end: StageEnd, max_steps: int) -> int:
        """Relax in the basis of the present cell; return the steps that were made."""
        self._begin(gpaw_parameters(self._options, self._stage, atoms.cell.array))
        tier = self._tier.model_copy(update={"max_steps": max_steps})
        course = Course(tier, None, atoms, began=time.monotonic(), noise=BASIS_NOISE)
        before = end.steps
        while course.seek():
            try:
                course.take(self._numbers(atoms, end))
            finally:
                _keep(course, end, before)
        _keep(course, end, before)
        assert course.end is not None  # noqa: S101 - seek says so
        end.verdict = course.end.verdict
        if course.end.state is not None:
            _move(atoms, course.end.state)
        return course.end.steps

    def _begin(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._is_rescued = False
        self._ask({"do": "begin", "parameters": parameters})

    def _numbers(self, atoms: Atoms, end: StageEnd) -> Numbers:
        """Compute; where the electrons do not converge, try a second time with other settings, from scratch."""
        from fuse_flows.relax.cell import Numbers

        if self._clock.is_over():
            raise _StopError(None)
        request = {
            "do": "compute",
            "numbers": atoms.numbers.tolist(),
            "cell": atoms.cell.array.tolist(),
            "positions": atoms.positions.tolist(),
            "magmoms": [self._options.magmoms.get(symbol, 0.0) for symbol in atoms.symbols],
            "stress": self._tier.relax_cell,
        }
        answer = self._ask(request)
        other = rescued(self._parameters, self._options)
        if answer.get("failure") == "electronic" and other is not None and not self._is_rescued:
            end.corrections.append("electrons not converged: second try with calculator_kwargs.rescue")
            self._is_rescued = True
            self._ask({"do": "begin", "parameters": other})
            answer = self._ask(request)
        if "failure" in answer:
            electronic = answer["failure"] == "electronic"
            outcome = Outcome.ELECTRONIC_FAILURE if electronic else Outcome.ENGINE_ERROR
            reason = f"electrons not converged ({answer['reason']})" if electronic else answer["reason"]
            raise _StopError(Verdict(outcome, one_line(reason)))
        self._answer, self._calls = answer, self._calls + 1
        stress = None if answer["stress"] is None else np.array(answer["stress"])
        return Numbers(answer["free_energy"], np.array(answer["forces"]), stress)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._engine.ask(request, self._clock.left())
        except EngineTimeoutError:
            raise _StopError(None) from None
        except EngineDiedError as error:
            raise _StopError(Verdict(Outcome.ENGINE_ERROR, one_line(str(error)))) from None

    def _record(self, end: StageEnd, seconds: float) -> dict[str, Any]:
        return {
            "parameters": self._parameters,
            "steps": end.steps,
            "calls": self._calls,
            "outcome": None if end.verdict is None else end.verdict.outcome.value,
            "energy": end.energy,
            "fmax": None if end.state is None else end.state.fmax,
            "smax": None if end.state is None else end.state.smax,
            "magmoms": self._answer.get("magmoms"),
            "corrections": list(end.corrections),
            "seconds": seconds,
        }


def _keep(course: Course, end: StageEnd, before: int) -> None:
    """Note how far a course has come, whatever becomes of it."""
    end.state = course.state or end.state
    end.steps = before + course.steps


def _move(atoms: Atoms, state: State) -> None:
    atoms.set_cell(state.cell)
    atoms.set_scaled_positions(state.frac_coords)
