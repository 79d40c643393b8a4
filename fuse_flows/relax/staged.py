"""What engines share whose relaxations go in stages and may be spread over several jobs: VASP and GPAW."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from fuse_flows.relax.base import Part
from fuse_flows.relax.guards import Verdict, check_geometry
from fuse_flows.relax.result import Outcome, RelaxResult, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure

    from fuse_flows.config import SearchConfig, TierConfig


@dataclass(frozen=True)
class Progress:
    """Where a relaxation stands between two jobs.

    Parameters
    ----------
    stage
        The stage that comes next, from 0.
    steps_of_stage
        Steps of it that an interrupted job has made already.
    structure
        Where it goes on; None to begin at the beginning.
    steps, seconds
        Steps and wall time so far.
    corrections
        What went wrong in the engine and was mended, with the number of the stage.
    interruptions
        Jobs that ended for want of time.
    """

    stage: int = 0
    steps_of_stage: int = 0
    structure: Structure | None = None
    steps: int = 0
    seconds: float = 0.0
    corrections: tuple[str, ...] = ()
    interruptions: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        structure = None if self.structure is None else self.structure.as_dict(verbosity=0)
        return {**self.__dict__, "structure": structure, "corrections": list(self.corrections)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        from pymatgen.core import Structure

        structure = None if values["structure"] is None else Structure.from_dict(values["structure"])
        return cls(**{**values, "structure": structure, "corrections": tuple(values["corrections"])})

    def counted(self, steps: int, corrections: tuple[str, ...] | list[str]) -> Self:
        """Return it with the steps of a run of the present stage, and with what was mended in it."""
        told = (f"stage {self.stage + 1}: {text}" for text in corrections)
        return replace(self, steps=self.steps + steps, corrections=(*self.corrections, *told))

    def put_down(self, structure: Structure, seconds: float, *, interrupted: bool) -> Self:
        """Return it as a job leaves it that has come to a structure and took so many seconds."""
        interruptions = self.interruptions + interrupted
        return replace(self, structure=structure, seconds=self.seconds + seconds, interruptions=interruptions)


class StageNumbers(Protocol):
    """What the end of a stage says in numbers; None where it has none."""

    @property
    def energy(self) -> float | None:
        """Total energy, eV."""

    @property
    def fmax(self) -> float | None:
        """Largest norm of a force, eV/A."""

    @property
    def smax(self) -> float | None:
        """Largest component of the stress, counted from the pressure, GPa."""


class StagedRelaxer(ABC):
    """A tier whose relaxations go in stages (a :class:`~fuse_flows.relax.base.PartwiseRelaxer`).

    Parameters
    ----------
    tier
        The tier.
    """

    engine: ClassVar[str]
    """Name of the calculator."""

    def __init__(self, tier: TierConfig) -> None:
        self.tier = tier
        self._version = ""

    @property
    def name(self) -> str:
        """Name of the calculator, as in the configuration."""
        return self.engine

    @property
    def version(self) -> str:
        """Version of the engine; empty before it has run."""
        return self._version

    def relax(self, structure: Structure) -> RelaxResult:
        """Relax a structure without a limit of time; see :meth:`fuse_flows.relax.base.Relaxer.relax`."""
        result = self.advance(structure, None, Path.cwd()).result
        assert result is not None  # noqa: S101 - without a limit it comes to its end
        return result

    def advance(
        self,
        structure: Structure,
        progress: dict[str, Any] | None,
        place: Path,
        *,
        seconds_left: float | None = None,
        one_stage: bool = False,
    ) -> Part:
        """Go on with a relaxation; see :meth:`fuse_flows.relax.base.PartwiseRelaxer.advance`.

        Raises
        ------
        ConfigError
            If this machine is not set up for the engine: no fault of the structure.
        """
        run = self.prepared(structure, seconds_left)
        folder = Path(tempfile.mkdtemp(prefix=f"{self.engine}_", dir=place))
        try:
            part = run(progress, folder, 1 if one_stage else None)
        except Exception as error:
            if self.is_of_machine(error):
                raise
            reason = one_line(f"{type(error).__name__}: {error}")
            failed = RelaxResult(Outcome.ENGINE_ERROR, structure.copy(), reason=reason, engine=self.engine)
            part = Part(failed, None, None)
        if part.result is None:
            return part
        self._version = part.result.engine_version or self._version
        return replace(part, result=replace(part.result, pressure=self.tier.gigapascals))

    @abstractmethod
    def prepared(
        self, structure: Structure, seconds_left: float | None
    ) -> Callable[[dict[str, Any] | None, Path, int | None], Part]:
        """Check that the machine is set up, and return what goes on with a relaxation.

        Parameters
        ----------
        structure
            The structure as the tier got it.
        seconds_left
            Seconds until the job must have ended; None without a limit.

        Returns
        -------
        callable
            Of the progress so far, a folder of its own and the most stages to run.
        """

    @staticmethod
    @abstractmethod
    def is_of_machine(error: Exception) -> bool:
        """Tell whether an error is of the machine, not of the structure."""


def out_of_time(progress: Progress, tier: TierConfig) -> Verdict | None:
    """Return the verdict on a relaxation that never has enough time; None if it may go on in another job."""
    if progress.interruptions <= tier.queue_settings.max_requeues:
        return None
    reason = f"time was over in {progress.interruptions} jobs, in stage {progress.stage + 1}"
    return Verdict(Outcome.TIMED_OUT, reason)


def guarded(current: Structure, reference: Structure, tier: TierConfig) -> Verdict | None:
    """Return why a relaxation must not go on from a structure; None if it may."""
    return check_geometry(tier, None, current.lattice.matrix, current.frac_coords, reference.lattice.matrix)


def result_of(
    structure: Structure,
    verdict: Verdict,
    progress: Progress,
    end: StageNumbers | None,
    *,
    engine: str,
    version: str,
    has_energy: bool,
) -> RelaxResult:
    """Return the result of a relaxation that has come to its end.

    Parameters
    ----------
    structure
        What it came to.
    verdict
        How it ended.
    progress
        Where it stood then.
    end
        The last stage that was run in this job; None if none was.
    engine, version
        Name of the calculator, and version of what is behind it.
    has_energy
        Whether the energy of that stage is one to be trusted.

    Returns
    -------
    RelaxResult
        Without the pressure, which :meth:`StagedRelaxer.advance` adds.
    """
    return RelaxResult(
        outcome=verdict.outcome,
        structure=structure,
        energy=end.energy if has_energy and end is not None else None,
        fmax=None if end is None else end.fmax,
        smax=None if end is None else end.smax,
        steps=progress.steps,
        seconds=progress.seconds,
        reason=verdict.reason,
        engine=engine,
        engine_version=version,
        corrections=progress.corrections,
    )


def with_options(search: SearchConfig, engine: str, options: Callable[[TierConfig], dict[str, Any]]) -> SearchConfig:
    """Write the options of an engine's tiers out, so that its stages stand in the configuration and the identity.

    Parameters
    ----------
    search
        A configuration.
    engine
        Name of the calculator.
    options
        Returns the complete ``calculator_kwargs`` of a tier, as plain values.

    Returns
    -------
    SearchConfig
        Other tiers are as they were.
    """
    tiers = [
        tier.model_copy(update={"calculator_kwargs": options(tier)}) if tier.calculator.lower() == engine else tier
        for tier in search.tiers
    ]
    return search.model_copy(update={"tiers": tuple(tiers)})
