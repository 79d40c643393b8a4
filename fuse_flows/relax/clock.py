"""CPU time of relaxations: what a structure cost, also where many programs share a machine."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymatgen.core import Structure

    from fuse_flows.relax.result import RelaxResult


def cpu_clock() -> float:
    """Return the CPU seconds of all threads of this process and of its children that have ended."""
    spent = os.times()
    return time.process_time() + spent.children_user + spent.children_system


def with_cpu_seconds(relax: Callable[[], list[RelaxResult]]) -> list[RelaxResult]:
    """Relax, and note the CPU seconds.

    Parameters
    ----------
    relax
        Relaxes structures.

    Returns
    -------
    list of RelaxResult
        Structures that were relaxed together share evenly; those that were relaxed by a child that still lives bring
        their own number.
    """
    begun = cpu_clock()
    results = relax()
    share = (cpu_clock() - begun) / max(len(results), 1)
    return [
        result if result.cpu_seconds is not None else replace(result, cpu_seconds=round(share, 6)) for result in results
    ]


def relax_timed(relax: Callable[..., RelaxResult], structure: Structure, **keywords: Any) -> RelaxResult:
    """Relax one structure, and note the CPU seconds.

    Parameters
    ----------
    relax
        Relaxes a structure.
    structure
        Its first argument.
    **keywords
        Its other arguments.

    Returns
    -------
    RelaxResult
        With ``cpu_seconds``.
    """
    (result,) = with_cpu_seconds(lambda: [relax(structure, **keywords)])
    return result
