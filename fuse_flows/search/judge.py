"""Verdicts: the Metropolis rule, the counters, melting, and when to stop (paper, Section 2.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fuse_flows.search.state import CandidateSummary, MoveStatistics, SearchState
from fuse_flows.search.streams import streams
from fuse_flows.search.visited import VISITED_MINIMUM
from fuse_flows.search.volume import learned_volumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from fuse_flows.config import AcceptanceConfig, MoveName, SearchConfig
    from fuse_flows.search.propose import Proposal


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
        )


@dataclass(frozen=True)
class Verdict:
    """The next state, whether the candidate was accepted, and why."""

    state: SearchState
    accepted: bool
    reason: str


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
        temperature=config.acceptance.temperature,
        outcomes=_count([member.outcome for member in population]),
        used_pool_members=sorted(member.pool_member for member in population if member.pool_member is not None),
        volumes=learned_volumes((), population, config),
        began=began,
    )
    return state.model_copy(update={"stop_reason": should_stop(state, config)})


def judge(state: SearchState, proposal: Proposal, evaluation: Evaluation, config: SearchConfig) -> Verdict:
    """Accept or reject the candidate of one step.

    Downhill steps are accepted and cool the search; equal energies (after rounding) are rejected; uphill steps are
    accepted with probability exp(-dE/T). A failed candidate is rejected. With ``duplicates.reject`` so is one that
    relaxed into a visited minimum: it is no change, and resets no counter. Should such a copy lie lower than the best
    candidate (by less than the tolerance for copies, or it would be none) it becomes the best one, because `best` is
    the lowest energy seen.

    Parameters
    ----------
    state
        Where the walker stood when it made the proposal.
    proposal
        The proposal.
    evaluation
        What became of it.
    config
        The search.

    Returns
    -------
    Verdict
        With the state after the step.
    """
    rng = streams(config.seed, proposal.walker, proposal.step, proposal.index).judge
    rules = config.acceptance
    energy = (
        None if evaluation.energy_per_atom is None else quantised(evaluation.energy_per_atom, rules.energy_precision)
    )
    draw = rng.random()
    no_change = config.duplicates.reject and evaluation.is_duplicate
    accepted, reason = (False, VISITED_MINIMUM) if no_change else _metropolis(state, energy, draw)
    downhill = reason in ("downhill", "first success")
    candidate = None if energy is None else evaluation.summary(energy)
    new_best = candidate is not None and (state.best is None or candidate.energy_per_atom < state.best.energy_per_atom)
    update: dict[str, Any] = {
        "step": proposal.step,
        "n_structures": state.n_structures + 1,
        "since_best": 0 if new_best and not no_change else state.since_best + (0 if downhill else 1),
        "since_downhill": 0 if downhill else state.since_downhill + 1,
        "moves": _moves_after(state.moves, proposal, accepted=accepted),
        "volumes": learned_volumes(state.volumes, [evaluation], config),
        "outcomes": _count([evaluation.outcome], state.outcomes),
        **_heat(state, rules, rng.random(), accepted=accepted, downhill=downhill),
    }
    if proposal.pool_member is not None:
        update["used_pool_members"] = [*state.used_pool_members, proposal.pool_member]
    if new_best:
        update["best"] = candidate
    if accepted and evaluation.structure is not None:
        update |= {"current": candidate, "current_structure": dict(evaluation.structure)}
    after = state.model_copy(update=update)
    after = after.model_copy(update={"stop_reason": should_stop(after, config)})
    return Verdict(after, accepted, reason)


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
        return "target_energy reached"
    if state.n_structures >= stop.max_structures:
        return "max_structures reached"
    if state.since_best >= stop.patience:
        return "patience exhausted"
    if now and state.began and stop.wall_hours and now - state.began >= timedelta(hours=stop.wall_hours):
        return "wall_hours reached"
    return None


def quantised(energy: float, precision: float) -> float:
    """Round an energy to the nearest multiple of the precision.

    Parameters
    ----------
    energy
        eV/atom.
    precision
        eV/atom.

    Returns
    -------
    float
        eV/atom; equal minima found twice compare as equal.
    """
    digits = max(0, math.ceil(-math.log10(precision)) + 2)
    return round(round(energy / precision) * precision, digits)


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
    state: SearchState, rules: AcceptanceConfig, draw: float, *, accepted: bool, downhill: bool
) -> dict[str, Any]:
    """Cool after a downhill step, melt after a rejection once progress has been missing for long."""
    if downhill:
        return {"temperature": rules.temperature, "melted": False}
    if accepted or state.since_downhill + 1 < rules.melt_threshold:
        return {}
    return {"temperature": min(state.temperature + draw * rules.melt_step, rules.max_temperature), "melted": True}


def _moves_after(
    moves: dict[MoveName, MoveStatistics], proposal: Proposal, *, accepted: bool
) -> dict[MoveName, MoveStatistics]:
    """Add one proposal, and the moves that failed before it, to the statistics."""
    after = dict(moves)
    for name, reason in proposal.failures:
        old = after.get(name, MoveStatistics())
        after[name] = old.model_copy(update={"failed": _count([reason], old.failed)})
    if proposal.move is not None:
        old = after.get(proposal.move, MoveStatistics())
        update = {"proposed": old.proposed + 1, "accepted": old.accepted + int(accepted)}
        after[proposal.move] = old.model_copy(update=update)
    return after


def _count(names: Sequence[str], counts: Mapping[str, int] | None = None) -> dict[str, int]:
    """Add names to a table of counts."""
    after = dict(counts or {})
    for name in names:
        after[str(name)] = after.get(str(name), 0) + 1
    return after
