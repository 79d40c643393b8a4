"""Generation of structures: an optimiser varies crystals of one composition to lower their predicted energies.

Source: FUSE2 paper, 10.1039/d4fd00094c, Section 2.1; Cheng et al., Nat. Commun. 13, 1492 (2022).
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.generators import filters
from fuse_flows.generators.optimisers.base import Asked, Box
from fuse_flows.generators.optimisers.registry import make_optimiser
from fuse_flows.generators.pool import PoolMember
from fuse_flows.generators.space.decode import NoCombinationError, SearchSpace
from fuse_flows.generators.space.packing import packing_distances
from fuse_flows.generators.variety import first_of_copies
from fuse_flows.generators.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from fuse_flows.config import GenerationConfig
    from fuse_flows.generators.base import Cell, EnergyModel
    from fuse_flows.generators.space.decode import Crystals

NO_ENERGY = "no energy"
COPY = "copy"
"""Reasons beside those of :mod:`fuse_flows.generators.filters`; copies were evaluated, but are not kept."""

_SPARE = 10
"""So many times the structures that are kept are remembered, because some turn out to be copies."""
_TIGHT = 0.8
"""Candidates whose atoms were pushed apart may have contacts down to this times the distance that was aimed at."""
_LEAST_ASK, _ASK = 50, 500
"""Candidates that are decoded and filtered at once."""
_MOST_NUMBERS = 1_000_000
"""Numbers in a state: about 13 MB, where one document of MongoDB takes 16."""
_FRUITLESS = 50_000
"""Candidates in a row that may be refused before generation ends with what it has."""


@dataclass(frozen=True)
class Generated:
    """What generation has made for one number of formula units.

    Attributes
    ----------
    members
        Structures that were kept, the lowest predicted energy (``energy_per_atom``) first; no two are copies.
    evaluated
        Candidates whose energy was predicted.
    attempted
        Candidates that the optimiser proposed.
    rejected
        How many were refused, by reason.
    seconds
        CPU seconds of this process by phase: ask, separate, decode, filter, model, tell, select.
    space_groups
        Space group that each member was made in; its symmetry may be higher.
    reason
        Why there are fewer candidates than wanted, or none; None if there are enough.
    rest
        State of a generation whose rest was left to another call; then there are no members yet. None: it is done.
    """

    members: list[PoolMember]
    evaluated: int
    attempted: int
    rejected: dict[str, int]
    seconds: dict[str, float]
    space_groups: list[int]
    reason: str | None = None
    rest: dict[str, Any] | None = None


@dataclass
class _Clock:
    """CPU seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - begun


class Generation:
    """A generation under way, which can be stopped after any batch and continued.

    Parameters
    ----------
    counts
        Atoms of each element in one formula unit.
    formula_units
        Formula units in the primitive cell.
    settings
        Optimiser, numbers of candidates, space groups.
    model
        Predicts the energies.
    seed
        Decides everything.

    Raises
    ------
    ConfigError
        If an element is unknown (also to the model), if no Wyckoff combination fits, or if a setting is wrong.
    """

    def __init__(
        self, counts: dict[str, int], formula_units: int, settings: GenerationConfig, model: EnergyModel, seed: int
    ) -> None:
        self.space = SearchSpace(counts, formula_units, settings.space_groups)
        model.check(list(counts))
        self.settings, self.model, self.formula_units = settings, model, formula_units
        self._box = Box(self.space.dimensions, choices=len(self.space.groups), structured=2)
        self.optimiser = make_optimiser(settings.optimiser, self._box, (seed, formula_units))
        self.rejected: Counter[str] = Counter()
        self.evaluated = self.attempted = self._fruitless = 0
        self._limits = filters.contact_limits(self.space.numbers, settings.contacts)
        self._packing = packing_distances(self.space.numbers) if settings.separate else None
        if self._packing is not None:
            self._limits = np.maximum(self._limits, _TIGHT * self._packing)
        self._clock = _Clock()
        self._queue = Waiting.of(self.space)
        self._best_vectors = np.empty((0, self.space.dimensions))
        self._best_energies = np.empty(0)
        self._best_numbers = np.empty(0, dtype=np.int64)

    @property
    def finished(self) -> bool:
        """Whether all candidates are evaluated, or no more are to be had."""
        return self.evaluated >= self.settings.candidates or self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether too many candidates in a row were refused."""
        return self._fruitless >= _FRUITLESS

    def step(self) -> None:
        """Evaluate one batch."""
        want = min(self.settings.batch_size, self.settings.candidates - self.evaluated)
        self._fill(want)
        (asked, crystals), self._queue = self._queue.pick(slice(want)), self._queue.pick(slice(want, None))
        if not len(crystals):
            return
        with self._clock.phase("model"):
            energies = np.asarray(self.model.energies(crystals.cells()), dtype=np.float64)
        known = np.isfinite(energies)
        self.rejected[NO_ENERGY] += int((~known).sum())
        with self._clock.phase("tell"):
            self.optimiser.tell(asked, np.where(known, energies, np.inf))
        self._remember(asked.vectors[known], energies[known], self.evaluated + np.flatnonzero(known))
        self.evaluated += len(energies)

    def _fill(self, want: int) -> None:
        """Ask for candidates until enough of them pass the filters."""
        while len(self._queue) < want and not self.exhausted:
            with self._clock.phase("ask"):
                asked = self.optimiser.ask(self._portion(want - len(self._queue)))
            if not asked.tickets.size:
                return
            if self._packing is not None:
                with self._clock.phase("separate"):
                    self.space.separate(asked.vectors, self._packing)
            with self._clock.phase("decode"):
                crystals = self.space.decode(asked.vectors)
            with self._clock.phase("filter"):
                fine = self._passing(crystals)
            self.attempted += len(fine)
            self._fruitless = 0 if fine.any() else self._fruitless + len(fine)
            refused = Asked(asked.tickets[~fine], asked.vectors[~fine])
            with self._clock.phase("tell"):
                self.optimiser.tell(refused, np.full(refused.tickets.size, np.inf))
            self._queue = self._queue.joined(Waiting(asked, crystals).pick(fine))

    def _portion(self, lacking: int) -> int:
        """Return how many candidates to ask for so that about as many as are lacking pass."""
        passed = self.evaluated + len(self._queue)
        return int(np.clip(lacking * (self.attempted + 100) / (passed + 50), _LEAST_ASK, _ASK))

    def _passing(self, crystals: Crystals) -> NDArray[np.bool_]:
        """Apply the filters and count the reasons."""
        found = filters.reasons(crystals, self._limits, volumes=self.space.volumes, gap=self.settings.slab)
        self.rejected.update(reason for reason in found if reason)
        return np.array([not reason for reason in found], dtype=bool)

    def _remember(
        self, vectors: NDArray[np.float64], energies: NDArray[np.float64], numbers: NDArray[np.int64]
    ) -> None:
        """Keep the lowest candidates, one of each lineage (of each pair of the entries that decide on the symmetry)."""
        all_energies = np.concatenate([self._best_energies, energies])
        all_vectors = np.concatenate([self._best_vectors, vectors])
        order = np.argsort(all_energies, kind="stable")
        _, first = np.unique(all_vectors[order][:, : self._box.structured], axis=0, return_index=True)
        order = order[np.sort(first)][: _SPARE * self.settings.keep]
        self._best_energies = all_energies[order]
        self._best_vectors = all_vectors[order]
        self._best_numbers = np.concatenate([self._best_numbers, numbers])[order]

    def result(self) -> Generated:
        """Return the lowest different structures so far."""
        with self._clock.phase("select"):
            crystals = self.space.decode(self._best_vectors)
            chosen, copies = first_of_copies(crystals, self.settings.keep)
            cells = crystals.pick(chosen).cells()
            members = [self._member(int(k), cell) for k, cell in zip(chosen, cells, strict=True)]
        groups = crystals.groups[chosen].tolist()
        rejected = {reason: n for reason, n in sorted((self.rejected + Counter({COPY: copies})).items()) if n}
        seconds = {phase: round(spent, 3) for phase, spent in self._clock.seconds.items()}
        return Generated(members, self.evaluated, self.attempted, rejected, seconds, groups, self._reason())

    def _member(self, k: int, cell: Cell) -> PoolMember:
        """Return the k-th best candidate for the pool."""
        member = PoolMember.from_structure(f"Z{self.formula_units}-{self._best_numbers[k]:05d}", cell.to_structure())
        return member.model_copy(update={"energy_per_atom": round(float(self._best_energies[k]), 6)})

    def _reason(self) -> str | None:
        if not self.exhausted or self.evaluated >= self.settings.candidates:
            return None
        most = self.rejected.most_common(1)[0][0]
        return (
            f"only {self.evaluated} of {self.settings.candidates} candidates: the last {self._fruitless} were refused "
            f"(most often: {most}); allow shorter contacts, other space groups or fewer formula units"
        )

    @property
    def remembered(self) -> int:
        """About how many numbers :meth:`state` holds, apart from those of the optimiser."""
        return self._best_vectors.size + self._queue.asked.vectors.size

    def so_far(self) -> Generated:
        """Return how far it has come, for :meth:`restore`, without selecting structures."""
        seconds = {phase: round(spent, 3) for phase, spent in self._clock.seconds.items()}
        rejected = {reason: n for reason, n in sorted(self.rejected.items()) if n}
        return Generated([], self.evaluated, self.attempted, rejected, seconds, [], "not done yet", self.state())

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`restore` needs, as JSON knows it."""
        return {
            "optimiser": self.optimiser.state(),
            "evaluated": self.evaluated,
            "attempted": self.attempted,
            "fruitless": self._fruitless,
            "rejected": dict(self.rejected),
            "seconds": self._clock.seconds,
            "queue": self._queue.state(),
            "best": {
                "vectors": self._best_vectors.tolist(),
                "energies": self._best_energies.tolist(),
                "numbers": self._best_numbers.tolist(),
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state of a generation with the same arguments."""
        shape = (-1, self.space.dimensions)
        self.optimiser.restore(state["optimiser"])
        self.evaluated, self.attempted = int(state["evaluated"]), int(state["attempted"])
        self._fruitless = int(state["fruitless"])
        self.rejected = Counter(state["rejected"])
        self._clock = _Clock(dict(state["seconds"]))
        best = state["best"]
        self._queue = Waiting.of(self.space, **state["queue"])
        self._best_vectors = np.array(best["vectors"], dtype=np.float64).reshape(shape)
        self._best_energies = np.array(best["energies"], dtype=np.float64)
        self._best_numbers = np.array(best["numbers"], dtype=np.int64)


def generate(  # noqa: PLR0917 - the shape that the jobs call
    counts: dict[str, int],
    formula_units: int,
    settings: GenerationConfig,
    model: EnergyModel,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    begun: dict[str, Any] | None = None,
    leaves_rest: Callable[[], bool] = lambda: False,
) -> Generated:
    """Generate structures of one composition and one size.

    Parameters
    ----------
    counts
        Atoms of each element in one formula unit.
    formula_units
        Formula units in the primitive cell.
    settings
        Optimiser, numbers of candidates, space groups, limits of the filters.
    model
        Predicts the energies.
    seed
        The same seed, settings and model give the same structures.
    progress
        Called after each batch with the numbers of candidates evaluated and wanted.
    begun
        ``rest`` of an earlier call with the same arguments, to go on from there.
    leaves_rest
        Asked after each batch whether the rest is to be left to another call. A state too large for one document of
        MongoDB is not left.

    Returns
    -------
    Generated
        The structures; none, with a ``reason``, if no Wyckoff combination fits or if all candidates were refused; none,
        with ``rest``, if it is not done.

    Raises
    ------
    ConfigError
        If an element is unknown, or if a setting is wrong.
    """
    model.check(list(counts))
    try:
        generation = Generation(counts, formula_units, settings, model, seed)
    except NoCombinationError as error:
        return Generated([], 0, 0, {}, {}, [], error.message)
    if begun is not None:
        generation.restore(begun)
    while not generation.finished:
        generation.step()
        if progress is not None:
            progress(generation.evaluated, settings.candidates)
        if leaves_rest() and not generation.finished and generation.remembered <= _MOST_NUMBERS:
            return generation.so_far()
    return generation.result()
