"""Relaxes many structures at once with an engine that computes many at once, and keeps its batches full.

A structure that has ended leaves the batch and the next one enters. Batches are limited by the number of atoms; where
the memory does not suffice, or one structure makes the engine fail, a batch is computed in halves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.course import Course, End

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from pymatgen.core import Structure

    from fuse_flows.relax.ase_tier import AseRelaxer
    from fuse_flows.relax.cell import Numbers
    from fuse_flows.relax.result import RelaxResult


class _Engine:
    """An engine that computes many structures at once, and the atoms that it can take."""

    def __init__(self, calculator: Any, capacity: int | None) -> None:
        self._calculator = calculator
        self.capacity: int = calculator.batch_capacity() if capacity is None else capacity

    def compute(self, crystals: Sequence[Atoms]) -> list[Numbers | Exception]:
        """Compute crystals; those that the engine fails at get its exception."""
        n_atoms = sum(map(len, crystals))
        if n_atoms <= self.capacity or len(crystals) == 1:
            try:
                return list(self._calculator.compute_many(crystals))
            except Exception as error:  # noqa: BLE001 - engines raise anything; see AseRelaxer.relax
                if len(crystals) == 1:
                    return [error]
                if _is_out_of_memory(error):
                    self.capacity = max(1, n_atoms // 2)
        half = len(crystals) // 2
        return [*self.compute(crystals[:half]), *self.compute(crystals[half:])]


def relax_together(
    relaxer: AseRelaxer, structures: Sequence[Structure], *, reference: float | None = None, capacity: int | None = None
) -> list[RelaxResult]:
    """Relax many structures with our L-BFGS; the engine computes them in batches.

    Parameters
    ----------
    relaxer
        Its calculator has ``compute_many(crystals)``, which returns the numbers of each, and ``batch_capacity()``.
    structures
        Ordered, periodic structures; they are not changed.
    reference
        Energy of the best candidate in the tier, eV/atom, for ``tier.stop_above_best``.
    capacity
        Atoms in one batch, at least one structure in any case; None: what the calculator says.

    Returns
    -------
    list of RelaxResult
        In the order of the structures. Seconds count from when a structure entered, the others' share included.
    """
    engine = _Engine(relaxer.calculator, capacity)
    results: dict[int, RelaxResult] = {}
    running: dict[int, tuple[Course, float]] = {}
    waiting = list(range(len(structures)))[::-1]
    while running or waiting:
        used = sum(len(course.crystal.atoms) for course, _ in running.values())
        while waiting and (not running or used + len(structures[waiting[-1]]) <= engine.capacity):
            place, start = waiting.pop(), time.monotonic()
            course = relaxer.course_of(structures[place], start, reference)
            if isinstance(course, End):
                results[place] = relaxer.result(structures[place], course, time.monotonic() - start)
            else:
                running[place] = course, start
                used += len(structures[place])
        _advance([course for course, _ in running.values()], engine)
        for place, (course, start) in list(running.items()):
            if course.end is not None:
                results[place] = relaxer.result(structures[place], course.end, time.monotonic() - start)
                del running[place]
    return [results[place] for place in range(len(structures))]


def _advance(courses: Sequence[Course], engine: _Engine) -> None:
    """Move every course on by one call of the engine."""
    wanting = [course for course in courses if _seeks(course)]
    if not wanting:
        return
    for course, answer in zip(wanting, engine.compute([course.crystal.atoms for course in wanting]), strict=True):
        if isinstance(answer, Exception):
            course.fail(answer)
            continue
        try:
            course.take(answer)
        except Exception as error:  # noqa: BLE001 - keeps the last good structure; see AseRelaxer.relax
            course.fail(error)


def _seeks(course: Course) -> bool:
    try:
        return course.seek()
    except Exception as error:  # noqa: BLE001 - as above
        course.fail(error)
        return False


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an engine had too little memory; torch has a class of its own for it."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()
