"""The job that generates structures for the pool, one for each number of formula units, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.config import SearchConfig
from fuse_flows.generators.planning import Share, generation_settings, units_to_generate
from fuse_flows.jobs.allocation import begin_structures
from fuse_flows.jobs.base import describe, own_output, search_job
from fuse_flows.jobs.parts import leave_rest, must_leave_rest, part_before
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.pool import GeneratedDoc, GenerationSummary
from fuse_flows.search.streams import generation_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobflow import Job, Response

    Progress = Callable[[int, int], None]


@search_job
def generate_structures(config: dict[str, Any], formula_units: int) -> dict[str, Any] | Response:
    """Generate structures with one number of formula units.

    If nothing comes of it (no combination of Wyckoff sites fits, all candidates are refused), that is recorded and the
    search goes on without them. When the allocation of the process comes to its end, or the search is asked to stop,
    the job stores how far it has come and is replaced by itself; only a plug-in is always run to its end.

    Parameters
    ----------
    config
        The :class:`.SearchConfig` as plain values.
    formula_units
        The number of formula units.

    Returns
    -------
    dict
        A :class:`.GeneratedDoc`.
    """
    stored = own_output()
    if stored is None:
        before = part_before()
        begun = None if before is None else before["begun"]
        begin_structures()
        search = SearchConfig.model_validate(config)
        stored = to_mongo(generated_document(search, formula_units, begun=begun, leaves_rest=must_leave_rest))
    return stored if stored.get("begun") is None else leave_rest(stored, generate_structures(config, formula_units))


def generated_document(
    config: SearchConfig,
    formula_units: int,
    progress: Progress | None = None,
    *,
    begun: dict[str, Any] | None = None,
    leaves_rest: Callable[[], bool] = lambda: False,
) -> GeneratedDoc:
    """Generate structures as a search asks for them.

    Parameters
    ----------
    config
        The search.
    formula_units
        The number of formula units.
    progress
        Told how many candidates are done, and of how many; None for nobody.
    begun
        Field of that name of a document that was returned before, to go on from there.
    leaves_rest
        Asked after each batch whether the rest is to be left to another call.

    Returns
    -------
    GeneratedDoc
        The structures that are kept, and what became of the others; or how far it has come.

    Raises
    ------
    ConfigError, MissingExtraError
        If the energy model, or the plug-in, is not there.
    """
    settings = generation_settings(config)
    seed = generation_seed(config.seed, formula_units)
    generator, model, rest = str(settings.optimiser), "", None
    if settings.plugin is not None:
        share, generator = _share_of_plugin(settings.plugin, config, formula_units, seed)
    else:
        from fuse_flows.generators.generate import generate
        from fuse_flows.relax.energy_model import energy_model

        energies = energy_model(config)
        model = f"{energies.name} {energies.version}".strip()
        made = generate(
            config.counts, formula_units, settings, energies, seed, progress, begun=begun, leaves_rest=leaves_rest
        )
        share = Share(made.members, made.evaluated, made.rejected, made.seconds, made.reason or "")
        rest = made.rest
    reason = share.reason
    if not share.members and not reason:
        counts = ", ".join(f"{name} {number}" for name, number in sorted(share.rejected.items()))
        reason = f"none of {share.evaluated} candidates is left ({counts or 'nothing was refused'})"
    summary = GenerationSummary(
        formula_units=formula_units,
        generator=generator,
        energy_model=model,
        evaluated=share.evaluated,
        kept=len(share.members),
        rejected=dict(share.rejected),
        seconds=dict(share.seconds),
        reason=reason,
    )
    members = [member.model_copy(update={"source": "generated"}) for member in share.members]
    return GeneratedDoc(search_id=config.search_id, summary=summary, members=members, begun=rest)


def generation_jobs(config: SearchConfig) -> dict[int, Job]:
    """Return the jobs that generate structures.

    Parameters
    ----------
    config
        The search.

    Returns
    -------
    dict
        Number of formula units to its job; empty if the search generates nothing.
    """
    jobs: dict[int, Job] = {}
    for units in units_to_generate(config) if config.pool.generate is not None else ():
        job = generate_structures(config.model_dump(mode="json"), units)
        place = f"generate structures of {units_in_words(units)}"
        job.name = f"{place} of {config.formula}"
        jobs[units] = describe(job, config, walker=0, segment=0, place=place)
    return jobs


def units_in_words(number: int) -> str:
    """Return a number of formula units in words, such as "2 formula units"."""
    return f"{number} formula unit{'s' if number > 1 else ''}"


def why_nothing(summaries: Sequence[GenerationSummary]) -> str:
    """Say why nothing at all came of a generation.

    Parameters
    ----------
    summaries
        What came of each number of formula units.

    Returns
    -------
    str
        On one line; equal reasons are given once.
    """
    units: dict[str, list[str]] = {}
    for summary in summaries:
        units.setdefault(summary.reason or "no energy could be computed", []).append(str(summary.formula_units))
    return "; ".join(f"{reason} (formula units: {', '.join(numbers)})" for reason, numbers in units.items())


def _share_of_plugin(name: str, config: SearchConfig, formula_units: int, seed: int) -> tuple[Share, str]:
    """Take what a generator of another package makes; returns also its name and version."""
    from fuse_flows.generators.plugins import plugin_version, share_of_plugin

    return share_of_plugin(name, config, formula_units, seed), f"{name} ({plugin_version(name)})"
