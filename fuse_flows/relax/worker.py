"""A process that relaxes structures for another one: ``python -m fuse_flows.relax.worker``.

Requests come on stdin and answers go to stdout, one JSON document per line; numbers survive that to the last bit. The
process ends with its stdin. What engines print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax.clock import relax_timed
from fuse_flows.relax.result import Outcome, RelaxResult, with_geometry
from fuse_flows.relax.tiers import build_relaxer, single_relaxer

if TYPE_CHECKING:
    from fuse_flows.relax.ase_tier import AseRelaxer


def request_of(tier: TierConfig, structure: Structure, reference: float | None) -> dict[str, Any]:
    """Return what to ask a worker.

    Parameters
    ----------
    tier
        The tier; without steps it is asked for the energy of the structure as it is.
    structure
        Ordered structure.
    reference
        As for :meth:`fuse_flows.relax.ase_tier.AseRelaxer.relax`.

    Returns
    -------
    dict
        To be written as JSON.
    """
    return {
        "tier": tier.model_dump(mode="json") | {"max_steps": max(1, tier.max_steps)},
        "single": tier.max_steps == 0,
        "reference": reference,
        "path": [entry for entry in sys.path if entry],
        "numbers": [site.specie.Z for site in structure],
        "cell": structure.lattice.matrix.tolist(),
        "frac_coords": structure.frac_coords.tolist(),
    }


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Do what :func:`request_of` asks; :func:`result_of` reads the answer."""
    sys.path += [entry for entry in request["path"] if entry not in sys.path]  # where calculators are imported from
    tier = TierConfig.model_validate(request["tier"])
    structure = Structure(Lattice(request["cell"]), request["numbers"], request["frac_coords"])
    relaxer: Any = single_relaxer(tier) if request["single"] else build_relaxer(tier)
    result = relax_timed(relaxer.relax, structure, reference=request["reference"])
    return {
        "outcome": result.outcome.value,
        "cell": result.structure.lattice.matrix.tolist(),
        "frac_coords": result.structure.frac_coords.tolist(),
        "energy": result.energy,
        "fmax": result.fmax,
        "smax": result.smax,
        "steps": result.steps,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
        "reason": result.reason,
    }


def result_of(values: dict[str, Any], structure: Structure, relaxer: AseRelaxer) -> RelaxResult:
    """Return the result that a worker's answer stands for.

    Parameters
    ----------
    values
        The answer.
    structure
        The structure of the request.
    relaxer
        The relaxer on this side, for the names of the engine.

    Returns
    -------
    RelaxResult
        As if ``relaxer`` had relaxed the structure.
    """
    values = dict(values)
    cell, frac_coords = values.pop("cell"), values.pop("frac_coords")
    return RelaxResult(
        outcome=Outcome(values.pop("outcome")),
        structure=with_geometry(structure, cell, frac_coords),
        engine=relaxer.name,
        engine_version=relaxer.version,
        pressure=relaxer.tier.gigapascals,
        **values,
    )


def main() -> None:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            answers.write(json.dumps(answer(json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
