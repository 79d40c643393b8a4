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


def generation_seed(seed: int, formula_units: int) -> int:
    """Return the seed of the structures that are generated for one number of formula units.

    Parameters
    ----------
    seed
        Seed of the search.
    formula_units
        The number of formula units.

    Returns
    -------
    int
        From 0 to 2**32 - 1; the same for the same arguments, and independent of what :func:`streams` returns.
    """
    return int(np.random.SeedSequence(seed, spawn_key=(formula_units,)).generate_state(1)[0])
