"""The whole way from known crystals to a library of potentials."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from fuse_flows.errors import ConfigError
from fuse_flows.potentials import splines
from fuse_flows.potentials.derivation import (
    InversionSettings,
    blend,
    invert,
    pair_distribution,
    relatives_of,
    shell_edges,
    with_wall,
)
from fuse_flows.potentials.library import SppLibrary
from fuse_flows.potentials.restoring import RestoringSettings, correct, displaced
from fuse_flows.potentials.statistics import distance_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_flows.potentials.crystals import CrystalSet

_STEP = 0.05
# Displaced crystals tell something about distances a little inside the first shell, too.
_INSIDE = 0.2
_SHORTEST = 0.9  # A: no bond is shorter, so the wall begins here at the latest


@dataclass(frozen=True)
class RecipeSettings:
    """All choices of a derivation.

    Attributes
    ----------
    inversion
        From histograms to first potentials.
    restoring
        From first potentials to those that keep crystals at rest.
    crystals
        Largest number of crystals for the correction (the histograms take all).
    max_atoms
        Largest cell for the correction.
    seed
        Of the choice of these crystals and of their displacements.
    """

    inversion: InversionSettings = field(default_factory=InversionSettings)
    restoring: RestoringSettings = field(default_factory=RestoringSettings)
    crystals: int = 12000
    max_atoms: int = 16
    seed: int = 0


def derive_library(
    crystals: CrystalSet,
    settings: RecipeSettings | None = None,
    *,
    provenance: dict[str, Any] | None = None,
    threads: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> SppLibrary:
    """Derive a library from known crystals.

    Parameters
    ----------
    crystals
        The crystals; only those that may be learnt from (``read_crystals`` leaves tune and test out).
    settings
        All choices; None for the defaults.
    provenance
        Source and licence of the crystals, to be stored.
    threads
        Threads of the correction.
    progress
        Called with the name of the stage, what is done, and what is to be done.

    Returns
    -------
    SppLibrary
        Potentials of all pairs of the elements that occur.

    Raises
    ------
    ConfigError
        If no crystal is small enough for the correction.
    """
    chosen = settings or RecipeSettings()
    report = progress or (lambda _stage, _done, _total: None)
    symbols = tuple(sorted(str(chemical_symbols[int(number)]) for number in np.unique(crystals.numbers)))
    statistics = distance_statistics(crystals, symbols, progress=lambda n: report("distances", n, len(crystals)))
    relatives = relatives_of(symbols, chosen.inversion)
    g = pair_distribution(statistics, relatives, chosen.inversion)
    first = splines.fit(statistics.centres, invert(g, statistics.centres, chosen.inversion))

    rng = np.random.default_rng(chosen.seed)
    small = np.flatnonzero(crystals.sizes <= chosen.max_atoms)
    if not len(small):
        raise ConfigError("data", f"no crystal has at most {chosen.max_atoms} atoms; allow larger cells")
    subset = crystals.take(np.sort(rng.permutation(small)[: chosen.crystals]))
    problem = displaced(subset, symbols, chosen.restoring, rng)
    steps = chosen.restoring.iterations
    corrected = correct(
        first, problem, chosen.restoring, threads=threads, progress=lambda i, _: report("forces", i, steps)
    )

    r = np.linspace(splines.R_FIRST, splines.R_LAST, round((splines.R_LAST - splines.R_FIRST) / _STEP) + 1)
    values = splines.untapered_at(corrected, r)
    values = blend(values, statistics.weights, relatives, chosen.inversion, shift=splines.R_FIRST / _STEP)
    edges = np.maximum(shell_edges(g, statistics.centres, chosen.inversion.floor) - _INSIDE, _SHORTEST)
    values = with_wall(values, r, edges, chosen.inversion)
    return SppLibrary(
        symbols=symbols,
        coefficients=splines.fit(r, values).astype(np.float32),
        crystals=statistics.crystals,
        provenance={
            **(provenance or {}),
            "crystals": len(crystals),
            "settings": asdict(chosen),
            "fuse_flows": version("fuse-flows"),
        },
    )
