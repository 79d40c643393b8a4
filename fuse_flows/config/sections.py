"""The sections of a configuration that are neither tiers of relaxation nor the pool."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fuse_flows.errors import ConfigError


class MoveName(StrEnum):
    """The fourteen moves of the search, in the order of their numbers in the FUSE2 paper (Section 2.2)."""

    SWAP_ATOMS = "swap_atoms"
    ATOM_TO_VACANCY = "atom_to_vacancy"
    PERMUTE_ATOMS = "permute_atoms"
    PERMUTE_ATOMS_AND_VACANCIES = "permute_atoms_and_vacancies"
    PERMUTE_ALL_ATOMS = "permute_all_atoms"
    PERMUTE_ALL_ATOMS_AND_VACANCIES = "permute_all_atoms_and_vacancies"
    SWAP_SUBMODULES = "swap_submodules"
    SWAP_MODULES = "swap_modules"
    NEW_CELL_SHAPE = "new_cell_shape"
    MUTATE_SUBMODULE = "mutate_submodule"
    DOUBLE_CELL = "double_cell"
    TRIPLE_CELL = "triple_cell"
    NEW_STRUCTURE_CURRENT_SIZE = "new_structure_current_size"
    NEW_STRUCTURE_MAXIMUM_SIZE = "new_structure_maximum_size"

    @property
    def number(self) -> int:
        """Number of the move in the FUSE2 paper."""
        return _MOVE_NUMBERS[self]


_MOVE_NUMBERS = {name: number for number, name in enumerate(MoveName, start=1)}

MoveWeights = dict[MoveName, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Section(BaseModel):
    """A part of the configuration: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class GeneratorConfig(Section):
    """The random assembler that fills the first population and feeds moves 13 and 14."""

    initial_structures: int = Field(25, ge=1, description="Structures in the first population of each walker.")
    initial_max_atoms: int | None = Field(
        None, ge=1, description="Largest assembled structure of the first population, in atoms; None: max_atoms."
    )
    vacancy_ratio: float = Field(4.0, ge=0, description="Largest number of vacant sites per atom.")
    max_axis: int = Field(40, ge=1, le=200, description="Largest number of sub-modules along one axis.")
    max_aspect: float | None = Field(
        12.0, ge=1, description="Longest over shortest edge of a cell made of sub-modules; None: no limit."
    )
    module_edge: float | None = Field(
        None, gt=0, description="Edge I_p of a sub-module in angstrom; None: from the radii (paper, Section 2.1)."
    )
    module_edge_scale: float = Field(1.0, gt=0, description="Factor on the edge that comes from the radii.")
    attempts: int = Field(1000, ge=1, description="Draws before the assembler gives one structure up.")


class SymmetryConfig(Section):
    """Which cell of the same crystal is relaxed; the relaxation itself keeps no symmetry."""

    standardise: Literal["none", "primitive", "conventional"] = Field(
        "none",
        description="Standard cell (spglib) taken before each relaxation. A conventional cell with more than max_atoms "
        "gives way to the primitive one; where spglib finds none, the cell stays.",
    )
    symprec: float = Field(0.01, gt=0, le=0.5, description="Tolerance of the symmetry search, angstrom.")
    reduce: Literal["none", "niggli"] = Field(
        "none", description="Niggli reduction of the cell before each relaxation: the least oblique one of its lattice."
    )


class ChecksConfig(Section):
    """What a structure must fulfil before it is worth a relaxation."""

    min_distance: float = Field(1.0, gt=0, description="Shortest contact in angstrom, periodic images included.")
    min_density: float = Field(
        0.15, ge=0, description="Lowest density, as a fraction of the ideal density (spheres filling all space)."
    )
    max_density: float = Field(1.6, gt=0, description="Highest density, as a fraction of the ideal density.")
    coordination: bool = Field(True, description="Check the coordination numbers of randomly assembled structures.")
    coordination_tolerance: float = Field(
        0.25, ge=0, le=1, description="Fraction of atoms that may have an unusual coordination number."
    )

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if self.min_density >= self.max_density:
            msg = f"must be above min_density ({self.min_density}); widen the window"
            raise ConfigError("checks.max_density", msg)
        return self


class VolumeConfig(Section):
    """How much room atoms have before a relaxation: around an estimate that the search improves as it goes."""

    learn: bool = Field(
        True,
        description="Learn the volume per atom from the pool and from relaxed candidates, the lowest in energy "
        "counting most; otherwise the estimate from the volumes of the elements stays.",
    )
    scale: bool = Field(
        False, description="Scale every assembled structure to that volume; otherwise only those out of the window."
    )
    low: float = Field(0.5, ge=0, le=1, description="Smallest volume of a proposal, as a fraction of it.")
    high: float = Field(2.5, ge=1, description="Largest volume of a proposal, as a fraction of it.")


class MovesConfig(Section):
    """How often each move is tried, in the normal phase and while the search is melted."""

    weights: MoveWeights = Field(
        default_factory=lambda: dict.fromkeys(MoveName, 1.0), description="Relative weights in the normal phase."
    )
    melted_weights: MoveWeights = Field(
        default_factory=lambda: dict.fromkeys(MoveName, 1.0), description="Relative weights after melting began."
    )
    attempts: int = Field(50, ge=1, description="Attempts of one move before another one is drawn.")
    vacancy_grid: float = Field(0.75, gt=0, description="Spacing of the grid of vacancy points, in angstrom.")
    vacancy_distance: float = Field(
        1.5, gt=0, description="Least distance of a vacancy point from any atom (angstrom)."
    )

    @field_validator("weights", "melted_weights")
    @classmethod
    def _some_move_is_possible(cls, weights: dict[MoveName, float]) -> dict[MoveName, float]:
        if not any(weights.values()):
            raise ValueError("all weights are zero; give at least one move a weight above zero")
        return {name: weights.get(name, 0.0) for name in MoveName}


class ReinforceConfig(Section):
    """How the chances of the moves are learnt with ``move_policy: reinforce`` (10.1039/d3dd00063j)."""

    learning_rate: float = Field(
        0.05, gt=0, le=1, description="Step along the policy gradient, per structure (paper, for longer runs: 0.0005)."
    )
    epsilon: float = Field(
        0.1, ge=0, le=1, description="Share of the draws in which every allowed move has the same chance."
    )
    beta: float = Field(1.0, ge=0, description="Weight of the entropy of the policy once that is low.")
    entropy_threshold: float = Field(0.8, ge=0, description="Below this entropy (nats) the policy is held back.")
    free_term: float = Field(1.0, ge=0, description="Feature beside the scaled energy; 0: chances follow energy only.")
    energy_window: int = Field(
        100, ge=10, le=200, description="Energies are scaled with the newest so many different ones."
    )
    reward_window: int = Field(5000, ge=10, description="Rewards are scaled with about the newest so many.")
    warmup: int = Field(10, ge=2, description="Rewards that are gathered before anything is learnt.")


class AcceptanceConfig(Section):
    """The Metropolis rule and the melting that follows a long time without progress."""

    temperature: float = Field(0.02, gt=0, description="Metropolis temperature T, eV/atom.")
    energy_precision: float = Field(1e-5, gt=0, description="Energies are compared in multiples of this, eV/atom.")
    melt_threshold: int = Field(150, ge=1, description="Structures without a downhill step before melting begins.")
    melt_step: float = Field(
        0.01, ge=0, description="While melted, each rejection raises T by a uniform draw from 0 to this, eV/atom."
    )
    max_temperature: float = Field(0.5, gt=0, description="T never rises above this, eV/atom.")

    @model_validator(mode="after")
    def _melting_heats(self) -> Self:
        if self.max_temperature < self.temperature:
            msg = f"must be at least acceptance.temperature ({self.temperature}); change either"
            raise ConfigError("acceptance.max_temperature", msg)
        return self


class DuplicatesConfig(Section):
    """When two relaxed structures are the same minimum, and what the search does about minima it has visited."""

    enabled: bool = Field(
        True, description="Compare each candidate with the minima visited before, and note its cluster."
    )
    reject: bool = Field(
        False,
        description="A candidate that relaxes into a visited minimum is no change: rejected, whatever its energy.",
    )
    energy_tolerance: float = Field(1e-3, gt=0, description="Copies differ by less than this, eV/atom.")
    volume_tolerance: float = Field(0.02, gt=0, description="Volumes of copies differ by less than this, relative.")
    ltol: float = Field(0.2, gt=0, description="StructureMatcher: tolerance of lengths, relative.")
    stol: float = Field(0.3, gt=0, description="StructureMatcher: tolerance of positions, in (V/N)^(1/3).")
    angle_tol: float = Field(5.0, gt=0, description="StructureMatcher: tolerance of angles, degrees.")
    redraws: int = Field(
        0, ge=0, description="Proposals per step that are drawn again because they are visited minima already."
    )


class WalkersConfig(Section):
    """Walkers of one search: each begins with a first population of its own and draws from a stream of its own."""

    number: int = Field(1, ge=1, le=1000, description="Walkers; they share the limits of `stop` evenly.")
    meet_every: int | None = Field(
        25,
        ge=1,
        description="Steps after which the walkers wait for one another and tell what minima they visited; "
        "None: they never do, and only the pool is shared.",
    )
    exchange: bool = Field(
        False, description="Replica exchange: walkers of neighbouring temperatures may swap structures when they meet."
    )
    temperature_ratio: float = Field(
        1.5, ge=1, description="With exchange: temperature of each walker over that of the walker before it."
    )

    @model_validator(mode="after")
    def _exchange_needs_meetings(self) -> Self:
        if self.exchange and self.meet_every is None:
            raise ConfigError("walkers.meet_every", "is None, but walkers.exchange needs meetings; give a number")
        return self


class StopConfig(Section):
    """When a search ends; the first condition that is met counts."""

    max_structures: int = Field(
        200, ge=1, description="Structures in all, the first populations of all walkers included."
    )
    patience: int = Field(
        500,
        ge=1,
        description="Structures of a walker since its last new lowest energy. Walkers that meet end together, when "
        "this holds for all of them.",
    )
    target_energy: float | None = Field(
        None, description="Stop at or below this energy (with a pressure: enthalpy), eV/atom."
    )
    wall_hours: float | None = Field(
        None,
        gt=0,
        description="Hours since the first population was complete, waiting included, after which no structure begins.",
    )


class ExecutionConfig(Section):
    """How the search is cut into jobs; this never changes which structures the search visits."""

    structures_per_job: int = Field(1, ge=1, description="Structures of the first population in one job.")
    rankings_per_job: int = Field(100, ge=1, description="Structures of the pool that one job ranks.")
    steps_per_job: int = Field(1, ge=1, description="Search steps in one job.")
    parallel_proposals: bool = Field(
        True,
        description="With proposals_per_step above 1: each proposal in a job of its own; steps_per_job then is 1.",
    )
    jobs_per_segment: int = Field(20, ge=1, le=200, description="Jobs in one Workflow of the LaunchPad.")
