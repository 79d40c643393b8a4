"""A tier that relaxes with GULP (Gale and Rohl, Mol. Simul. 2003, 29, 291), in stages, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.gulp import read_gulp_library, write_gulp_library
from fuse_flows.relax.guards import Verdict, check_contacts, check_geometry
from fuse_flows.relax.gulp_files import (
    NO_LOWER_POINT,
    OUT_OF_TIME,
    POTENTIALS,
    RESTART,
    Output,
    parse_output,
    parse_restart,
    write_input,
)
from fuse_flows.relax.gulp_stages import GulpOptions, GulpStage, parse_options, preset
from fuse_flows.relax.result import Outcome, RelaxResult, with_geometry, work_of
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig


def find_gulp() -> list[str]:
    """Find GULP on this machine.

    Returns
    -------
    list of str
        The command with its arguments; it reads its input from stdin and writes its output to stdout.

    Raises
    ------
    ConfigError
        If there is none; the message says what does the same without it.
    """
    command = shlex.split(settings().gulp or "gulp")
    program = shutil.which(command[0]) if command else None
    if program is None:
        where = f"FUSE_FLOWS_GULP={settings().gulp!r} is no program" if settings().gulp else "no gulp is on the PATH"
        msg = f"{where}; set FUSE_FLOWS_GULP to the program, or use calculator spp, which does the same without GULP"
        raise ConfigError("tiers.calculator", msg)
    return [program, *command[1:]]


def check_gulp(tier: TierConfig, elements: Iterable[str]) -> None:
    """Check a GULP tier before anything is submitted.

    Parameters
    ----------
    tier
        Its ``calculator_kwargs`` are checked, and the library is read.
    elements
        Symbols of the elements of the search.

    Raises
    ------
    ConfigError
        If GULP is not found, a keyword is refused, or a pair is missing in the library.
    """
    options = parse_options(tier.calculator_kwargs)
    find_gulp()
    if options.library is not None:
        read_gulp_library(options.library, elements)


@dataclass(frozen=True)
class _State:
    """A geometry with the energy that belongs to it."""

    lattice: np.ndarray
    frac_coords: np.ndarray
    energy: float


@dataclass
class _Run:
    """What the stages have come to so far."""

    state: _State | None = None
    steps: int = 0
    version: str = ""
    optimisation: Output | None = None


class _Stop(Exception):  # noqa: N818 - a verdict on its way up, not an error
    def __init__(self, outcome: Outcome, reason: str) -> None:
        self.verdict = Verdict(outcome, reason)
        super().__init__(reason)


class GulpRelaxer:
    """Relaxation with the program GULP.

    Converged means that the last stage that optimises says "Optimisation achieved"; later single points do not hide
    that it did not. If no stage optimises, nothing is asked to converge. The energy is that of the structure it is
    stored with, both from the last stage that ended. GULP's own optimisers and tolerances count: of the tier, ``fmax``,
    ``smax``, ``max_steps`` and ``optimizer`` do not (``max_steps`` 0 asks for a single point).

    Parameters
    ----------
    tier
        Its ``calculator_kwargs`` (see :func:`fuse_flows.relax.gulp_stages.parse_options`), ``relax_cell``,
        ``time_limit`` for all stages together, and guards.

    Raises
    ------
    ConfigError
        If GULP is not found or a keyword is refused.
    """

    def __init__(self, tier: TierConfig) -> None:
        self.tier = tier
        self.options: GulpOptions = parse_options(tier.calculator_kwargs)
        self.command = find_gulp()
        single = preset("single", charges=self.options.include is not None)
        stages = self.options.stages if tier.max_steps else single
        self.stages = tuple(stage.with_cell(relax=tier.relax_cell) for stage in stages)
        self._version = ""

    @property
    def name(self) -> str:
        """Name of the calculator, as in the configuration."""
        return self.tier.calculator

    @property
    def version(self) -> str:
        """Version of GULP; empty before it has run."""
        return self._version

    def relax(self, structure: Structure) -> RelaxResult:
        """Relax a structure; see :meth:`fuse_flows.relax.base.Relaxer.relax`.

        Each call works in a folder of its own, which is gone afterwards, and ends the processes it started.

        Parameters
        ----------
        structure
            Ordered, periodic structure; it is not changed.

        Returns
        -------
        RelaxResult
            The end of the relaxation; ``fmax`` and ``smax`` are None, for GULP tells the norm of the gradient only.
        """
        start, run = time.monotonic(), _Run()
        try:
            verdict = self._stages(structure, run, start + self.tier.time_limit)
        except _Stop as stop:
            verdict = stop.verdict
        except Exception as error:  # noqa: BLE001 - every failure is a result with a reason
            text = " ".join(f"{type(error).__name__}: {error}".split())
            verdict = Verdict(Outcome.ENGINE_ERROR, text[:200])
        self._version = run.version or self._version
        return self._result(structure, run, verdict, time.monotonic() - start)

    def _stages(self, structure: Structure, run: _Run, deadline: float) -> Verdict:
        """Run all stages; the verdict of the last one that optimises."""
        if not structure.is_ordered:
            raise ValueError("the structure has partly occupied sites")
        lattice, frac_coords = structure.lattice.matrix, structure.frac_coords
        verdict = check_contacts(self.tier, lattice, frac_coords)
        if verdict is not None:
            return verdict
        symbols = [site.specie.symbol for site in structure]
        with tempfile.TemporaryDirectory(prefix="fuse_gulp_") as name:
            folder = Path(name)
            lines = self._write_potentials(folder, symbols)
            if self.tier.gigapascals:
                lines = [*lines, f"pressure {self.tier.gigapascals:.10g} GPa"]
            for stage in self.stages:
                text = write_input(stage, lattice, frac_coords, symbols, lines)
                output = self._stage(folder, stage, text, run, deadline)
                if stage.optimises:
                    lattice, frac_coords = _read_restart(folder / RESTART, symbols)
                verdict = check_geometry(self.tier, None, lattice, frac_coords, structure.lattice.matrix)
                if verdict is not None:
                    return verdict
                run.state = _State(lattice, frac_coords, self._energy(output, lattice))
        return self._judge(run)

    def _energy(self, output: Output, lattice: np.ndarray) -> float:
        """Return the energy without p V, which GULP adds with a pressure."""
        assert output.energy is not None  # noqa: S101 - _stage sees to it
        if not output.is_enthalpy:
            return output.energy
        return output.energy - work_of(self.tier.gigapascals, abs(float(np.linalg.det(lattice))))

    def _write_potentials(self, folder: Path, symbols: Sequence[str]) -> list[str]:
        """Lay the potentials of these elements down; return the lines that go with them."""
        if self.options.include is not None:
            shutil.copyfile(self.options.include, folder / POTENTIALS)
            return []
        assert self.options.library is not None  # noqa: S101 - parse_options sees to it
        r, values = read_gulp_library(self.options.library, symbols)
        write_gulp_library(folder / POTENTIALS, r, values)
        return [f"cutp {r[-1]:.6f} {self.options.taper:.6f}"] if self.options.taper else []

    def _stage(self, folder: Path, stage: GulpStage, text: str, run: _Run, deadline: float) -> Output:
        """Run one stage and return what it says, with an energy."""
        (folder / RESTART).unlink(missing_ok=True)  # what is there afterwards is of this stage
        code, printed = self._execute(folder, text, deadline)
        output = parse_output(printed)
        run.version = output.version or run.version
        run.steps += output.cycles
        if stage.optimises:
            run.optimisation = output
            if output.ending == OUT_OF_TIME:
                raise _Stop(Outcome.TIMED_OUT, "GULP's own limit of time")
        if not output.is_gulp:
            raise _Stop(Outcome.ENGINE_ERROR, f"{self.command[0]} is not the General Utility Lattice Program")
        if output.overflow:
            raise _Stop(Outcome.EXPLODED, "energy too large to be printed")
        if output.energy is None or not np.isfinite(output.energy) or code != 0:
            raise _Stop(Outcome.ENGINE_ERROR, (output.error or f"no energy, exit code {code}")[:200])
        return output

    def _execute(self, folder: Path, text: str, deadline: float) -> tuple[int, str]:
        """Run GULP in a group of processes of its own, which does not outlive this call."""
        (folder / "gulp.gin").write_text(text, encoding="utf-8")
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise _Stop(Outcome.TIMED_OUT, f"{self.tier.time_limit:g} s over before the next stage")
        with (
            (folder / "gulp.gin").open("rb") as stdin,
            (folder / "gulp.got").open("wb") as stdout,
            subprocess.Popen(  # noqa: S603 - the command is the user's own setting
                self.command, stdin=stdin, stdout=stdout, stderr=stdout, cwd=folder, start_new_session=True
            ) as process,
        ):
            try:
                code = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                raise _Stop(Outcome.TIMED_OUT, f"stopped after {self.tier.time_limit:g} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        return code, (folder / "gulp.got").read_text(errors="replace")

    def _judge(self, run: _Run) -> Verdict:
        """Decide whether the last optimisation reached a minimum."""
        last = run.optimisation
        if last is None or last.achieved:
            return Verdict(Outcome.CONVERGED, "")
        if last.ending == NO_LOWER_POINT and last.gnorm is not None and last.gnorm < self.options.accept_gnorm:
            return Verdict(Outcome.CONVERGED, "")
        gnorm = "" if last.gnorm is None else f", gradient norm {last.gnorm:.3g}"
        return Verdict(Outcome.NOT_CONVERGED, (last.ending or "optimisation not achieved") + gnorm)

    def _result(self, structure: Structure, run: _Run, verdict: Verdict, seconds: float) -> RelaxResult:
        state = run.state
        return RelaxResult(
            outcome=verdict.outcome,
            structure=structure.copy() if state is None else with_geometry(structure, state.lattice, state.frac_coords),
            energy=state.energy if state is not None and verdict.outcome.has_energy else None,
            steps=run.steps,
            seconds=seconds,
            reason=verdict.reason,
            engine=self.name,
            engine_version=self.version,
            pressure=self.tier.gigapascals,
        )


def _read_restart(path: Path, symbols: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read the structure that a stage ended with."""
    if not path.exists():
        raise _Stop(Outcome.ENGINE_ERROR, f"GULP wrote no {path.name}")
    return parse_restart(path.read_text(errors="replace"), symbols)
