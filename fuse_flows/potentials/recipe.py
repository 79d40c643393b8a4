"""The whole way from known crystals to a library of potentials."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from fuse_flows.errors import ConfigError
from fuse_flows.potentials import splines
from fuse_flows.potentials.correction import correct
from fuse_flows.potentials.derivation import InversionSettings, invert, pair_distribution, shell_edges, with_wall
from fuse_flows.potentials.labelled import LabelSettings, joined, labelled, softened
from fuse_flows.potentials.library import SppLibrary
from fuse_flows.potentials.relatives import blend, relatives_of
from fuse_flows.potentials.restoring import RestoringSettings, displaced
from fuse_flows.potentials.sharing import shared_parts
from fuse_flows.potentials.statistics import distance_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fuse_flows.potentials.crystals import CrystalSet
    from fuse_flows.potentials.labels import LabelledCells
    from fuse_flows.potentials.relatives import Relatives

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
    labels
        From these to those that follow labelled cells, if there are any.
    crystals
        Largest number of crystals for the correction (the histograms take all).
    max_atoms
        Largest cell for the correction.
    seed
        Of the choice of these crystals and of their displacements.
    """

    inversion: InversionSettings = field(default_factory=InversionSettings)
    restoring: RestoringSettings = field(default_factory=RestoringSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    crystals: int = 12000
    max_atoms: int = 16
    seed: int = 0


def derive_library(
    crystals: CrystalSet,
    settings: RecipeSettings | None = None,
    *,
    labels: LabelledCells | None = None,
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
    labels
        Cells with forces and virials that the potentials shall follow, too; None: known crystals alone.
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
    if labels is not None:
        values = _following(labels, crystals.take(small), symbols, values, relatives, chosen, threads, report)
        deeper = np.maximum(
            shell_edges(g, statistics.centres, chosen.inversion.floor) - chosen.labels.inside, _SHORTEST
        )
        values = with_wall(values, r, deeper, chosen.inversion)
    return SppLibrary(
        symbols=symbols,
        coefficients=splines.fit(r, values).astype(np.float32),
        crystals=statistics.crystals,
        provenance={
            **(provenance or {}),
            "crystals": len(crystals),
            **({} if labels is None else {"labels": labels.about, "labelled_cells": len(labels)}),
            "settings": asdict(chosen),
            "fuse_flows": version("fuse-flows"),
        },
    )


def _following(  # noqa: PLR0917 - one stage of the recipe, cut out of it
    labels: LabelledCells,
    crystals: CrystalSet,
    symbols: tuple[str, ...],
    values: NDArray[np.float64],
    relatives: Relatives,
    settings: RecipeSettings,
    threads: int,
    report: Callable[[str, int, int], None],
) -> NDArray[np.float64]:
    """Return potentials that follow labelled cells and still lead displaced crystals back."""
    rng = np.random.default_rng(settings.seed)
    chosen, r = settings.labels, np.linspace(splines.R_FIRST, splines.R_LAST, values.shape[1])
    few = crystals.take(np.sort(rng.permutation(len(crystals))[: chosen.crystals]))
    problem = joined(displaced(few, symbols, settings.restoring, rng), labelled(labels, symbols, chosen))
    followed = correct(
        splines.fit(r, softened(values, chosen.highest)),
        problem,
        replace(settings.restoring, iterations=chosen.iterations),
        parts=shared_parts(relatives, chosen.circles, chosen.amplitudes),
        threads=threads,
        progress=lambda i, _: report("labels", i, chosen.iterations),
    )
    return splines.untapered_at(followed, r)
