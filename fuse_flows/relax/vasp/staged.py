"""The staged relaxation: stage after stage, guards in between, and the outcome at the end.

What a job has come to when its time is over is a :class:`VaspProgress`, from which another job goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fuse_flows.relax.base import Part
from fuse_flows.relax.guards import Verdict, check_contacts
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.staged import Progress, guarded, out_of_time, result_of
from fuse_flows.relax.vasp.documents import merged_document
from fuse_flows.relax.vasp.options import VASP
from fuse_flows.relax.vasp.stage import RunSettings, StageEnd, run_stage

if TYPE_CHECKING:
    from pathlib import Path

    from emmet.core.tasks import TaskDoc
    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.vasp.options import VaspOptions

_LABEL = "staged relaxation"
# Where time was over, the last stage that was run need not have been that whose settings count.
_WITH_ENERGY = frozenset({Outcome.CONVERGED, Outcome.ACCEPTED, Outcome.NOT_CONVERGED})


@dataclass(frozen=True)
class VaspProgress(Progress):
    """Where a relaxation stands between two jobs.

    Parameters
    ----------
    ionic
        Whether the last stage that moves atoms converged.
    """

    ionic: bool = True


def relax_staged(
    structure: Structure,
    options: VaspOptions,
    tier: TierConfig,
    folder: Path,
    *,
    watch: RunSettings | None = None,
    begun: VaspProgress | None = None,
    max_stages: int | None = None,
) -> Part:
    """Relax a structure through the stages of a VASP tier, or through as many of them as there is time for.

    Parameters
    ----------
    structure
        The structure as the tier got it; the guards compare with its volume.
    options
        The options of the tier.
    tier
        The tier, for its guards.
    folder
        A new folder; each stage works in a folder of its own in it.
    watch
        How the runs are watched.
    begun
        What an earlier job came to; None to begin.
    max_stages
        Stages after which the job ends; None for all of them.

    Returns
    -------
    Part
        With a result when the relaxation has come to its end, with the progress otherwise; with atomate2's TaskDoc of
        the stages that were run. The energy is that of the last stage, at its settings, and of no other.
    """
    start, watch, now = time.monotonic(), watch or RunSettings(), begun or VaspProgress()
    documents: list[TaskDoc] = []
    first, end = now.stage, None
    current = structure.get_sorted_structure() if now.structure is None else now.structure
    verdict = check_contacts(tier, current.lattice.matrix, current.frac_coords) if begun is None else None
    interrupted = False
    while verdict is None and now.stage < len(options.stages) and not interrupted:
        if max_stages is not None and now.stage - first >= max_stages:
            break
        left = None if watch.seconds_left is None else watch.seconds_left - (time.monotonic() - start)
        interrupted = left is not None and left <= watch.buffer_seconds
        if interrupted:
            break
        end = _next_stage(current, options, now, folder, replace(watch, seconds_left=left))
        documents += [] if end.document is None else [end.document]
        now, current, interrupted = _advanced(now, end, options), end.structure, end.interrupted
        verdict = end.failure or guarded(current, structure, tier)
    now = now.put_down(current, time.monotonic() - start, interrupted=interrupted)
    if verdict is None and end is not None and now.stage == len(options.stages):
        verdict = judge_end(end, options, now)
    verdict = verdict or out_of_time(now, tier)
    document = None
    if documents:
        document = merged_document(documents, first, label=_LABEL, keep_steps=options.keep_steps)
    if verdict is None:
        return Part(None, now.to_dict(), document)
    version = str(documents[-1].vasp_version or "") if documents else ""
    has_energy = verdict.outcome in _WITH_ENERGY
    result = result_of(_bare(current), verdict, now, end, engine=VASP, version=version, has_energy=has_energy)
    return Part(result, None, document)


def judge_end(end: StageEnd, options: VaspOptions, progress: VaspProgress) -> Verdict:
    """Say how a relaxation ended whose last stage was run.

    Parameters
    ----------
    end
        The last stage.
    options
        The options of the tier.
    progress
        Where it stands.

    Returns
    -------
    Verdict
        ``CONVERGED``, ``ELECTRONIC_FAILURE``, or, when the steps were used up, ``ACCEPTED`` below the limit of the
        forces and ``NOT_CONVERGED`` above. The norm of the force on each atom counts, whatever its direction.
    """
    if not end.electronic:
        return Verdict(Outcome.ELECTRONIC_FAILURE, "electrons not converged at the end of the last stage")
    if progress.ionic:
        return Verdict(Outcome.CONVERGED, "")
    left = f"force {end.fmax:.3g} eV/A after {progress.steps} steps"
    if end.fmax is not None and end.fmax < options.force_limit:
        return Verdict(Outcome.ACCEPTED, f"{left}, below the limit of {options.force_limit:g}")
    return Verdict(Outcome.NOT_CONVERGED, left)


def _next_stage(
    current: Structure, options: VaspOptions, now: VaspProgress, folder: Path, watch: RunSettings
) -> StageEnd:
    steps = options.incar_of(now.stage).get("NSW", 0) - now.steps_of_stage if now.steps_of_stage else None
    place = folder / f"stage{now.stage + 1}"
    return run_stage(current, options, now.stage, place, watch, max_steps=steps)


def _advanced(now: VaspProgress, end: StageEnd, options: VaspOptions) -> VaspProgress:
    """Count a stage; one that was interrupted comes again if it has steps left, with these."""
    counted = now.counted(end.steps, end.corrections)
    made, allowed = now.steps_of_stage + end.steps, options.incar_of(now.stage).get("NSW", 0)
    if end.interrupted and (made < allowed or end.energy is None):
        return replace(counted, steps_of_stage=made)
    ionic = end.ionic and not end.interrupted  # VASP itself takes a run that was asked to end for converged
    return replace(counted, stage=now.stage + 1, steps_of_stage=0, ionic=ionic if allowed > 1 else now.ionic)


def _bare(structure: Structure) -> Structure:
    """Return a copy without site properties, such as the magnetic moments of the last stage."""
    bare = structure.copy()
    for name in list(bare.site_properties):
        bare.remove_site_property(name)
    return bare
