"""Chains of tiers: cheap ones first, each starts where the one before it ended."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fuse_flows.config import TierConfig
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.base import BatchRelaxer
from fuse_flows.relax.calculators import make_calculator
from fuse_flows.relax.clock import relax_timed, with_cpu_seconds
from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.relax.screening import screened
from fuse_flows.relax.second_pass import joined, needs_second_pass, tighter
from fuse_flows.relax.spp_tier import SPP, build_spp_relaxer
from fuse_flows.relax.threads import limit_threads
from fuse_flows.settings import settings
from fuse_flows.structures.symmetry import exactly_symmetric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


def at_once(tiers: Sequence[TierConfig]) -> int | None:
    """Return how many structures are worth relaxing together: one for each process, or all of them on a GPU.

    A job that is short of time looks at its clock between two such groups.

    Parameters
    ----------
    tiers
        The tiers.

    Returns
    -------
    int or None
        None for any number.
    """
    relaxers = [build_relaxer(tier) for tier in tiers]
    if any(isinstance(relaxer, AseRelaxer) and relaxer.calculator_runs_on_gpu for relaxer in relaxers):
        return None
    return settings().relax_workers


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
    if single:
        return _relaxed(single_relaxer(tier), structures)
    return _relaxed(build_relaxer(tier), _begun(structures, tier))


@cache
def _build(tier_json: str, *, single: bool = False) -> Relaxer:
    tier = TierConfig.model_validate_json(tier_json)
    relaxer = _relaxer(tier.model_copy(update={"max_steps": 0}) if single else tier)
    limit_threads(settings().threads)  # now that the libraries of the calculator are loaded
    return relaxer


def _relaxer(tier: TierConfig) -> Relaxer:
    """Return the compiled relaxer for potentials between pairs, GULP, or ASE for everything else."""
    if tier.calculator.lower() == "vasp":
        from fuse_flows.relax.vasp.tier import VaspRelaxer

        return VaspRelaxer(tier)
    if tier.calculator.lower() == "gpaw":
        from fuse_flows.relax.gpaw.tier import GpawRelaxer

        return GpawRelaxer(tier)
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
    return AseRelaxer(tier)


def single_relaxer(tier: TierConfig) -> Relaxer:
    """Return the relaxer of a tier that makes no step; see :func:`build_relaxer`."""
    return _build(tier.model_dump_json(), single=True)


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
    return single_relaxer(tier).relax(structure)


def relax_through(
    structure: Structure,
    tiers: Sequence[TierConfig],
    references: Sequence[float | None] = (),
    *,
    begin: int = 0,
    end: int | None = None,
) -> list[RelaxResult]:
    """Relax a structure through tiers in order; see :func:`relax_all_through`."""
    return relax_all_through([structure], tiers, references, begin=begin, end=end)[0]


def relax_all_through(
    structures: Sequence[Structure],
    tiers: Sequence[TierConfig],
    references: Sequence[float | None] = (),
    *,
    begin: int = 0,
    end: int | None = None,
) -> list[list[RelaxResult]]:
    """Relax structures through tiers in order; those of one tier are relaxed together.

    A tier that only ran out of steps hands its structure on; any other failure ends the chain.

    Parameters
    ----------
    structures
        Ordered, periodic structures; they are not changed.
    tiers
        The tiers, cheapest first.
    references
        Energies of the best candidate in each tier, eV/atom, against which structures are screened out; None, or
        none at all, where nothing is known.
    begin, end
        Only these of the tiers are run, the end excluded; None: to the last one. The others run in other jobs.

    Returns
    -------
    list of list of RelaxResult
        For each structure one for each tier that ran; the last one is the end of the candidate.

    Raises
    ------
    ConfigError
        If a calculator is unknown or does not accept its keywords.
    MissingExtraError
        If a package is not installed.
    """
    results: list[list[RelaxResult]] = [[] for _ in structures]
    going = dict(enumerate(structures))
    for number in range(len(tiers))[begin:end]:
        tier, reference = tiers[number], _reference(references, number)
        ended = _relax_together(tier, _begun(going.values(), tier), reference)
        if number == len(tiers) - 1:
            ended = _with_second_pass(ended, tier, reference)
        for place, result in zip(list(going), ended, strict=True):
            final = end_of_tier(result, tiers, number, references)
            results[place].append(final)
            if goes_on(final):
                going[place] = final.structure
            else:
                del going[place]
    return results


def _begun(structures: Iterable[Structure], tier: TierConfig) -> list[Structure]:
    """Return what a tier begins with."""
    return [exactly_symmetric(structure, tier.symprec) for structure in structures]


def end_of_tier(
    result: RelaxResult, tiers: Sequence[TierConfig], number: int, references: Sequence[float | None]
) -> RelaxResult:
    """Judge the end of a tier: what others wait for is screened out if it lies too high; see :func:`screened`."""
    if number == len(tiers) - 1:
        return result
    return screened(result, tiers[number], _reference(references, number))


def goes_on(result: RelaxResult) -> bool:
    """Tell whether the next tier gets the structure: it converged, or only ran out of steps."""
    return result.outcome.is_success or result.outcome is Outcome.NOT_CONVERGED


def _reference(references: Sequence[float | None], number: int) -> float | None:
    """Return the energy that is known of a tier, if any."""
    return references[number] if number < len(references) else None


def _with_second_pass(results: list[RelaxResult], tier: TierConfig, reference: float | None) -> list[RelaxResult]:
    """Relax what may become the best candidate further."""
    relaxer = build_relaxer(tier)
    places = [k for k, result in enumerate(results) if needs_second_pass(result, relaxer, reference)]
    again = _relax_together(tighter(tier), [results[k].structure for k in places], reference)
    seconds = dict(zip(places, again, strict=True))
    return [joined(result, seconds[k]) if k in seconds else result for k, result in enumerate(results)]


def _relax_together(tier: TierConfig, structures: list[Structure], reference: float | None) -> list[RelaxResult]:
    """Relax structures with one tier, in a batch where its relaxer has one."""
    if not structures:
        return []
    relaxer = build_relaxer(tier)
    looks = isinstance(relaxer, AseRelaxer) and tier.stop_above_best is not None
    known = {"reference": reference} if looks and reference is not None else {}
    return _relaxed(relaxer, structures, **known)


def _relaxed(relaxer: Any, structures: Sequence[Structure], **known: Any) -> list[RelaxResult]:
    """Relax structures together where a relaxer can do that, else one by one, and note the CPU seconds."""
    if len(structures) > 1 and isinstance(relaxer, BatchRelaxer):
        return with_cpu_seconds(lambda: relaxer.relax_batch(structures, **known))
    return [relax_timed(relaxer.relax, structure, **known) for structure in structures]
