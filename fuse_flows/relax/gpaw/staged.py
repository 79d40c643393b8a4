"""The staged relaxation with GPAW: stage after stage, guards in between, and the outcome at the end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.ase_tier import to_atoms
from fuse_flows.relax.base import Part
from fuse_flows.relax.gpaw.options import GPAW
from fuse_flows.relax.gpaw.process import Clock, Engine
from fuse_flows.relax.gpaw.stage import StageEnd, StageRun
from fuse_flows.relax.guards import Verdict, check_contacts
from fuse_flows.relax.result import Outcome, with_geometry
from fuse_flows.relax.staged import Progress, guarded, out_of_time, result_of

if TYPE_CHECKING:
    from pathlib import Path

    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.gpaw.options import GpawOptions


def relax_staged(
    structure: Structure,
    options: GpawOptions,
    tier: TierConfig,
    folder: Path,
    *,
    clock: Clock | None = None,
    begun: Progress | None = None,
    max_stages: int | None = None,
) -> Part:
    """Relax a structure through the stages of a GPAW tier, or through as many of them as there is time for.

    Parameters
    ----------
    structure
        The structure as the tier got it; the guards compare with its volume.
    options
        The options of the tier, complete.
    tier
        The tier, for its guards and ``relax_cell``.
    folder
        A new folder for GPAW's text.
    clock
        The time that the job has.
    begun
        What an earlier job came to; None to begin.
    max_stages
        Stages after which the job ends; None for all of them.

    Returns
    -------
    Part
        With a result when the relaxation has come to its end, with the progress otherwise; with a document of the
        stages that were run. The energy is that of the last stage, at its settings, and of no other.

    Raises
    ------
    ConfigError
        If GPAW cannot be started: no fault of the structure.
    """
    start, clock, now = time.monotonic(), clock or Clock(), begun or Progress()
    current, end, version = now.structure or structure, None, ""
    records: list[dict[str, Any]] = []
    verdict = check_contacts(tier, current.lattice.matrix, current.frac_coords) if begun is None else None
    interrupted, first, last = False, now.stage, len(options.stages) - 1
    if verdict is None:
        with Engine(folder) as engine:
            version = engine.version
            while verdict is None and now.stage <= last and not interrupted:
                if max_stages is not None and now.stage - first >= max_stages:
                    break
                run = StageRun(engine, options, options.stages[now.stage], tier, clock)
                end = run.relax(to_atoms(current), made=now.steps_of_stage, is_last=now.stage == last)
                records.append({"stage": now.stage + 1} | end.record)
                if end.state is not None:
                    current = with_geometry(structure, end.state.cell, end.state.frac_coords)
                interrupted = end.verdict is None
                verdict = _failure(end) or guarded(current, structure, tier)
                now = _advanced(now, end)
    now = now.put_down(current, time.monotonic() - start, interrupted=interrupted)
    if verdict is None and end is not None and now.stage > last:
        verdict = judge_end(end, options, tier)
    verdict = verdict or out_of_time(now, tier)
    document = {"kind": GPAW, "version": version, "stages": records} if records else None
    if verdict is None:
        return Part(None, now.to_dict(), document)
    has_energy = verdict.outcome.has_energy
    result = result_of(current.copy(), verdict, now, end, engine=GPAW, version=version, has_energy=has_energy)
    return Part(result, None, document)


def judge_end(end: StageEnd, options: GpawOptions, tier: TierConfig) -> Verdict:
    """Say how a relaxation ended whose last stage came to its end.

    Parameters
    ----------
    end
        The last stage.
    options
        The options of the tier.
    tier
        The tier.

    Returns
    -------
    Verdict
        ``CONVERGED``, or, when the steps were used up, ``ACCEPTED`` below the limits of forces and stress and
        ``NOT_CONVERGED`` above.
    """
    assert end.verdict is not None  # noqa: S101 - it came to its end
    if end.verdict.outcome is not Outcome.NOT_CONVERGED or end.state is None:
        return end.verdict
    fmax, smax = end.state.fmax, end.state.smax
    if fmax < options.force_limit and (not tier.relax_cell or (smax or 0.0) < options.stress_limit):
        return Verdict(Outcome.ACCEPTED, f"{end.verdict.reason}, below the limits of the tier")
    return end.verdict


def _failure(end: StageEnd) -> Verdict | None:
    """Return a verdict after which no other stage makes sense."""
    if end.verdict is None or end.verdict.outcome in {Outcome.CONVERGED, Outcome.NOT_CONVERGED}:
        return None
    return end.verdict


def _advanced(now: Progress, end: StageEnd) -> Progress:
    """Count a stage; one that was interrupted comes again with the steps it has left."""
    counted = now.counted(end.steps, end.corrections)
    if end.verdict is None:
        return replace(counted, steps_of_stage=now.steps_of_stage + end.steps)
    return replace(counted, stage=now.stage + 1, steps_of_stage=0)
