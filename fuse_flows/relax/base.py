"""The one interface of all tiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from fuse_flows.relax.result import RelaxResult


@runtime_checkable
class Relaxer(Protocol):
    """Anything that relaxes a structure and reports how that ended."""

    @property
    def name(self) -> str:
        """Name of the engine, as in the configuration."""
        ...

    @property
    def version(self) -> str:
        """Version of the package behind the engine; empty if unknown."""
        ...

    def relax(self, structure: Structure) -> RelaxResult:
        """Relax a structure; a failure is a result with an outcome and a reason, never an exception.

        Parameters
        ----------
        structure
            Ordered, periodic structure; it is not changed.

        Returns
        -------
        RelaxResult
            The end of the relaxation.
        """
        ...


@runtime_checkable
class BatchRelaxer(Relaxer, Protocol):
    """A relaxer that is faster with many structures at once."""

    def relax_batch(self, structures: Sequence[Structure]) -> list[RelaxResult]:
        """Relax many structures, each as :meth:`Relaxer.relax` would.

        Parameters
        ----------
        structures
            Ordered, periodic structures; they are not changed.

        Returns
        -------
        list of RelaxResult
            In the order of the structures.
        """
        ...


@dataclass(frozen=True)
class Part:
    """What one job made of a relaxation that may take several jobs.

    Parameters
    ----------
    result
        The end of the relaxation; None if it has to go on.
    progress
        What the next job begins with, as plain values; None at the end.
    document
        The engine's own document of this part, as plain values.
    """

    result: RelaxResult | None
    progress: dict[str, Any] | None
    document: dict[str, Any] | None


@runtime_checkable
class PartwiseRelaxer(Relaxer, Protocol):
    """A tier whose relaxations may be spread over several jobs."""

    def advance(
        self,
        structure: Structure,
        progress: dict[str, Any] | None,
        place: Path,
        *,
        seconds_left: float | None = None,
        one_stage: bool = False,
    ) -> Part:
        """Go on with a relaxation as far as time allows.

        Parameters
        ----------
        structure
            The structure as the tier got it.
        progress
            What an earlier job came to; None to begin.
        place
            Folder for the folder with the engine's files.
        seconds_left
            Seconds until the job must have ended; None without a limit.
        one_stage
            Whether to end after one stage.

        Returns
        -------
        Part
            A result, or the progress with which another job goes on.
        """
        ...
