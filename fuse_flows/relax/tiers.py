"""Chains of tiers: cheap ones first, each starts where the one before it ended."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fuse_flows.config import TierConfig
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.base import BatchRelaxer
from fuse_flows.relax.calculators import make_calculator
from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.relax.spp_tier import SPP, build_spp_relaxer
from fuse_flows.relax.threads import limit_threads
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from fuse_flows.relax.base import Relaxer


def build_relaxer(tier: TierConfig) -> Relaxer:
    """Return the relaxer of a tier; equal tiers share one within a process, so models are loaded once.

    The threads of the process are limited to ``FUSE_FLOWS_THREADS`` when a relaxer is made.

    Parameters
    ----------
    tier
        The tier.

    Returns
    -------
    Relaxer
        Its relaxer.

    Raises
    ------
    ConfigError
        If its calculator is unknown or does not accept its keywords.
    MissingExtraError
        If its package is not installed.
    """
    return _build(tier.model_dump_json())


def relax_many(structures: Sequence[Structure], tier: TierConfig, *, single: bool = False) -> list[RelaxResult]:
    """Relax structures, or compute them as they are; many at once where the engine can do that.

    Parameters
    ----------
    structures
        Ordered, periodic structures; they are not changed.
    tier
        The tier.
    single
        Compute their energies as they are, as :func:`single_point` does.

    Returns
    -------
    list of RelaxResult
        In the order of the structures; a failure is a result like any other.

    Raises
    ------
    ConfigError
        If the calculator is unknown or does not accept its keywords.
    MissingExtraError
        If its package is not installed.
    """
    relaxer = _build(tier.model_dump_json(), single=True) if single else build_relaxer(tier)
    if isinstance(relaxer, BatchRelaxer):
        return relaxer.relax_batch(structures)
    return [relaxer.relax(structure) for structure in structures]


@cache
def _build(tier_json: str, *, single: bool = False) -> Relaxer:
    tier = TierConfig.model_validate_json(tier_json)
    relaxer = _relaxer(tier.model_copy(update={"max_steps": 0}) if single else tier)
    limit_threads(settings().threads)  # now that the libraries of the calculator are loaded
    return relaxer


def _relaxer(tier: TierConfig) -> Relaxer:
    """Return the compiled relaxer for potentials between pairs, GULP, or ASE for everything else."""
    if tier.calculator.lower() == "gulp":
        from fuse_flows.relax.gulp_tier import GulpRelaxer

        return GulpRelaxer(tier)
    if tier.calculator.lower() == SPP:
        return build_spp_relaxer(tier)
    from fuse_flows.relax.buckingham import BuckinghamCalculator

    calculator = make_calculator(tier)
    if isinstance(calculator, BuckinghamCalculator):
        from fuse_flows.relax.pair_tier import PairRelaxer

        return PairRelaxer(tier, calculator.tables, long_range=calculator.long_range)
    return AseRelaxer(tier, calculator)


def single_point(structure: Structure, tier: TierConfig) -> RelaxResult:
    """Compute the energy of a structure as it is, behind the same guards as a relaxation.

    Parameters
    ----------
    structure
        Ordered, periodic structure; it is not changed.
    tier
        Its calculator and guards count.

    Returns
    -------
    RelaxResult
        With an energy unless a guard or the calculator objected; after no step at all.

    Raises
    ------
    ConfigError
        If the calculator is unknown or does not accept its keywords.
    MissingExtraError
        If its package is not installed.
    """
    return _build(tier.model_dump_json(), single=True).relax(structure)


def relax_through(structure: Structure, tiers: Sequence[TierConfig]) -> list[RelaxResult]:
    """Relax a structure through tiers in order.

    A tier that only ran out of steps hands its structure on; any other failure ends the chain.

    Parameters
    ----------
    structure
        Ordered, periodic structure; it is not changed.
    tiers
        The tiers, cheapest first.

    Returns
    -------
    list of RelaxResult
        One for each tier that ran; the last one is the end of the candidate.

    Raises
    ------
    ConfigError
        If a calculator is unknown or does not accept its keywords.
    MissingExtraError
        If a package is not installed.
    """
    results: list[RelaxResult] = []
    for tier in tiers:
        result = build_relaxer(tier).relax(structure)
        results.append(result)
        if result.outcome not in {Outcome.CONVERGED, Outcome.NOT_CONVERGED}:
            break
        structure = result.structure
    return results
