"""One document per candidate: everything a user may ask about a structure the search has visited."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from emmet.core.structure import StructureMetadata
from pydantic import Field

import fuse_flows
from fuse_flows.config import MoveName
from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.schemas.base import Document
from fuse_flows.structures.primitive import SYMPREC_LOOSE

if TYPE_CHECKING:
    from fuse_flows.search.propose import Proposal

SYMPREC_TIGHT = 0.01


class TierDoc(Document):
    """What one tier made of a candidate."""

    calculator: str = Field(description="Name of the calculator.")
    calculator_version: str = Field(description="Version of the package behind the calculator.")
    outcome: Outcome = Field(description="How the relaxation ended.")
    reason: str = Field("", description="Why it failed.")
    energy_per_atom: float | None = Field(None, description="Energy E, eV/atom.")
    enthalpy_per_atom: float | None = Field(None, description="Enthalpy E + p V, eV/atom: what is compared.")
    pressure: float = Field(0.0, description="Pressure p it relaxed at, GPa.")
    fmax: float | None = Field(None, description="Largest norm of a force, eV/A.")
    smax: float | None = Field(None, description="Largest component of the stress, counted from the pressure, GPa.")
    steps: int = Field(0, description="Steps of the optimiser.")
    seconds: float = Field(0.0, description="Wall time.")
    cpu_seconds: float | None = Field(None, description="CPU time; None where it is not known, as in a queue.")
    corrections: list[str] = Field(default_factory=list, description="Errors of the engine met on the way.")
    tasks: list[str] = Field(
        default_factory=list, description="Jobs whose outputs are the engine's own documents (atomate2's TaskDoc)."
    )

    @classmethod
    def from_result(cls, result: RelaxResult) -> Self:
        """Make the document from the result of a relaxation."""
        return cls(
            calculator=result.engine,
            calculator_version=result.engine_version,
            outcome=result.outcome,
            reason=result.reason,
            energy_per_atom=result.energy_per_atom,
            enthalpy_per_atom=result.enthalpy_per_atom,
            pressure=result.pressure,
            fmax=result.fmax,
            smax=result.smax,
            steps=result.steps,
            seconds=result.seconds,
            cpu_seconds=result.cpu_seconds,
            corrections=list(result.corrections),
            tasks=list(result.tasks),
        )


class CandidateDoc(StructureMetadata):
    """A candidate with its origin, its relaxation and its place in the search.

    The metadata of the relaxed structure (``formula_pretty``, ``chemsys``, ``nsites``, ``volume``, ``density``,
    ``symmetry`` ...) are at the top level, as in the documents of atomate2.
    """

    candidate_id: str = Field(description="Hash of search, walker, step and index.")
    search_id: str = Field(description="The search it belongs to.")
    formula: str = Field(description="Formula unit of the search.")
    walker: int = Field(description="Walker of the search.")
    step: int = Field(description="Step of the walker; 0 for the first population.")
    index: int = Field(description="Number of the proposal within the step.")
    parent_id: str | None = Field(None, description="Candidate that the move started from.")
    source: str = Field(description="Where it comes from: random, move, file or generated.")
    origin: str | None = Field(None, description="Name of the member of the pool that it is, such as its file.")
    pool_member: int | None = Field(None, description="Its number in the pool.")
    move: MoveName | None = Field(None, description="The move that was really used.")
    move_number: int | None = Field(None, description="Number of the move in the FUSE2 paper.")
    move_probability: float | None = Field(None, description="Probability with which the move was drawn.")
    failed_moves: list[tuple[MoveName, str]] = Field(
        default_factory=list, description="Moves tried before, with the reason why they failed."
    )
    cell: str = Field("", description="Which cell of the proposed crystal was relaxed; empty: the proposed one.")

    outcome: Outcome = Field(description="How its relaxation ended.")
    reason: str = Field("", description="Why it failed.")
    energy_per_atom: float | None = Field(
        None, description="Energy of the last tier, eV/atom, of `structure`; None if the relaxation failed."
    )
    energy: float | None = Field(None, description="Total energy E of `structure`, eV, without p V.")
    enthalpy_per_atom: float | None = Field(
        None, description="Enthalpy E + p V, eV/atom, by which candidates are compared; without a pressure the energy."
    )
    enthalpy: float | None = Field(None, description="Enthalpy of `structure`, eV.")
    pressure: float = Field(0.0, description="Pressure p of the last tier, GPa.")
    accepted: bool | None = Field(None, description="Verdict of the search; None for the first population.")
    verdict: str | None = Field(None, description="Reason of the verdict.")
    temperature: float | None = Field(None, description="Metropolis temperature of the verdict, eV/atom.")

    n_atoms: int | None = Field(None, description="Atoms in the relaxed cell.")
    formula_units: int | None = Field(None, description="Formula units in the relaxed cell.")
    space_group: str | None = Field(None, description=f"Symbol of the space group at symprec {SYMPREC_LOOSE} A.")
    space_group_number: int | None = Field(None, description=f"Its number at symprec {SYMPREC_LOOSE} A.")
    space_group_number_tight: int | None = Field(None, description=f"Its number at symprec {SYMPREC_TIGHT} A.")
    fingerprint: str | None = Field(
        None,
        description="Atoms of the primitive cell, bins of energy and volume, space group: equal or near for copies.",
    )
    cluster_id: str | None = Field(
        None, description="First candidate that relaxed into the same minimum, itself if it is new; None if it failed."
    )
    is_duplicate: bool | None = Field(None, description="Whether the minimum had been visited before.")
    structure_before: dict[str, Any] | None = Field(None, description="Structure as proposed (pymatgen).")
    structure: dict[str, Any] | None = Field(None, description="Relaxed structure (pymatgen).")

    tiers: list[TierDoc] = Field(default_factory=list, description="Tiers in order.")
    seconds: float = Field(0.0, description="Wall time of all tiers.")
    fuse_flows_version: str = Field(fuse_flows.__version__, description="Version of this package.")

    @classmethod
    def from_proposal(
        cls, proposal: Proposal, results: list[RelaxResult], *, search_id: str, formula: str, atoms_per_unit: int
    ) -> Self:
        """Put together what is known of a candidate once the tiers are through with it.

        Parameters
        ----------
        proposal
            What was proposed.
        results
            Results of the tiers, in order; empty if there was no structure to relax.
        search_id
            The search.
        formula
            Its formula unit.
        atoms_per_unit
            Atoms of one formula unit.

        Returns
        -------
        CandidateDoc
            Without a verdict.
        """
        values: dict[str, Any] = {
            "candidate_id": proposal.candidate_id,
            "search_id": search_id,
            "formula": formula,
            "walker": proposal.walker,
            "step": proposal.step,
            "index": proposal.index,
            "parent_id": proposal.parent_id,
            "source": proposal.source,
            "origin": proposal.origin,
            "pool_member": proposal.pool_member,
            "move": proposal.move,
            "move_number": None if proposal.move is None else proposal.move.number,
            "move_probability": proposal.move_probability,
            "failed_moves": list(proposal.failures),
            "cell": proposal.cell,
            "tiers": [TierDoc.from_result(result) for result in results],
            "seconds": sum(result.seconds for result in results),
        }
        if proposal.structure is None or not results:
            return cls(**values, outcome=Outcome.NOT_GENERATED, reason=proposal.reason)
        last = results[-1]
        structure = last.structure.copy()
        values |= {
            "outcome": last.outcome,
            "reason": last.reason,
            "pressure": last.pressure,
            "n_atoms": len(structure),
            "formula_units": len(structure) // atoms_per_unit,
            "structure_before": proposal.structure.as_dict(verbosity=0),
            "structure": structure.as_dict(verbosity=0),
        }
        if last.outcome.is_success:
            values |= {"energy": last.energy, "energy_per_atom": last.energy_per_atom} | _space_groups(structure)
            values |= {"enthalpy": last.enthalpy, "enthalpy_per_atom": last.enthalpy_per_atom}
        fields = [name for name in StructureMetadata.model_fields if name != "symmetry" or last.outcome.is_success]
        return cls.from_structure(meta_structure=structure, fields=fields, **values)


def _space_groups(structure: Any) -> dict[str, Any]:
    """Return the space group at two tolerances; nothing where spglib finds none."""
    import spglib

    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # it reports every tolerance it has to try to stderr
    cell = (structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure])
    loose = spglib.get_symmetry_dataset(cell, symprec=SYMPREC_LOOSE)
    tight = spglib.get_symmetry_dataset(cell, symprec=SYMPREC_TIGHT)
    found: dict[str, Any] = {}
    if loose is not None:
        found |= {"space_group": loose.international, "space_group_number": loose.number}
    if tight is not None:
        found["space_group_number_tight"] = tight.number
    return found
