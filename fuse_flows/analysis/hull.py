"""Energies above the convex hull over the compositions of several searches: a table, and a picture.

So a phase field is explored: one search for each composition, and those whose best structure lies lowest above the hull
are worth a try in the laboratory (probe structures; FUSE2 paper, 10.1039/d4fd00094c, Section 1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError
from fuse_flows.relax.hull import level_of_tier
from fuse_flows.relax.references import entry_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.figure import Figure
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.entries.computed_entries import ComputedEntry

    from fuse_flows.relax.hull import ReferenceEntries
    from fuse_flows.store.search import Search

    BestEntries = Mapping[str, tuple[ComputedEntry, dict[str, Any]]]

HULL_COLUMNS = (
    "formula",
    "search_id",
    "candidate_id",
    "energy_per_atom",
    "e_above_hull",
    "above_references",
    "space_group",
    "n_atoms",
    "decomposition",
    "level",
)
"""Columns of :func:`hull_rows`."""


def level_of_search(search: Search) -> str:
    """Return the level of theory of the energies of a search: that of its last tier."""
    return level_of_tier(search.config.tiers[-1])


def best_entries(searches: Iterable[Search]) -> dict[str, tuple[ComputedEntry, dict[str, Any]]]:
    """Return the lowest candidate of each composition.

    Parameters
    ----------
    searches
        The searches; several of one composition count together.

    Returns
    -------
    dict
        Formula to the entry and the :class:`.CandidateDoc`; compositions without any energy are not there.

    Raises
    ------
    ConfigError
        If the searches are not all of the same level.
    """
    from pymatgen.core import Composition, Structure

    found: dict[str, tuple[ComputedEntry, dict[str, Any]]] = {}
    levels: dict[str, str] = {}
    for search in searches:
        levels[level_of_search(search)] = search.search_id
        for doc in search.best(1):
            formula = Composition(search.formula).reduced_formula
            if formula not in found or doc["enthalpy_per_atom"] < found[formula][1]["enthalpy_per_atom"]:
                structure = Structure.from_dict(doc["structure"])
                entry = entry_of(structure, doc["enthalpy"], search.config.tiers[-1], doc["candidate_id"])
                found[formula] = entry, doc
    if len(levels) > 1:
        names = "; ".join(f"{search_id}: {level}" for level, search_id in sorted(levels.items()))
        raise ConfigError("search", f"the searches are of several levels ({names}); name those of one")
    return found


def with_elements(references: ReferenceEntries, best: BestEntries) -> ReferenceEntries:
    """Return references to which the best structures of pure elements were added, where elements were searched, too.

    Parameters
    ----------
    references
        Entries, or none at all.
    best
        What :func:`best_entries` returned.
    """
    pure = (entry for entry, _ in best.values() if entry.composition.is_element)
    return replace(references, entries=(*references.entries, *pure))


def hull_rows(best: BestEntries, references: ReferenceEntries) -> list[dict[str, Any]]:
    """Return how far above the hull the best structure of each composition lies.

    Parameters
    ----------
    best
        What :func:`best_entries` returned.
    references
        Entries of at least all elements.

    Returns
    -------
    list of dict
        By energy above the hull; keys as in ``HULL_COLUMNS``. ``e_above_hull`` (eV/atom) is above the hull of
        references and best structures together, so never negative; ``above_references`` is above that of the references
        alone: negative if the structure is stable against them. ``decomposition`` says into what it would fall apart.

    Raises
    ------
    ConfigError
        If an element has no entry, or the references are of another level.
    """
    rows = []
    for formula, (entry, doc) in best.items():
        level = str(entry.parameters["level"])
        references.check(level)
        diagram = references.diagram(formula, more=[other for other, _ in best.values()])
        alone = references.diagram(formula)
        parts = alone.get_decomposition(entry.composition)
        shares = sorted(parts.items(), key=lambda part: -part[1])
        values = {
            "formula": formula,
            "energy_per_atom": doc["enthalpy_per_atom"],
            "e_above_hull": float(diagram.get_e_above_hull(entry) or 0.0),
            "above_references": doc["enthalpy_per_atom"] - alone.get_hull_energy_per_atom(entry.composition),
            "decomposition": " + ".join(f"{share:.3g} {part.reduced_formula}" for part, share in shares),
            "level": references.mark(level),
        }
        copied = {name: doc[name] for name in ("search_id", "candidate_id", "space_group", "n_atoms")}
        rows.append({name: (values | copied)[name] for name in HULL_COLUMNS})
    return sorted(rows, key=lambda row: (row["e_above_hull"], row["above_references"], row["formula"]))


def hull_diagram(best: BestEntries, references: ReferenceEntries) -> PhaseDiagram:
    """Return the phase diagram of references and best structures, over all elements of the searches.

    Parameters
    ----------
    best
        What :func:`best_entries` returned.
    references
        Entries of at least all elements.

    Returns
    -------
    PhaseDiagram
        Of all of them.

    Raises
    ------
    ConfigError
        If there is no structure with an energy, an element has no entry, or the references are of another level.
    """
    if not best:
        raise ConfigError("search", "none of the searches has a structure with an energy yet")
    for entry, _ in best.values():
        references.check(str(entry.parameters["level"]))
    return references.diagram(*best, more=[entry for entry, _ in best.values()])


def hull_figure(diagram: PhaseDiagram, title: str = "") -> Figure:
    """Draw a phase diagram.

    Parameters
    ----------
    diagram
        Of two, three or four elements.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        By pymatgen's plotter: stable phases with their names, and those up to 0.2 eV/atom above the hull; of each
        composition the lowest one.

    Raises
    ------
    ConfigError
        If there are other numbers of elements, which cannot be drawn.
    """
    if not 2 <= len(diagram.elements) <= 4:
        msg = f"phase diagrams of {len(diagram.elements)} elements cannot be drawn, only of 2 to 4; leave it out"
        raise ConfigError("picture", msg)
    import matplotlib.pyplot as plt
    from pymatgen.analysis.phase_diagram import PDPlotter, PhaseDiagram

    ordered = sorted(diagram.all_entries, key=lambda entry: -entry.energy_per_atom)
    lowest = {entry.composition.reduced_formula: entry for entry in ordered}
    drawn = PhaseDiagram(list(lowest.values()), elements=diagram.elements)
    axes = PDPlotter(drawn, show_unstable=0.2, backend="matplotlib").get_plot()
    if axes.get_aspect() == 1.0:  # a triangle: its sides stay equal by the size of the box, for the limits are fixed
        axes.set_adjustable("box")
    figure = axes.get_figure()
    axes.set_title(title, parse_math=False)
    plt.close(figure)  # pyplot keeps no hold of it
    return figure
