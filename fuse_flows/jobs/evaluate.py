"""A proposal goes through the tiers and becomes a candidate document: the one place where that happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.relax.tiers import relax_all_through
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.candidate import CandidateDoc
from fuse_flows.search.energies import compared
from fuse_flows.search.judge import Evaluation
from fuse_flows.structures.fingerprint import Cell, fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuse_flows.config import SearchConfig
    from fuse_flows.relax.result import RelaxResult
    from fuse_flows.search.propose import Proposal


def evaluate(proposal: Proposal, config: SearchConfig, references: Sequence[float | None] = ()) -> dict[str, Any]:
    """Relax a proposal; see :func:`evaluate_all`."""
    return evaluate_all([proposal], config, references)[0]


def evaluate_all(
    proposals: Sequence[Proposal], config: SearchConfig, references: Sequence[float | None] = ()
) -> list[dict[str, Any]]:
    """Relax proposals together.

    Parameters
    ----------
    proposals
        What to relax; those without a structure are recorded as not generated.
    config
        The search.
    references
        Energies of the walker's best candidate in each tier when the proposals were made, eV/atom.

    Returns
    -------
    list of dict
        A :class:`.CandidateDoc` for each, without a verdict, as plain values.
    """
    structures = [proposal.structure for proposal in proposals if proposal.structure is not None]
    relaxed = iter(relax_all_through(structures, config.tiers, references))
    return [
        candidate_of(proposal, [] if proposal.structure is None else next(relaxed), config) for proposal in proposals
    ]


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
    if document.enthalpy_per_atom is not None and results:
        tolerances = config.duplicates.energy_tolerance, config.duplicates.volume_tolerance
        cell = Cell.from_structure(results[-1].structure)
        key = fingerprint(cell, document.enthalpy_per_atom, *tolerances, document.space_group_number or 0)
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
        energy_per_atom=compared(candidate),
        n_atoms=candidate["n_atoms"] or 0,
        structure=candidate["structure"],
        pool_member=candidate.get("pool_member"),
        cluster_id=candidate["cluster_id"],
        volume_per_atom=candidate["volume"] / candidate["n_atoms"] if candidate.get("volume") else None,
        tier_energies=[compared(tier) for tier in candidate.get("tiers", ())],
    )
