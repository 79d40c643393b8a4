"""The job that generates structures for the pool, one for each number of formula units, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.config import SearchConfig
from fuse_flows.generators.planning import Share, generation_settings, units_to_generate
from fuse_flows.jobs.base import describe, own_output, search_job
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.pool import GeneratedDoc, GenerationSummary
from fuse_flows.search.streams import generation_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobflow import Job

    Progress = Callable[[int, int], None]


@search_job
def generate_structures(config: dict[str, Any], formula_units: int) -> dict[str, Any]:
    """Generate structures with one number of formula units.

    If nothing comes of it (no combination of Wyckoff sites fits, all candidates are refused), that is recorded and the
    search goes on without them.

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
    if stored is not None:
        return stored
    search = SearchConfig.model_validate(config)
    return to_mongo(generated_document(search, formula_units))


def generated_document(config: SearchConfig, formula_units: int, progress: Progress | None = None) -> GeneratedDoc:
    """Generate structures as a search asks for them.

    Parameters
    ----------
    config
        The search.
    formula_units
        The number of formula units.
    progress
        Told how many candidates are done, and of how many; None for nobody.

    Returns
    -------
    GeneratedDoc
        The structures that are kept, and what became of the others.

    Raises
    ------
    ConfigError, MissingExtraError
        If the energy model, or the plug-in, is not there.
    """
    settings = generation_settings(config)
    seed = generation_seed(config.seed, formula_units)
    generator, model = str(settings.optimiser), ""
    if settings.plugin is not None:
        share, generator = _share_of_plugin(settings.plugin, config, formula_units, seed)
    else:
        share, model = _own_share(config, formula_units, seed, progress)
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
    return GeneratedDoc(search_id=config.search_id, summary=summary, members=members)


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


def _own_share(config: SearchConfig, formula_units: int, seed: int, progress: Progress | None) -> tuple[Share, str]:
    """Generate with an optimiser and an energy model; returns also name and version of the model."""
    from fuse_flows.generators.generate import generate
    from fuse_flows.relax.energy_model import energy_model

    model = energy_model(config)
    settings = generation_settings(config)
    made = generate(config.counts, formula_units, settings, model, seed, progress)
    share = Share(made.members, made.evaluated, made.rejected, made.seconds, made.reason or "")
    return share, f"{model.name} {model.version}".strip()
