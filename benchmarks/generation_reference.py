"""The straightforward generation that ours is measured against: one candidate at a time, with hyperopt.

The loop is what GN-OA does (Cheng et al., Nat. Commun. 13, 1492 (2022)): hyperopt proposes one vector, one structure is
built and checked as a pymatgen object, one energy is predicted, and the loss (999 for a refused one) goes back. It has
our search space and the same filters, so both see the same kind of candidates; space groups, Wyckoff tables and
the mapping from vectors to atoms are ours, too, which is to its advantage.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Element, Lattice, Structure

from fuse_flows.generators.base import Cell
from fuse_flows.generators.filters import PLANES, contact_limits
from fuse_flows.generators.space.decode import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_flows.generators.base import EnergyModel

REFUSED = 999.0
START = 200
MOST = 10
"""A loop gives up after so many times the proposals that are to be evaluated."""


class Loop:
    """Judge one vector after the other."""

    def __init__(self, counts: dict[str, int], formula_units: int, groups: tuple[int, int], model: EnergyModel) -> None:
        self.space = SearchSpace(counts, formula_units, groups)
        self.model = model
        self.species = [Element.from_Z(int(n)) for n in self.space.numbers]
        self.limits = contact_limits(self.space.numbers, 0.4)
        self.seconds: Counter[str] = Counter()
        self.evaluated = self.attempted = 0

    def loss(self, vector: np.ndarray) -> float:
        """Build, check and evaluate one candidate."""
        self.attempted += 1
        begun = time.process_time()
        cell = self.space.decode(vector[None])
        structure = Structure(Lattice(cell.lattices[0]), self.species, cell.frac_coords[0])
        self.seconds["decode"] += time.process_time() - begun
        begun = time.process_time()
        refused = self.refused(structure)
        self.seconds["filter"] += time.process_time() - begun
        if refused:
            return REFUSED
        self.evaluated += 1
        begun = time.process_time()
        plain = Cell(structure.lattice.matrix, self.space.numbers, structure.frac_coords)
        energy = float(self.model.energies([plain])[0])
        self.seconds["model"] += time.process_time() - begun
        return energy if np.isfinite(energy) else REFUSED

    def ended(self, evaluated: int) -> bool:
        """Tell whether enough candidates were evaluated, or far too many proposed."""
        return self.evaluated >= evaluated or self.attempted >= MOST * evaluated

    def refused(self, structure: Structure) -> bool:
        """Look for short contacts, then for empty slabs, plane by plane."""
        distances = structure.distance_matrix.copy()
        np.fill_diagonal(distances, min(structure.lattice.abc))
        if (distances < self.limits).any():
            return True
        lattice, coords = structure.lattice, structure.frac_coords
        for plane in PLANES:
            heights = np.sort(coords @ plane % 1.0)
            gap = np.diff(np.append(heights, heights[0] + 1.0)).max()
            if gap * lattice.d_hkl(tuple(int(i) for i in plane)) > 7.0:
                return True
        return False


def hyperopt_loop(loop: Loop, algorithm: str, evaluated: int, seed: int) -> None:
    """Run hyperopt's ``random`` or ``tpe`` until so many candidates were evaluated."""
    from hyperopt import STATUS_OK, Trials, fmin, hp, rand, tpe

    names = [f"x{k}" for k in range(1, loop.space.dimensions)]
    n_groups = len(loop.space.groups)
    box = {"group": hp.randint("group", n_groups)} | {name: hp.uniform(name, 0, 1) for name in names}
    suggest: Callable[..., Any] = rand.suggest if algorithm == "random" else _from_start(tpe.suggest)

    def objective(point: dict[str, Any]) -> dict[str, Any]:
        first = (point["group"] + 0.5) / n_groups
        vector = np.array([first, *(min(point[name], 1 - 1e-12) for name in names)])
        return {"loss": loop.loss(vector), "status": STATUS_OK}

    fmin(
        objective,
        box,
        algo=suggest,
        max_evals=10**9,
        trials=Trials(),
        rstate=np.random.default_rng(seed),
        show_progressbar=False,
        verbose=False,
        early_stop_fn=lambda *_: (loop.ended(evaluated), []),
    )


def _from_start(suggest: Callable[..., Any]) -> Callable[..., Any]:
    """Return TPE with as many even draws at the beginning as GN-OA makes."""
    from functools import partial

    return partial(suggest, n_startup_jobs=START)


def swarm_loop(loop: Loop, evaluated: int, seed: int) -> None:
    """Run a plain particle swarm (w 0.8, c1 = c2 = 0.5), particle by particle, until so many were evaluated."""
    rng = np.random.default_rng(seed)
    dims = loop.space.dimensions
    x, v = rng.random((START, dims)), rng.uniform(-0.1, 0.1, (START, dims))
    best, losses = x.copy(), np.full(START, np.inf)
    for k in cycle(range(START)):
        loss = loop.loss(x[k])
        if loss < losses[k]:
            best[k], losses[k] = x[k], loss
        if loop.ended(evaluated):
            return
        leader = best[int(np.argmin(losses))]
        v[k] = 0.8 * v[k] + 0.5 * rng.random(dims) * (best[k] - x[k]) + 0.5 * rng.random(dims) * (leader - x[k])
        x[k] = np.clip(x[k] + v[k], 0.0, 1.0 - 1e-12)


def reference(loop: Loop, optimiser: str, evaluated: int, seed: int) -> dict[str, Any]:
    """Run one of the loops and say what it took, in CPU seconds."""
    begun = time.process_time()
    if optimiser == "pso":
        swarm_loop(loop, evaluated, seed)
    else:
        hyperopt_loop(loop, optimiser, evaluated, seed)
    total = time.process_time() - begun
    phases = {name: round(value, 3) for name, value in loop.seconds.items()}
    phases["ask and tell"] = round(total - sum(loop.seconds.values()), 3)
    return {
        "evaluated": loop.evaluated,
        "attempted": loop.attempted,
        "valid_share": round(loop.evaluated / loop.attempted, 4),
        "seconds_per_1000": round(1000 * total / max(loop.evaluated, 1), 3),
        "seconds": phases,
    }
