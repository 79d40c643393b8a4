"""What a relaxation returns: a value for every case, with an outcome and a reason, never a sentinel energy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from pymatgen.core import Structure


class Outcome(StrEnum):
    """How the relaxation of a candidate ended."""

    CONVERGED = "CONVERGED"
    ACCEPTED = "ACCEPTED"  # steps used up, but all forces below the tier's limit
    NOT_CONVERGED = "NOT_CONVERGED"
    TOO_CLOSE = "TOO_CLOSE"
    ISOLATED_ATOMS = "ISOLATED_ATOMS"
    EXPLODED = "EXPLODED"
    TIMED_OUT = "TIMED_OUT"
    SCREENED_OUT = "SCREENED_OUT"
    ELECTRONIC_FAILURE = "ELECTRONIC_FAILURE"
    ENGINE_ERROR = "ENGINE_ERROR"
    NOT_GENERATED = "NOT_GENERATED"

    @property
    def is_success(self) -> bool:
        """Whether the energy may take part in the search."""
        return self in {Outcome.CONVERGED, Outcome.ACCEPTED}

    @property
    def has_energy(self) -> bool:
        """Whether the relaxation came so far that its last energy means something."""
        return self.is_success or self in {Outcome.NOT_CONVERGED, Outcome.TIMED_OUT, Outcome.SCREENED_OUT}


@dataclass(frozen=True)
class RelaxResult:
    """The end of one relaxation.

    Parameters
    ----------
    outcome
        How it ended.
    structure
        Last structure that made sense; the input if there was none.
    energy
        Total energy E of ``structure``, eV, without p V; None if there is none to be trusted.
    fmax
        Largest norm of a force, eV/A.
    smax
        Largest absolute component of the stress, GPa.
    steps
        Steps of the optimiser.
    seconds
        Wall time.
    cpu_seconds
        CPU time of this machine, programs that were called included; None where it is not known (queue).
    reason
        Why it failed, in a few words; empty for a success.
    engine
        Name of the calculator.
    engine_version
        Version of the package behind it.
    corrections
        Errors of the engine that were corrected on the way, or that were not.
    tasks
        Jobs in whose outputs the engine's own documents (atomate2's TaskDoc) lie.
    pressure
        Pressure of the tier, GPa; ``smax`` counts from it.
    """

    outcome: Outcome
    structure: Structure
    energy: float | None = None
    fmax: float | None = None
    smax: float | None = None
    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float | None = None
    reason: str = ""
    engine: str = ""
    engine_version: str = field(default="")
    corrections: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    pressure: float = 0.0

    @property
    def energy_per_atom(self) -> float | None:
        """Energy in eV/atom of the structure it is stored with."""
        return None if self.energy is None else self.energy / len(self.structure)

    @property
    def enthalpy(self) -> float | None:
        """Enthalpy E + p V of the structure it is stored with, eV: what is compared. Without a pressure, the energy."""
        if self.energy is None or not self.pressure:
            return self.energy
        return self.energy + work_of(self.pressure, self.structure.volume)

    @property
    def enthalpy_per_atom(self) -> float | None:
        """Enthalpy in eV/atom."""
        enthalpy = self.enthalpy
        return None if enthalpy is None else enthalpy / len(self.structure)


def work_of(pressure: float, volume: float) -> float:
    """Return p V in eV.

    Parameters
    ----------
    pressure
        GPa.
    volume
        A^3.

    Returns
    -------
    float
        What an enthalpy has over the energy.
    """
    from ase.units import GPa

    return pressure * GPa * volume


def with_geometry(structure: Structure, lattice: np.ndarray, frac_coords: np.ndarray) -> Structure:
    """Return a copy of a structure with another cell and other coordinates.

    Parameters
    ----------
    structure
        Gives species and properties of the sites.
    lattice
        (3, 3) rows are the lattice vectors, A.
    frac_coords
        (n, 3) fractional coordinates.

    Returns
    -------
    Structure
        With the sites in the same order.
    """
    from pymatgen.core import Lattice, Structure

    return Structure(
        Lattice(lattice),
        structure.species_and_occu,  # compositions are taken as they are, which saves a third of the time
        frac_coords,
        site_properties=dict(structure.site_properties),
    )


def one_line(reason: str) -> str:
    """Return a reason on one line of at most 200 characters."""
    text = " ".join(reason.split())
    return text if len(text) <= 200 else text[:197] + "..."
