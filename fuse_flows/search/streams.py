"""Random streams keyed by position in the search, so that a step run again draws the same numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Streams(NamedTuple):
    """Independent generators for the parts of one proposal."""

    propose: np.random.Generator
    rattle: np.random.Generator
    judge: np.random.Generator


def streams(seed: int, walker: int, step: int, proposal: int) -> Streams:
    """Return the random generators of one proposal.

    Parameters
    ----------
    seed
        Seed of the search.
    walker, step, proposal
        Position in the search: walker, step (0 for the first population) and number of the proposal in the step.

    Returns
    -------
    Streams
        Always the same generators for the same arguments, on any worker and in any order.
    """
    key = np.random.SeedSequence(seed, spawn_key=(walker, step, proposal))
    return Streams(*(np.random.default_rng(child) for child in key.spawn(len(Streams._fields))))
