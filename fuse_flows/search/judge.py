"""Verdicts: the Metropolis rule, the counters, melting, and when to stop (paper, Section 2.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fuse_flows.search.energies import quantised
from fuse_flows.search.policy import first_policy, learn
from fuse_flows.search.state import CandidateSummary, MoveStatistics, SearchState
from fuse_flows.search.streams import streams
from fuse_flows.search.visited import VISITED_MINIMUM
from fuse_flows.search.volume import learned_volumes
from fuse_flows.search.walkers import PATIENCE_EXHAUSTED, do_meet, structures_of, temperature_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from fuse_flows.config import MoveName, SearchConfig
    from fuse_flows.search.propose import Proposal


TARGET_REACHED = "target_energy reached"
"""Why a search ends that found what it was to find."""

WALL_HOURS_REACHED = "wall_hours reached"
"""Why a search ends whose time is over."""


@dataclass(frozen=True)
class Evaluation:
    """What the tiers made of a proposal.

    Parameters
    ----------
    candidate_id, step, index
        Which candidate.
    outcome
        How its relaxation ended.
    energy_per_atom
        Energy of the last tier, eV/atom; None unless the candidate may take part in the search. A failure compares
        as plus infinity whatever its size.
    n_atoms
        Atoms in the relaxed cell.
    structure
        Relaxed structure as a dictionary.
    pool_member
        Number of the pool member it was.
    cluster_id
        First candidate of the cluster of copies it belongs to, itself if it is a new minimum; None if nobody looked.
    volume_per_atom
        Volume of the relaxed cell, A^3 per atom; None if it is not known.
    tier_energies
        Energy at the end of each tier, eV/atom.
    """

    candidate_id: str
    step: int
    index: int
    outcome: str
    energy_per_atom: float | None = None
    n_atoms: int = 0
    structure: Mapping[str, Any] | None = None
    pool_member: int | None = None
    cluster_id: str | None = None
    volume_per_atom: float | None = None
    tier_energies: Sequence[float | None] = ()

    @property
    def is_duplicate(self) -> bool:
        """Whether it relaxed into a minimum that had been visited before."""
        return self.cluster_id not in (None, self.candidate_id)

    def summary(self, energy: float) -> CandidateSummary:
        """Return the short form that the state keeps, with the given (rounded) energy."""
        return CandidateSummary(
            candidate_id=self.candidate_id,
            step=self.step,
            index=self.index,
            energy_per_atom=energy,
            n_atoms=self.n_atoms,
            tier_energies=list(self.tier_energies),
        )


@dataclass(frozen=True)
class Verdict:
    """What a step came to.

    Parameters
    ----------
    state
        The next state.
    accepted
        For each proposal of the step, whether it became the current structure.
    reasons
        Why, or why not.
    """

    state: SearchState
    accepted: tuple[bool, ...]
    reasons: tuple[str, ...]


def start(
    config: SearchConfig, population: Sequence[Evaluation], walker: int = 0, began: datetime | None = None
) -> SearchState:
    """Begin a walk at the lowest member of the first population.

    Parameters
    ----------
    config
        The search.
    population
        The evaluated members; the order does not matter.
    walker
        Which walker begins.
    began
        The time, with its zone; from it ``stop.wall_hours`` are counted.

    Returns
    -------
    SearchState
        At step 0; without a current candidate if every member failed.
    """
    precision = config.acceptance.energy_precision
    successes = [
        (quantised(member.energy_per_atom, precision), member.index, member)
        for member in population
        if member.energy_per_atom is not None
    ]
    energy, _, lowest = min(successes, key=lambda item: item[:2], default=(None, None, None))
    summary = None if lowest is None or energy is None else lowest.summary(energy)
    state = SearchState(
        search_id=config.search_id,
        walker=walker,
        n_structures=len(population),
        current=summary,
        current_structure=None if lowest is None or lowest.structure is None else dict(lowest.structure),
        best=summary,
        temperature=temperature_of(config, walker),
        outcomes=_count([member.outcome for member in population]),
        used_pool_members=sorted(member.pool_member for member in population if member.pool_member is not None),
        volumes=learned_volumes((), population, config),
        began=began,
        policy=first_policy(config, population),
    )
    return state.model_copy(update={"stop_reason": should_stop(state, config)})


def judge(state: SearchState, step: Sequence[tuple[Proposal, Evaluation]], config: SearchConfig) -> Verdict:
    """Accept or reject the outcome of one step: of several proposals, the one of lowest energy.

    Downhill steps are accepted and cool the search; equal energies (after rounding) are rejected; uphill steps are
    accepted with probability exp(-dE/T). A failed candidate is rejected. With ``duplicates.reject`` so is one that
    relaxed into a visited minimum: it is no change, and resets no counter. Should such a copy lie lower than the best
    candidate (by less than the tolerance for copies, or it would be none) it becomes the best one, because `best` is
    the lowest energy seen.

    Parameters
    ----------
    state
        Where the walker stood when it made the proposals.
    step
        The proposals of the step, and what became of each.
    config
        The search.

    Returns
    -------
    Verdict
        With the state after the step.
    """
    first = step[0][0]
    rng = streams(config.seed, first.walker, first.step, first.index).judge
    rules = config.acceptance
    energies = [
        None if result.energy_per_atom is None else quantised(result.energy_per_atom, rules.energy_precision)
        for _, result in step
    ]
    chosen = _lowest(energies, [config.duplicates.reject and result.is_duplicate for _, result in step])
    proposal, evaluation = step[chosen]
    draw = rng.random()
    no_change = config.duplicates.reject and evaluation.is_duplicate
    accepted, reason = (False, VISITED_MINIMUM) if no_change else _metropolis(state, energies[chosen], draw)
    downhill = reason in ("downhill", "first success")
    results = zip((result for _, result in step), energies, strict=True)
    summaries = [result.summary(energy) for result, energy in results if energy is not None]
    lowest = min(summaries, key=lambda summary: summary.energy_per_atom, default=None)
    new_best = lowest is not None and (state.best is None or lowest.energy_per_atom < state.best.energy_per_atom)
    update: dict[str, Any] = {
        "step": proposal.step,
        "n_structures": state.n_structures + len(step),
        "since_best": 0 if new_best and not no_change else state.since_best + (0 if downhill else len(step)),
        "since_downhill": 0 if downhill else state.since_downhill + len(step),
        "moves": _moves_after(state.moves, [made for made, _ in step], accepted=proposal if accepted else None),
        "outcomes": _count([result.outcome for _, result in step], state.outcomes),
        "volumes": learned_volumes(state.volumes, [result for _, result in step], config),
        "policy": learn(state, step, config),
        **_heat(state, config, rng.random(), structures=len(step), accepted=accepted, downhill=downhill),
    }
    drawn = [made.pool_member for made, _ in step if made.pool_member is not None]
    if drawn:
        update["used_pool_members"] = [*state.used_pool_members, *drawn]
    if new_best:
        update["best"] = lowest
    energy = energies[chosen]
    if accepted and energy is not None and evaluation.structure is not None:
        update |= {"current": evaluation.summary(energy), "current_structure": dict(evaluation.structure)}
    after = state.model_copy(update=update)
    after = after.model_copy(update={"stop_reason": should_stop(after, config)})
    reasons = [reason if k == chosen else _why_not(energy) for k, energy in enumerate(energies)]
    return Verdict(after, tuple(accepted and k == chosen for k in range(len(step))), tuple(reasons))


def should_stop(state: SearchState, config: SearchConfig, now: datetime | None = None) -> str | None:
    """Say whether a walk is at its end.

    Parameters
    ----------
    state
        Where the walker stands.
    config
        The search, whose ``stop`` section counts.
    now
        The time, with its zone; None: ``stop.wall_hours`` is not looked at.

    Returns
    -------
    str or None
        Why it ends, or None if it goes on.
    """
    stop = config.stop
    if stop.target_energy is not None and state.best and state.best.energy_per_atom <= stop.target_energy:
        return TARGET_REACHED
    if state.n_structures + config.proposals_per_step > structures_of(config, state.walker):  # a whole step must fit
        return "max_structures reached"
    if state.since_best >= stop.patience and not do_meet(config):
        return PATIENCE_EXHAUSTED
    if now and state.began and stop.wall_hours and now - state.began >= timedelta(hours=stop.wall_hours):
        return WALL_HOURS_REACHED
    return None


def _lowest(energies: Sequence[float | None], known: Sequence[bool]) -> int:
    """Return which proposal of a step is judged: the lowest one that leads somewhere new, else the lowest, else any."""
    places = [k for k, energy in enumerate(energies) if energy is not None]
    new = [k for k in places if not known[k]]
    return min(new or places, key=lambda k: (energies[k], k), default=0)


def _why_not(energy: float | None) -> str:
    """Say why a proposal was not the one that is judged."""
    return "failed" if energy is None else "not the lowest of its step"


def _metropolis(state: SearchState, energy: float | None, draw: float) -> tuple[bool, str]:
    """Apply the acceptance rule to a rounded energy with a uniform draw from [0, 1)."""
    if energy is None:
        return False, "failed"
    if state.current is None:
        return True, "first success"
    difference = energy - state.current.energy_per_atom
    if difference < 0:
        return True, "downhill"
    if difference == 0:
        return False, "equal energy"
    accepted = draw < math.exp(-difference / state.temperature)
    return accepted, "uphill, accepted" if accepted else "uphill, rejected"


def _heat(
    state: SearchState, config: SearchConfig, draw: float, *, structures: int, accepted: bool, downhill: bool
) -> dict[str, Any]:
    """Cool after a downhill step, melt after a rejection once progress has been missing for long."""
    rules = config.acceptance
    if downhill:
        return {"temperature": temperature_of(config, state.walker), "melted": False}
    if accepted or state.since_downhill + structures < rules.melt_threshold:
        return {}
    return {"temperature": min(state.temperature + draw * rules.melt_step, rules.max_temperature), "melted": True}


def _moves_after(
    moves: dict[MoveName, MoveStatistics], proposals: Sequence[Proposal], *, accepted: Proposal | None
) -> dict[MoveName, MoveStatistics]:
    """Add the proposals of a step, and the moves that failed before them, to the statistics."""
    after = dict(moves)
    for proposal in proposals:
        for name, reason in proposal.failures:
            old = after.get(name, MoveStatistics())
            after[name] = old.model_copy(update={"failed": _count([reason], old.failed)})
        if proposal.move is not None:
            old = after.get(proposal.move, MoveStatistics())
            update = {"proposed": old.proposed + 1, "accepted": old.accepted + (proposal is accepted)}
            after[proposal.move] = old.model_copy(update=update)
    return after


def _count(names: Sequence[str], counts: Mapping[str, int] | None = None) -> dict[str, int]:
    """Add names to a table of counts."""
    after = dict(counts or {})
    for name in names:
        after[str(name)] = after.get(str(name), 0) + 1
    return after
