"""A proposal goes through the tiers and becomes a candidate document: the one place where that happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.relax.tiers import relax_through
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.candidate import CandidateDoc
from fuse_flows.search.judge import Evaluation
from fuse_flows.structures.fingerprint import Cell, fingerprint

if TYPE_CHECKING:
    from fuse_flows.config import SearchConfig
    from fuse_flows.relax.result import RelaxResult
    from fuse_flows.search.propose import Proposal


def evaluate(proposal: Proposal, config: SearchConfig) -> dict[str, Any]:
    """Relax a proposal.

    Parameters
    ----------
    proposal
        What to relax; without a structure it is recorded as not generated.
    config
        The search.

    Returns
    -------
    dict
        A :class:`.CandidateDoc`, without a verdict, as plain values.
    """
    results = [] if proposal.structure is None else relax_through(proposal.structure, config.tiers)
    return candidate_of(proposal, results, config)


def candidate_of(proposal: Proposal, results: list[RelaxResult], config: SearchConfig) -> dict[str, Any]:
    """Put together what became of a proposal.

    Parameters
    ----------
    proposal
        What was proposed.
    results
        Results of the tiers, in order.
    config
        The search.

    Returns
    -------
    dict
        A :class:`.CandidateDoc`, without a verdict, as plain values.
    """
    document = CandidateDoc.from_proposal(
        proposal,
        results,
        search_id=config.search_id,
        formula=config.formula,
        atoms_per_unit=sum(config.counts.values()),
    )
    if document.energy_per_atom is not None and results:
        tolerances = config.duplicates.energy_tolerance, config.duplicates.volume_tolerance
        cell = Cell.from_structure(results[-1].structure)
        key = fingerprint(cell, document.energy_per_atom, *tolerances, document.space_group_number or 0)
        document.fingerprint = str(key)
    return to_mongo(document)


def evaluation_of(candidate: dict[str, Any]) -> Evaluation:
    """Return what the engine needs of a candidate document.

    Parameters
    ----------
    candidate
        A :class:`.CandidateDoc` as plain values.

    Returns
    -------
    Evaluation
        Without an energy if the relaxation failed.
    """
    return Evaluation(
        candidate_id=candidate["candidate_id"],
        step=candidate["step"],
        index=candidate["index"],
        outcome=candidate["outcome"],
        energy_per_atom=candidate["energy_per_atom"],
        n_atoms=candidate["n_atoms"] or 0,
        structure=candidate["structure"],
        pool_member=candidate.get("pool_member"),
        cluster_id=candidate["cluster_id"],
        volume_per_atom=candidate["volume"] / candidate["n_atoms"] if candidate.get("volume") else None,
    )
