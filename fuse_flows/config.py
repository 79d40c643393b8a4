"""What a search *is*: one frozen, versioned configuration object, from YAML, keywords or command line options."""

from __future__ import annotations

import hashlib
import json
import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fuse_flows.errors import ConfigError

# What a candidate takes in MongoDB: two structures of 120 to 135 bytes per atom, and 2 to 3 kB beside them.
_MOST_BYTES, _CANDIDATE_BYTES, _ATOM_BYTES = 14e6, 4000, 300


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


class _Section(BaseModel):
    """A part of the configuration: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class GeneratorConfig(_Section):
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


class QueueConfig(_Section):
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


def _checked_pressure(value: Any, field: str) -> float:
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


class TierConfig(_Section):
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
        return None if pressure is None else _checked_pressure(pressure, "tiers.pressure")

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
        for key in ("stop_above_best", "second_pass", "max_energy_above_best"):
            if values[key] == type(self).model_fields[key].default:
                del values[key]
        if not values["pressure"]:
            del values["pressure"]
        return values


class GenerationConfig(_Section):
    """Structures made by varying cell, space group, Wyckoff sites and coordinates to lower a predicted energy (GN-OA).

    Source: FUSE2 paper, Section 2.1; Cheng et al., Nat. Commun. 13, 1492 (2022), 10.1038/s41467-022-29241-4.
    """

    optimiser: Literal["random", "pso", "tpe", "lineages"] = Field(
        "lineages", description="How the next candidates are chosen."
    )
    candidates: int = Field(5000, ge=1, description="Candidates that are evaluated for each number of formula units.")
    formula_units: tuple[int, int] | None = Field(
        None, description="Smallest and largest number of formula units; None: from 1 to what fits into max_atoms."
    )
    space_groups: tuple[int, int] = Field((1, 230), description="First and last space group number that may occur.")
    energy_model: str = Field("gn", description="gn (the graph network), or the calculator of a tier such as chgnet.")
    model_file: str | None = Field(None, description="Network of your own (or MEGNet's .hdf5); None: the shipped one.")
    separate: bool = Field(
        True, description="Push the atoms of each candidate apart, within its symmetry, before it is judged."
    )
    contacts: float = Field(
        0.4, ge=0, le=1, description="Shortest contact of a candidate as a multiple of the sum of the two radii."
    )
    slab: float = Field(7.0, gt=0, description="Thickest slab without atoms in a candidate, angstrom.")
    batch_size: int = Field(100, ge=1, description="Candidates that are asked for, and predicted, at once.")
    keep: int = Field(
        200, ge=1, description="Structures kept for each number of formula units, the lowest in predicted energy."
    )
    plugin: str | None = Field(
        None,
        description="Entry point of the group fuse_flows.generators that makes the structures in place of optimiser "
        "and energy_model: up to `candidates` for each number of formula units, the first `keep` of which are taken.",
    )
    model_digest: str | None = Field(None, description="Hash of model_file; filled in on submission.")

    @model_validator(mode="after")
    def _ranges_are_open(self) -> Self:
        for name, values, highest in (
            ("space_groups", self.space_groups, 230),
            ("formula_units", self.formula_units, math.inf),
        ):
            if values is not None and not 1 <= values[0] <= values[1] <= highest:
                limit = f"at most {highest}, " if math.isfinite(highest) else ""
                msg = f"{values[0]}-{values[1]} is no range; give whole numbers from 1, {limit}the smaller one first"
                raise ConfigError(f"pool.generate.{name}", msg)
        if self.model_file is not None and (self.plugin is not None or self.energy_model != "gn"):
            msg = "is the network of energy_model gn; leave it out, or plugin and the other energy_model"
            raise ConfigError("pool.generate.model_file", msg)
        return self


class PoolConfig(_Section):
    """Structures that are there before the search begins, for the first population and moves 13 and 14."""

    structures: str | None = Field(
        None, description="Folder of CIF, POSCAR or extended XYZ files, read once on submission; None: no pool."
    )
    generate: GenerationConfig | None = Field(
        None, description="Generate structures when the search begins; None: only those of the folder, if any."
    )
    rank: Literal["none", "single", "relax"] = Field(
        "none",
        description="Order of the pool: files by name and then what was generated by predicted energy (none), all by "
        "the energy of the structures as they are (single), or by their energy after a relaxation (relax), which then "
        "take their places.",
    )
    rank_tier: TierConfig | None = Field(None, description="Tier that ranks the pool; None: the first of `tiers`.")
    draw: Literal["uniform", "ranked"] = Field(
        "uniform", description="Moves 13 and 14 draw any unused structure with equal chance, or the first one."
    )
    digest: str | None = Field(None, description="Hash of the structures; filled in when the folder is read.")
    volume: float | None = Field(
        None,
        gt=0,
        description="Their median volume per atom, A^3; filled in when the folder is read, or by jobs once structures "
        "are generated.",
    )

    @property
    def is_there(self) -> bool:
        """Whether the search has a pool: a folder that was read, or structures to be generated."""
        return self.digest is not None or self.generate is not None


class SymmetryConfig(_Section):
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


class ChecksConfig(_Section):
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


class VolumeConfig(_Section):
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


class MovesConfig(_Section):
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


class ReinforceConfig(_Section):
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


class AcceptanceConfig(_Section):
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


class DuplicatesConfig(_Section):
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


class WalkersConfig(_Section):
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


class StopConfig(_Section):
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


class ExecutionConfig(_Section):
    """How the search is cut into jobs; this never changes which structures the search visits."""

    structures_per_job: int = Field(1, ge=1, description="Structures of the first population in one job.")
    rankings_per_job: int = Field(100, ge=1, description="Structures of the pool that one job ranks.")
    steps_per_job: int = Field(1, ge=1, description="Search steps in one job.")
    parallel_proposals: bool = Field(
        True,
        description="With proposals_per_step above 1: each proposal in a job of its own; steps_per_job then is 1.",
    )
    jobs_per_segment: int = Field(20, ge=1, le=200, description="Jobs in one Workflow of the LaunchPad.")


class SearchConfig(_Section):
    """The whole description of a search.

    Two configurations that differ only in :attr:`stop` and :attr:`execution` describe the same search, stopped
    earlier or later and cut into other jobs: they share :attr:`search_id`.
    """

    version: Literal[1] = Field(1, description="Version of this schema.")
    formula: str = Field(description="Formula with integer counts, such as Ca3Ti2O7; reduced to one formula unit.")
    label: str = Field("", description="Free text that tells apart searches which are otherwise the same.")
    oxidation_states: dict[str, float] | None = Field(
        None, description="Charge of each element, e; switches the radii to the ionic table."
    )
    max_atoms: int = Field(50, ge=1, description="Largest structure anywhere in the search, in atoms.")
    pressure: float = Field(
        0.0, description="Pressure at which the lowest enthalpy is looked for, GPa; tiers relax at it."
    )
    seed: int = Field(0, ge=0, description="Root of every random draw.")
    rattle: float = Field(
        0.05, ge=0, description="Standard deviation of a Gaussian displacement before each relaxation, angstrom."
    )
    proposals_per_step: int = Field(
        1, ge=1, le=1000, description="Structures proposed and relaxed in each step; the lowest of them is judged."
    )
    walkers: WalkersConfig = Field(WalkersConfig(), description="Walkers of the search, or just their number.")
    generator: GeneratorConfig = GeneratorConfig()
    pool: PoolConfig = PoolConfig()
    symmetry: SymmetryConfig = SymmetryConfig()
    checks: ChecksConfig = ChecksConfig()
    volume: VolumeConfig = VolumeConfig()
    moves: MovesConfig = MovesConfig()
    move_policy: Literal["uniform", "weights", "reinforce"] = Field(
        "weights",
        description="How moves are drawn: by the weights of `moves`, all alike, or with chances learnt on the way; a "
        "weight of zero excludes a move in any case.",
    )
    reinforce: ReinforceConfig = ReinforceConfig()
    acceptance: AcceptanceConfig = AcceptanceConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    stop: StopConfig = StopConfig()
    tiers: tuple[TierConfig, ...] = Field(
        (TierConfig(),), min_length=1, description="Tiers of relaxation, in order; a name stands for a tier."
    )
    execution: ExecutionConfig = ExecutionConfig()

    @field_validator("formula")
    @classmethod
    def _formula_is_reduced(cls, formula: str) -> str:
        return "".join(f"{el}{n if n > 1 else ''}" for el, n in parse_formula(formula).items())

    @field_validator("tiers", mode="before")
    @classmethod
    def _tiers_by_name(cls, tiers: Any) -> Any:
        if not isinstance(tiers, list | tuple):
            return tiers
        return [{"calculator": tier} if isinstance(tier, str) else tier for tier in tiers]

    @field_validator("walkers", mode="before")
    @classmethod
    def _number_of_walkers(cls, walkers: Any) -> Any:
        return {"number": walkers} if isinstance(walkers, int) and not isinstance(walkers, bool) else walkers

    @field_validator("pressure", mode="before")
    @classmethod
    def _pressure_is_sane(cls, pressure: Any) -> float:
        return 0.0 if pressure is None else _checked_pressure(pressure, "pressure")

    @model_validator(mode="after")
    def _tiers_have_the_pressure(self) -> Self:
        """Write the pressure into all tiers that name none; what is compared in the end must be at this pressure."""
        last = self.tiers[-1].pressure
        if last is not None and last != self.pressure:
            msg = f"{last:g} GPa in the last tier, whose enthalpies are compared, but {self.pressure:g} in the search"
            raise ConfigError("tiers.pressure", f"{msg}; leave it out there, and set pressure to what is meant")
        if not self.pressure:
            return self
        ranking = self.pool.rank_tier
        if ranking is not None:
            self.__dict__["pool"] = self.pool.model_copy(update={"rank_tier": ranking.at_pressure(self.pressure)})
        self.__dict__["tiers"] = tuple(tier.at_pressure(self.pressure) for tier in self.tiers)
        return self

    @model_validator(mode="after")
    def _one_formula_unit_fits(self) -> Self:
        n_atoms = sum(self.counts.values())
        for field, limit in (
            ("max_atoms", self.max_atoms),
            ("generator.initial_max_atoms", self.generator.initial_max_atoms),
        ):
            if limit is not None and limit < n_atoms:
                msg = f"{limit} is smaller than one formula unit of {self.formula}; raise it to {n_atoms} or more"
                raise ConfigError(field, msg)
        return self

    @model_validator(mode="after")
    def _population_fits(self) -> Self:
        size, number = self.generator.initial_structures, self.walkers.number
        if self.stop.max_structures < size * number:
            times = f" times {number} walkers" if number > 1 else ""
            msg = f"must be at least generator.initial_structures ({size}){times}; change either"
            raise ConfigError("stop.max_structures", msg)
        return self

    @model_validator(mode="after")
    def _documents_fit(self) -> Self:
        most = int(_MOST_BYTES // (_CANDIDATE_BYTES + _ATOM_BYTES * self.max_atoms))
        for field, number in (
            ("execution.structures_per_job", min(self.execution.structures_per_job, self.generator.initial_structures)),
            ("proposals_per_step", self.proposals_per_step),
        ):
            if number > most:
                msg = f"{number} structures of {self.max_atoms} atoms do not fit into one document of MongoDB (16 MB)"
                what = f"use {most} at most, or a smaller max_atoms" if most else "use a smaller max_atoms"
                raise ConfigError(field, f"{msg}; {what}")
        return self

    @model_validator(mode="after")
    def _charges_balance(self) -> Self:
        if self.oxidation_states is None:
            return self
        if set(self.oxidation_states) != set(self.counts):
            msg = f"must name exactly the elements of {self.formula} ({', '.join(self.counts)})"
            raise ConfigError("oxidation_states", msg)
        charge = sum(n * self.oxidation_states[el] for el, n in self.counts.items())
        if abs(charge) > 1e-6:
            msg = f"one formula unit of {self.formula} has charge {charge:+g}; the charges must add up to zero"
            raise ConfigError("oxidation_states", msg)
        return self

    @property
    def counts(self) -> dict[str, int]:
        """Atoms of each element in one formula unit, in the order of the formula."""
        return parse_formula(self.formula)

    @property
    def search_id(self) -> str:
        """Name of the search: the formula and a hash of everything that decides which structures it visits.

        Of a pool its content counts and not its folder, so a search with a pool has its name once that has been read.
        The section ``reinforce`` counts only where it is in force.
        """
        identity = self.model_dump(mode="json", exclude={"stop", "execution", "pool", "walkers"})
        identity["tiers"] = [tier.identity() for tier in self.tiers]
        if not self.pressure:
            del identity["pressure"]
        if self.walkers.number > 1:
            identity["walkers"] = self.walkers.model_dump(mode="json")
        if self.move_policy != "reinforce":
            del identity["reinforce"]
        if self.pool.digest is None and self.pool.structures is not None:
            raise ConfigError("pool.structures", "has not been read yet; fuse_flows.generators.files.read_pool does it")
        if self.pool.is_there:
            identity["pool"] = self._pool_identity()
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return f"{self.formula}-{digest[:10]}"

    def _pool_identity(self) -> dict[str, Any]:
        """Return what counts of the pool: of a file its content; the volume only where it is known on submission."""
        identity = self.pool.model_dump(mode="json", exclude={"structures"})
        ranking, settings = self.pool.rank_tier, self.pool.generate
        identity["rank_tier"] = None if ranking is None else ranking.identity()
        if settings is None:
            del identity["generate"]
            return identity
        if settings.model_file is not None and settings.model_digest is None:
            msg = "has not been read yet; fuse_flows.relax.energy_model.with_model_digest does it"
            raise ConfigError("pool.generate.model_file", msg)
        del identity["volume"], identity["generate"]["model_file"]
        return identity

    def to_yaml(self) -> str:
        """Return the resolved configuration, every default written out, as YAML."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def parse_formula(formula: str) -> dict[str, int]:
    """Read a chemical formula as one formula unit of whole atoms.

    Parameters
    ----------
    formula
        For example ``Ca3Ti2O7``; brackets are understood.

    Returns
    -------
    dict
        Atoms of each element, divided by their greatest common divisor, in the order of the formula.

    Raises
    ------
    ConfigError
        If the formula is empty, has an unknown element or counts that are not whole numbers.
    """
    from pymatgen.core import Composition, DummySpecies

    if not formula.strip():
        raise ConfigError("formula", "is empty; give a chemical formula such as SrTiO3")
    try:
        amounts = Composition(formula.strip(), strict=True).as_dict()
        dummies = [el for el in Composition(formula.strip()).elements if isinstance(el, DummySpecies)]
    except (ValueError, KeyError) as error:
        msg = f"{formula!r} has an element that does not exist or cannot be read; write it like Ca3Ti2O7"
        raise ConfigError("formula", msg) from error
    if dummies or not amounts:
        msg = f"{formula!r} has an element that does not exist or cannot be read; write it like Ca3Ti2O7"
        raise ConfigError("formula", msg)
    if any(n != int(n) or n < 1 for n in amounts.values()):
        msg = f"{formula!r} has counts that are not whole numbers; multiply it out, e.g. Sr2TiO4"
        raise ConfigError("formula", msg)
    counts = {el: int(n) for el, n in amounts.items()}
    divisor = math.gcd(*counts.values())
    return {el: n // divisor for el, n in counts.items()}


def load_config(
    path: str | Path | None = None, *, base: dict[str, Any] | None = None, **overrides: Any
) -> SearchConfig:
    """Read a configuration from a YAML file and put keywords over it.

    Parameters
    ----------
    path
        YAML (or JSON) file with keys of :class:`SearchConfig`; None for the defaults.
    base
        Keys of :class:`SearchConfig` with values that the file and the keywords override, such as those of a recipe.
    **overrides
        Keys of :class:`SearchConfig`; a dictionary is merged into its section, None values are ignored.

    Returns
    -------
    SearchConfig
        The checked configuration.

    Raises
    ------
    ConfigError
        If the file cannot be read or a value is refused; the message names the field and the fix.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError("config", f"{path} cannot be read as YAML ({error})".replace("\n", " ")) from error
        if not isinstance(values, dict):
            raise ConfigError("config", f"{path} must hold keys and values, not a {type(values).__name__}")
    given = {key: value for key, value in overrides.items() if value is not None}
    return make_config(merged_values(merged_values(base or {}, values), given))


def merged_values(values: dict[str, Any], over: dict[str, Any], *, inside: bool = False) -> dict[str, Any]:
    """Put values over others; sections are merged, and pool.generate inside its section, but nothing else."""
    merged = dict(values)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and (not inside or key == "generate")
        merged[key] = merged_values(merged[key], value, inside=True) if both else value
    return merged


def make_config(values: dict[str, Any]) -> SearchConfig:
    """Check a dictionary of values and turn pydantic's report into one line.

    Parameters
    ----------
    values
        Keys and values of :class:`SearchConfig`.

    Returns
    -------
    SearchConfig
        The checked configuration.

    Raises
    ------
    ConfigError
        Naming the first offending field and what is wrong with it.
    """
    try:
        return SearchConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            raise cause from None
        field = ".".join(str(part) for part in first["loc"]) or "config"
        if first["type"] == "extra_forbidden":
            message = "is not a key of the configuration; run 'fuse-flows config show FORMULA' to see them all"
        elif first["type"] == "missing":
            message = "is missing; it must be given"
        else:
            message = f"{first['msg'].removeprefix('Value error, ')} (got {first['input']!r})"
        raise ConfigError(field, message) from None
