"""What a GPAW tier may be told: its stages, functional, spins and limits, all of them data in the configuration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fuse_flows.errors import ConfigError, first_refusal
from fuse_flows.relax.staged import with_options

if TYPE_CHECKING:
    from fuse_flows.config import SearchConfig, TierConfig

GPAW = "gpaw"
"""Name of the calculator."""

_FIELD = "tiers.calculator_kwargs"

#: Keywords of GPAW that may be given as they are, for all stages.
_PARAMETERS = frozenset(
    {
        "basis",
        "charge",
        "eigensolver",
        "experimental",
        "extensions",
        "hund",
        "mixer",
        "nbands",
        "parallel",
        "poissonsolver",
        "random",
        "soc",
        "symmetry",
    }
)
#: Those that the tier itself writes, by what they follow from.
_WRITTEN = {
    "mode": "stages.N.ecut",
    "kpts": "stages.N.kspacing",
    "occupations": "stages.N.smearing and width",
    "convergence": "stages.N.convergence",
    "maxiter": "stages.N.maxiter",
    "h": "stages.N.ecut",
    "gpts": "stages.N.ecut",
    "xc": "xc",
    "setups": "setups",
    "spinpol": "spinpol",
    "magmoms": "magmoms",
    "txt": "nothing (it is written to the launch folder)",
}
_CRITERIA = frozenset({"energy", "density", "eigenstates", "forces", "bands", "minimum iterations"})


class GpawStage(BaseModel):
    """One stage: how accurate, and how far it relaxes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ecut: float = Field(700.0, ge=100, description="Cut-off of the plane waves, eV.")
    kspacing: float = Field(
        0.3, gt=0, description="Largest distance of k-points, 1/A (with 2 pi, as VASP's KSPACING); Gamma-centred."
    )
    smearing: Literal["fermi-dirac", "marzari-vanderbilt", "methfessel-paxton"] = "fermi-dirac"
    width: float = Field(0.05, ge=0, description="Width of the smearing, eV; the energy is that of width zero.")
    convergence: dict[str, Any] = Field(
        default_factory=lambda: {"energy": 1e-5, "density": 1e-5},
        description="GPAW's criteria of self-consistency; the energy is per electron, eV.",
    )
    maxiter: int = Field(200, ge=1, description="Iterations within which the electrons must converge.")
    fmax: float | None = Field(None, gt=0, description="Converged below this force, eV/A; None: that of the tier.")
    smax: float | None = Field(None, gt=0, description="Converged below this stress, GPa; None: that of the tier.")
    max_steps: int | None = Field(None, ge=0, description="Steps; None: those of the tier.")

    @field_validator("convergence")
    @classmethod
    def _criteria_are_known(cls, values: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(values) - _CRITERIA)
        if unknown:
            msg = f"GPAW does not know {', '.join(unknown)}; use {', '.join(sorted(_CRITERIA))}"
            raise ValueError(msg)
        return values


#: A look with few k-points, and the relaxation that counts. Fewer plane waves in the first one would not pay: the cells
#: are then some percent too small, and energies, whose basis belongs to the cell, contradict the stress (by 21 GPa for
#: MgO at 500 eV, by 1 GPa at 700 eV).
STAGES = (
    GpawStage(kspacing=0.6, convergence={"energy": 1e-4, "density": 1e-4}, fmax=0.2, smax=2.0, max_steps=50),
    GpawStage(),
)


class GpawOptions(BaseModel):
    """The keywords of a GPAW tier."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stages: tuple[GpawStage, ...] = Field(STAGES, min_length=1, description="Stages in order; the last one counts.")
    xc: str = Field("PBE", min_length=1, description="Functional, by GPAW's name.")
    spinpol: bool | None = Field(None, description="Spin-polarised; None: if there are magnetic moments.")
    magmoms: dict[str, float] = Field(
        default_factory=dict, description="Initial magnetic moment of an element, mu_B, such as {Fe: 5}."
    )
    setups: dict[str, str] = Field(
        default_factory=dict, description="PAW data of an element, or a U value, such as {Fe: ':d,4.0'}."
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Further keywords of GPAW, for all stages.")
    rescue: dict[str, Any] = Field(
        default_factory=lambda: {"mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 5, "weight": 100}},
        description="Keywords over these for a second try where the electrons do not converge; {}: no second try.",
    )
    rescue_maxiter: int = Field(500, ge=1, description="Iterations of the second try.")
    force_limit: float = Field(
        0.5, ge=0, description="A relaxation that used up its steps is accepted up to this force, eV/A; 0: never."
    )
    stress_limit: float = Field(5.0, ge=0, description="And, where the cell is relaxed, up to this stress, GPa.")

    @field_validator("parameters", "rescue")
    @classmethod
    def _parameters_are_known(cls, values: dict[str, Any]) -> dict[str, Any]:
        for key in sorted(values):
            if key in _WRITTEN:
                msg = f"{key} is written by the tier itself, from {_WRITTEN[key]}; remove it"
                raise ValueError(msg)
            if key not in _PARAMETERS:
                msg = f"{key} is no keyword of GPAW that may be given; use {', '.join(sorted(_PARAMETERS))}"
                raise ValueError(msg)
        return values


def parse_options(tier: TierConfig) -> GpawOptions:
    """Read the keywords of a GPAW tier.

    Parameters
    ----------
    tier
        The tier. ``max_steps: 0`` asks for a single point with the settings of the last stage.

    Returns
    -------
    GpawOptions
        With the tolerances and steps of the tier where a stage has none of its own.

    Raises
    ------
    ConfigError
        Naming the keyword and the fix.
    """
    options = _read(tier)
    stages = options.stages
    if tier.max_steps == 0:
        stages = (stages[-1].model_copy(update={"max_steps": 0}),)
    of_tier = {"fmax": tier.fmax, "smax": tier.smax, "max_steps": tier.max_steps}
    filled = tuple(
        stage.model_copy(update={key: value for key, value in of_tier.items() if getattr(stage, key) is None})
        for stage in stages
    )
    return options.model_copy(update={"stages": filled})


def _read(tier: TierConfig) -> GpawOptions:
    """Read the keywords as they are given."""
    try:
        return GpawOptions.model_validate(tier.calculator_kwargs)
    except ValidationError as error:
        refusal = first_refusal(error)
        message = f"{refusal.message} (got {refusal.given!r})"
        if refusal.kind == "extra_forbidden":
            known = GpawStage if refusal.place[0] == "stages" else GpawOptions
            message = f"gpaw does not know it; use {', '.join(known.model_fields)}"
        raise ConfigError(refusal.field(_FIELD), message) from None


def with_gpaw_defaults(search: SearchConfig) -> SearchConfig:
    """Write the options of GPAW tiers out, so that the stages stand in the configuration and the search's identity.

    Parameters
    ----------
    search
        A configuration.

    Returns
    -------
    SearchConfig
        With the complete ``calculator_kwargs`` of GPAW tiers.

    Raises
    ------
    ConfigError
        Naming a keyword that is refused.
    """
    return with_options(search, GPAW, lambda tier: _read(tier).model_dump(mode="json"))


def mesh(lattice: np.ndarray, kspacing: float) -> list[int]:
    """Return the numbers of k-points along the reciprocal lattice vectors.

    Parameters
    ----------
    lattice
        (3, 3) rows are the lattice vectors, A.
    kspacing
        Largest distance of k-points, 1/A, with 2 pi.

    Returns
    -------
    list of int
        Three numbers, of at least 1.
    """
    lengths = 2.0 * math.pi * np.linalg.norm(np.linalg.inv(lattice), axis=0)
    return [max(1, math.ceil(length / kspacing - 1e-9)) for length in lengths]


def gpaw_parameters(options: GpawOptions, stage: GpawStage, lattice: np.ndarray) -> dict[str, Any]:
    """Return the keywords of GPAW for a stage.

    Parameters
    ----------
    options, stage
        The tier's options, and one of its stages.
    lattice
        (3, 3) cell that the k-points are for, A.

    Returns
    -------
    dict
        Plain values.
    """
    parameters: dict[str, Any] = {
        **options.parameters,
        "mode": {"name": "pw", "ecut": stage.ecut},
        "xc": options.xc,
        "kpts": {"size": mesh(lattice, stage.kspacing), "gamma": True},
        "occupations": {"name": stage.smearing, "width": stage.width},
        "convergence": dict(stage.convergence),
        "maxiter": stage.maxiter,
    }
    if options.spinpol is not None:
        parameters["spinpol"] = options.spinpol
    if options.setups:
        parameters["setups"] = dict(options.setups)
    return parameters


def rescued(parameters: dict[str, Any], options: GpawOptions) -> dict[str, Any] | None:
    """Return the keywords for a second try where the electrons did not converge; None if there is to be none."""
    return parameters | options.rescue | {"maxiter": options.rescue_maxiter} if options.rescue else None
