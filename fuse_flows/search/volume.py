"""What a walker has learned about the volume per atom, and the window that follows for its next proposals.

Before anything was relaxed the estimate comes from the volumes of the elements, and from the pool if there is one.
Then the lowest distinct candidates take over, those close to the lowest one counting most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fuse_flows.search.state import VolumeSample
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.volumes import VolumeWindow, estimated_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.config import DuplicatesConfig, SearchConfig
    from fuse_flows.search.judge import Evaluation

MOST_SAMPLES = 10
"""Candidates that are remembered."""

ENERGY_SCALE = 0.1
"""A candidate this far above the lowest one (eV/atom) counts 1/e of it."""

_SPREADS = 3.0
"""The window reaches at least this many standard deviations to either side."""

_POOL_WEIGHT = 3.0
"""Weight of the pool against that of the elements, and of the lowest candidate, which is 1."""

_DIGITS = 4


def volume_window(config: SearchConfig, samples: Sequence[VolumeSample] = ()) -> VolumeWindow:
    """Return what volumes per atom proposals may have, and which is the most likely.

    The target is the weighted geometric mean of the estimate from the elements (weight 1) and of what was learned: of
    the samples (Boltzmann weights, 1 for the lowest) or, before there are any, of the pool. The window reaches from
    ``volume.low`` to ``volume.high`` times the target, or further where what was learned spreads further.

    Parameters
    ----------
    config
        The search.
    samples
        What the walker has learned so far.

    Returns
    -------
    VolumeWindow
        In A^3 per atom.
    """
    values, weights = [estimated_volume(FormulaUnit.from_config(config))], [1.0]
    if config.volume.learn and samples:
        lowest = min(sample.energy_per_atom for sample in samples)
        values += [sample.volume_per_atom for sample in samples]
        weights += [float(np.exp((lowest - sample.energy_per_atom) / ENERGY_SCALE)) for sample in samples]
    elif config.volume.learn and config.pool.is_there and config.pool.volume is not None:
        values.append(config.pool.volume)
        weights.append(_POOL_WEIGHT)
    logs = np.log(values)
    mean = float(np.average(logs, weights=weights))
    spread = float(np.exp(_SPREADS * np.sqrt(np.average((logs - mean) ** 2, weights=weights))))
    target = float(np.exp(mean))
    low, high = target * min(config.volume.low, 1 / spread), target * max(config.volume.high, spread)
    return VolumeWindow(target, low, high)


def learned_volumes(
    samples: Sequence[VolumeSample], evaluations: Sequence[Evaluation], config: SearchConfig
) -> list[VolumeSample]:
    """Add candidates to what was learned; the lowest distinct ones are kept.

    Parameters
    ----------
    samples
        What was known before.
    evaluations
        Candidates in any order; failures teach nothing.
    config
        ``duplicates`` says when two candidates are the same.

    Returns
    -------
    list of VolumeSample
        At most ten, the lowest first.
    """
    if not config.volume.learn:
        return list(samples)
    fresh = [
        VolumeSample(
            energy_per_atom=round(evaluation.energy_per_atom, _DIGITS),
            volume_per_atom=round(evaluation.volume_per_atom, _DIGITS),
        )
        for evaluation in evaluations
        if evaluation.energy_per_atom is not None and evaluation.volume_per_atom
    ]
    ordered = sorted([*samples, *fresh], key=lambda sample: (sample.energy_per_atom, sample.volume_per_atom))
    kept: list[VolumeSample] = []
    for sample in ordered:
        if not any(_are_alike(sample, other, config.duplicates) for other in kept):
            kept.append(sample)
    return kept[:MOST_SAMPLES]


def _are_alike(one: VolumeSample, other: VolumeSample, tolerances: DuplicatesConfig) -> bool:
    """Tell whether two candidates may be the same minimum, by energy and volume only."""
    energy = abs(one.energy_per_atom - other.energy_per_atom)
    volume = abs(one.volume_per_atom / other.volume_per_atom - 1)
    return energy < tolerances.energy_tolerance and volume < tolerances.volume_tolerance
