"""Several walkers of one search: what each has for itself, when they meet, and what they exchange.

Whatever a walker learns from the others it learns at a meeting: after every ``walkers.meet_every`` steps all walkers
wait for one another. What happens there follows from their states alone, so that the search is the same however its
jobs are spread over workers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.config import SearchConfig
    from fuse_flows.search.state import SearchState

PATIENCE_EXHAUSTED = "patience exhausted"
"""Why a search ends that finds nothing better."""

# Apart from the streams of proposals, whose key has four parts.
_MEETING_STREAM = 1


def structures_of(config: SearchConfig, walker: int) -> int:
    """Return how many of the search's structures a walker may make, its first population included.

    Parameters
    ----------
    config
        The search.
    walker
        Number of the walker.

    Returns
    -------
    int
        ``stop.max_structures`` shared evenly; the first walkers take what is left over.
    """
    share, rest = divmod(config.stop.max_structures, config.walkers.number)
    return share + (walker < rest)


def temperature_of(config: SearchConfig, walker: int) -> float:
    """Return the Metropolis temperature of a walker while nothing melts it.

    Parameters
    ----------
    config
        The search.
    walker
        Number of the walker.

    Returns
    -------
    float
        eV/atom; a geometric ladder with replica exchange, else the same for all. Never above
        ``acceptance.max_temperature``.
    """
    rules = config.acceptance
    if not config.walkers.exchange:
        return rules.temperature
    return min(rules.temperature * config.walkers.temperature_ratio**walker, rules.max_temperature)


def do_meet(config: SearchConfig) -> bool:
    """Tell whether the search has walkers that meet."""
    return config.walkers.number > 1 and config.walkers.meet_every is not None


def last_meeting(config: SearchConfig, step: int) -> int:
    """Return the newest step at or before a given one at which the walkers met; 0 if they have not met yet.

    Parameters
    ----------
    config
        The search.
    step
        Step of a walker.
    """
    every = config.walkers.meet_every
    return step // every * every if every is not None and do_meet(config) else 0


def is_meeting(config: SearchConfig, step: int) -> bool:
    """Tell whether the walkers meet after a step; they begin without a meeting."""
    return step > 0 and last_meeting(config, step) == step


def steps_to_meeting(config: SearchConfig, step: int) -> float:
    """Return how many steps are left before the walkers meet; infinity if they never do."""
    every = config.walkers.meet_every
    return every - step % every if every is not None and do_meet(config) else math.inf


def may_leave(config: SearchConfig, step: int, states: Sequence[SearchState]) -> bool:
    """Tell whether the walkers that have come to a meeting may go on.

    Parameters
    ----------
    config
        The search.
    step
        The step after which they meet.
    states
        Newest states of all walkers that have begun.

    Returns
    -------
    bool
        Whether all walkers have been there, and not all of them have lost their patience.
    """
    if len(states) < config.walkers.number or any(state.step < step for state in states):
        return False
    return not have_lost_patience(config, states)


def have_lost_patience(config: SearchConfig, states: Sequence[SearchState]) -> bool:
    """Tell whether walkers that stand at the same meeting end there together.

    Parameters
    ----------
    config
        The search.
    states
        Newest states of all walkers.

    Returns
    -------
    bool
        False unless they all stand there; who has gone on did so because not all had lost their patience.
    """
    steps = {state.step for state in states}
    together = len(states) == config.walkers.number and len(steps) == 1 and is_meeting(config, max(steps))
    return together and all(state.since_best >= config.stop.patience for state in states)


def meet(states: Sequence[SearchState], config: SearchConfig) -> list[SearchState]:
    """Let walkers exchange their current structures.

    Replica exchange (Swendsen and Wang, Phys. Rev. Lett. 57, 2607 (1986)): walkers i and i + 1, with even i at every
    other meeting and odd i at those between, swap with probability min(1, exp((1/T_i - 1/T_j) (E_i - E_j))).

    Parameters
    ----------
    states
        One state of each walker, all after the same step, in the order of the walkers.
    config
        The search.

    Returns
    -------
    list of SearchState
        The states with which they go on.
    """
    after = list(states)
    if not config.walkers.exchange:
        return after
    step = states[0].step
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(_MEETING_STREAM, step)))
    draws = rng.random(len(states))
    for lower in range(last_meeting(config, step) // (config.walkers.meet_every or 1) % 2, len(states) - 1, 2):
        one, other = after[lower], after[lower + 1]
        if one.current is None or other.current is None:
            continue
        inverse = 1 / temperature_of(config, lower) - 1 / temperature_of(config, lower + 1)
        exponent = inverse * (one.current.energy_per_atom - other.current.energy_per_atom)
        swap = bool(draws[lower] < math.exp(min(exponent, 0.0)))
        after[lower], after[lower + 1] = _exchanged(one, other, swap=swap), _exchanged(other, one, swap=swap)
    return after


def _exchanged(state: SearchState, other: SearchState, *, swap: bool) -> SearchState:
    """Return a state after it was asked to swap its structure with another walker's."""
    update: dict[str, Any] = {"exchanges": state.exchanges.after(accepted=swap)}
    if swap:
        update |= {"current": other.current, "current_structure": other.current_structure}
    return state.model_copy(update=update)
