"""The whole description of a search: its sections together, what must hold among them, and its name."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from fuse_flows.config.formula import parse_formula
from fuse_flows.config.pool import PoolConfig
from fuse_flows.config.sections import (
    AcceptanceConfig,
    ChecksConfig,
    DuplicatesConfig,
    ExecutionConfig,
    GeneratorConfig,
    MovesConfig,
    ReinforceConfig,
    Section,
    StopConfig,
    SymmetryConfig,
    VolumeConfig,
    WalkersConfig,
)
from fuse_flows.config.tiers import TierConfig, checked_pressure
from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

# What a candidate takes in MongoDB: two structures of 120 to 135 bytes per atom, and 2 to 3 kB beside them.
_MOST_BYTES, _CANDIDATE_BYTES, _ATOM_BYTES = 14e6, 4000, 300


class SearchConfig(Section):
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
        return 0.0 if pressure is None else checked_pressure(pressure, "pressure")

    @model_validator(mode="after")
    def _tiers_have_the_pressure(self) -> Self:
        """Write the pressure into all tiers that name none; what is compared in the end must be at this pressure."""
        last = self.tiers[-1].pressure
        if last is not None and last != self.pressure:
            msg = f"{last:g} GPa in the last tier, whose enthalpies are compared, but {self.pressure:g} in the search"
            raise ConfigError("tiers.pressure", f"{msg}; leave it out there, and set pressure to what is meant")
        if self.pressure:
            self.__dict__ |= self._tiers_changed(lambda tier: tier.at_pressure(self.pressure))
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
    def every_tier(self) -> tuple[TierConfig, ...]:
        """The tiers, and behind them the one that ranks the pool if it is named."""
        return self.tiers if self.pool.rank_tier is None else (*self.tiers, self.pool.rank_tier)

    def with_each_tier(self, change: Callable[[TierConfig], TierConfig]) -> Self:
        """Return a configuration with another tier for each, that which ranks the pool included.

        Parameters
        ----------
        change
            Returns the new tier for a tier.

        Returns
        -------
        SearchConfig
            Not validated again.
        """
        return self.model_copy(update=self._tiers_changed(change))

    def _tiers_changed(self, change: Callable[[TierConfig], TierConfig]) -> dict[str, Any]:
        changed: dict[str, Any] = {"tiers": tuple(map(change, self.tiers))}
        if self.pool.rank_tier is not None:
            changed["pool"] = self.pool.model_copy(update={"rank_tier": change(self.pool.rank_tier)})
        return changed

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
