"""The one interface of all tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

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
