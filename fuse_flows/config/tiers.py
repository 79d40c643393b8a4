"""Tiers of relaxation, the pressure that they relax at, and the queue of an expensive one."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from fuse_flows.config.sections import Section
from fuse_flows.errors import ConfigError


class QueueConfig(Section):
    """How the jobs of an expensive tier reach the machines for it; this never changes what they compute."""

    category: str | None = Field(
        None, min_length=1, description="FireWorks category of the jobs; None: the name of the calculator."
    )
    fworker: str | None = Field(None, description="Name of the only FWorker that may take them.")
    qadapter: dict[str, Any] = Field(
        default_factory=dict, description="Settings over those of my_qadapter.yaml (qlaunch in reservation mode)."
    )
    job: Literal["candidate", "stage"] = Field("candidate", description="What one job does: all stages, or one.")
    wall_time: float | None = Field(
        None,
        gt=0,
        description="Seconds for one job; what is left when they are over is done by another job. None: "
        "the end of the allocation, if it is known.",
    )
    wall_buffer: float = Field(300.0, ge=0, description="Seconds of these that are kept for the last ionic step.")
    max_requeues: int = Field(20, ge=0, description="Further jobs for one relaxation that never has enough time.")
    custodian: dict[str, Any] = Field(
        default_factory=dict, description="Keywords of custodian, such as {polling_time_step: 10, monitor_freq: 30}."
    )


#: Highest pressure, and tension, that a search may ask for, GPa: well above the centre of the Earth.
MAX_PRESSURE = 1000.0


def checked_pressure(value: Any, field: str) -> float:
    """Return a pressure in GPa; refuse what is none, by the name of its field."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(field, f"{value!r} is no pressure; give a number in GPa")
    if abs(number) > MAX_PRESSURE:
        raise ConfigError(field, f"{number:g} GPa is out of reach; give at most {MAX_PRESSURE:g} GPa, not kbar")
    return number


class TierConfig(Section):
    """One tier of relaxation: which potential, how far, and what counts as a failure."""

    calculator: str = Field(
        "chgnet",
        description="spp, chgnet, torchsim, emt, lj, buckingham, gulp, vasp, gpaw, any force field of atomate2 (such "
        "as MACE-MP-0) or the import path of an ASE calculator ('package.module:Class').",
    )
    calculator_kwargs: dict[str, Any] = Field(default_factory=dict, description="Keywords of the calculator.")
    optimizer: Literal["L-BFGS", "FIRE", "LBFGS", "BFGS", "BFGSLineSearch"] = Field(
        "L-BFGS", description="L-BFGS (positions and strain, compiled; ours), or an optimiser of ASE."
    )
    symprec: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="Make the crystal exactly symmetric before this tier, in its own cell, as far as it is so within "
        "this tolerance, angstrom; None: never. DFT codes then compute fewer k-points.",
    )
    relax_cell: bool = Field(True, description="Relax the cell along with the positions.")
    pressure: float | None = Field(
        None, description="Pressure it relaxes at, GPa, where enthalpies are compared; None: that of the search."
    )
    fmax: float = Field(0.05, gt=0, description="Converged when no force exceeds this, eV/A.")
    smax: float = Field(
        0.5, gt=0, description="Converged when no component of the stress is farther than this from the pressure, GPa."
    )
    max_steps: int = Field(300, ge=1, description="Steps of the optimiser.")
    time_limit: float = Field(600.0, gt=0, description="Seconds for one structure.")
    min_distance: float = Field(0.7, gt=0, description="Shortest contact at any time of the relaxation, angstrom.")
    max_volume_change: float = Field(
        5.0, gt=1, description="Exploded when the volume grows, or shrinks, by more than this factor."
    )
    stop_above_best: float | None = Field(
        None,
        gt=0,
        description="Stop in the midst of the relaxation when the energy lies so far above that of the walker's best "
        "candidate in this tier, eV/atom, and falls too slowly to come down; None: never. For ASE calculators.",
    )
    second_pass: float | None = Field(
        0.1,
        ge=0,
        description="Relax again, to a fifth of fmax and smax, what converges in the last tier at most so far above "
        "the walker's best candidate, eV/atom (in the first population: at any energy), for in soft modes forces are "
        "small long before the minimum; None: never. For L-BFGS with ASE calculators.",
    )
    max_energy_above_best: float | None = Field(
        None,
        gt=0,
        description="Spare the tiers that follow when the energy at the end lies so far above that of the walker's "
        "best candidate in this tier, eV/atom; None: never.",
    )
    queue: bool | QueueConfig | None = Field(
        None, description="Relax in jobs of their own, for other workers: true, false or settings; None: vasp and gpaw."
    )

    @field_validator("pressure", mode="before")
    @classmethod
    def _pressure_is_sane(cls, pressure: Any) -> float | None:
        return None if pressure is None else checked_pressure(pressure, "tiers.pressure")

    def at_pressure(self, pressure: float) -> Self:
        """Return the tier at a pressure (GPa), unless it names its own."""
        return self.model_copy(update={"pressure": pressure}) if self.pressure is None else self

    @property
    def gigapascals(self) -> float:
        """The pressure it relaxes at, GPa; a search has written its own into tiers that name none."""
        return self.pressure or 0.0

    @property
    def queue_settings(self) -> QueueConfig:
        """The settings of its queue; the defaults where none are given."""
        return self.queue if isinstance(self.queue, QueueConfig) else QueueConfig()

    def identity(self) -> dict[str, Any]:
        """Return what counts of the tier for the name of a search: of a file with a digest not where it is.

        Settings that came later count only where they differ from what was always done; the queue never does.
        """
        values = self.model_dump(mode="json", exclude={"queue"})
        if "digest" in values["calculator_kwargs"]:
            for place in ("library", "weights"):
                values["calculator_kwargs"].pop(place, None)
        for key in ("symprec", "stop_above_best", "second_pass", "max_energy_above_best"):
            if values[key] == type(self).model_fields[key].default:
                del values[key]
        if not values["pressure"]:
            del values["pressure"]
        return values
