"""Energy above the convex hull: reference entries, the level of theory that they belong to, and the hull itself.

Energies of different levels have no common zero, so entries carry the name of theirs, and entries of another level than
that of a search are refused unless the user asks for the mixture, which is then marked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.entries.computed_entries import ComputedEntry

    from fuse_flows.config import TierConfig

UNKNOWN = "unknown"
"""Level of entries that say nothing about it."""
LEVEL = "level"
"""Key of ``parameters`` under which our entries have their level."""
_NO_ENERGY = frozenset({"device", "use_device"})
_FIELD = "hull"


@dataclass(frozen=True)
class ReferenceEntries:
    """Entries that a hull is made of.

    Parameters
    ----------
    entries
        pymatgen's entries; energies in eV per formula of the entry.
    source
        Where they come from, for messages.
    mixed
        Use them also where they are of another level than the search, or of several.
    """

    entries: tuple[ComputedEntry, ...]
    source: str = "references"
    mixed: bool = field(default=False, kw_only=True)

    @cached_property
    def levels(self) -> tuple[str, ...]:
        """Levels of theory of the entries, sorted."""
        return tuple(sorted({level_of(entry) for entry in self.entries}))

    def check(self, level: str) -> None:
        """Check that the entries may be compared with energies of a level.

        Parameters
        ----------
        level
            That of a search; see :func:`level_of_tier`.

        Raises
        ------
        ConfigError
            If any entry is of another level and the mixture was not asked for.
        """
        others = [other for other in self.levels if other != level]
        if others and not self.mixed:
            msg = (
                f"the entries of {self.source} are of the level {', '.join(others)}, the search is of {level}, and "
                "their energies have no common zero; relax references with 'fuse-flows hull --references FOLDER "
                "--tier ...', or add --mixed to use them in spite of it"
            )
            raise ConfigError(_FIELD, msg)

    def mark(self, level: str) -> str:
        """Return what energies above this hull are of: the level, and those mixed with it."""
        others = [other for other in self.levels if other != level]
        return f"{level} mixed with {', '.join(others)}" if others else level

    def energy_per_atom(self, formula: str) -> float:
        """Return the energy of the hull at a composition.

        Parameters
        ----------
        formula
            The composition.

        Returns
        -------
        float
            eV/atom.

        Raises
        ------
        ConfigError
            If an element has no entry.
        """
        from pymatgen.core import Composition

        composition = Composition(formula)
        return float(self.diagram(formula).get_hull_energy_per_atom(composition))

    def diagram(self, *formulas: str, more: Iterable[ComputedEntry] = ()) -> PhaseDiagram:
        """Return the phase diagram of the elements of some compositions.

        Parameters
        ----------
        *formulas
            The compositions.
        more
            Further entries, such as the best structures of searches.

        Returns
        -------
        PhaseDiagram
            Of all entries without any other element.

        Raises
        ------
        ConfigError
            If an element has no entry.
        """
        from pymatgen.analysis.phase_diagram import PhaseDiagram
        from pymatgen.core import Composition

        elements = {element for formula in formulas for element in Composition(formula).elements}
        entries = [entry for entry in (*self.entries, *more) if elements.issuperset(entry.composition.elements)]
        pure = {entry.composition.elements[0] for entry in entries if len(entry.composition.elements) == 1}
        if elements - pure:
            names = ", ".join(sorted(element.symbol for element in elements - pure))
            msg = f"{self.source} has no entry of {names}; every element needs one"
            raise ConfigError(_FIELD, f"{msg}, so add its structure, or a search of it to 'hull'")
        return PhaseDiagram(entries, elements=sorted(elements))

    def write(self, path: Path) -> None:
        """Write the entries as a list of pymatgen's dictionaries (JSON)."""
        text = json.dumps([entry.as_dict() for entry in self.entries], indent=1, default=_plain)
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(_FIELD, f"{path} cannot be written ({error.strerror})") from error

    def of_level(self, level: str) -> ReferenceEntries:
        """Return the same entries, all declared to be of a level, whatever they say themselves."""
        return replace(self, entries=tuple(_with_level(entry, level) for entry in self.entries))


def read_references(path: str | Path, *, mixed: bool = False) -> ReferenceEntries:
    """Read reference entries.

    Parameters
    ----------
    path
        JSON: a list of pymatgen's ``ComputedEntry`` or ``ComputedStructureEntry`` as dictionaries, or a dictionary with
        such a list under ``entries``.
    mixed
        See :class:`ReferenceEntries`.

    Returns
    -------
    ReferenceEntries
        The entries.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds something else.
    """
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    classes = {cls.__name__: cls for cls in (ComputedEntry, ComputedStructureEntry)}
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path} does not exist; make it with 'fuse-flows hull --references FOLDER --hull {path}'"
        raise ConfigError(_FIELD, msg) from error
    except (OSError, ValueError) as error:
        raise ConfigError(_FIELD, f"{path} cannot be read as JSON ({' '.join(str(error).split())})") from error
    found = values.get("entries") if isinstance(values, dict) else values
    if not isinstance(found, list) or not found:
        raise ConfigError(_FIELD, f"{path} must hold a list of pymatgen entries (ComputedEntry.as_dict()), not empty")
    try:
        entries = [
            classes[entry.get("@class", "ComputedEntry")].from_dict({"correction": 0.0} | entry) for entry in found
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"{path} holds something that is no ComputedEntry or ComputedStructureEntry ({error!r})"
        raise ConfigError(_FIELD, msg) from error
    return ReferenceEntries(tuple(entries), str(path), mixed=mixed)


def fetch_references(elements: Iterable[str], *, mixed: bool = False) -> ReferenceEntries:
    """Get the entries of a chemical system from the Materials Project.

    Parameters
    ----------
    elements
        Symbols.
    mixed
        See :class:`ReferenceEntries`; the entries are of GGA and GGA+U with the corrections of the Materials Project.

    Returns
    -------
    ReferenceEntries
        With a key from the environment (``MP_API_KEY``) or pymatgen's settings.

    Raises
    ------
    ConfigError
        If mp-api is not installed, or the Materials Project refuses or does not answer.
    """
    try:
        from mp_api.client import MPRester  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        msg = "needs the package mp-api; run: pip install mp-api, or give entries in a file with --hull"
        raise ConfigError("materials_project", msg) from error
    names = sorted(set(elements))
    try:
        with MPRester() as rester:
            entries = rester.get_entries_in_chemsys(names, additional_criteria={"thermo_types": ["GGA_GGA+U"]})
    except Exception as error:  # its client raises whatever its libraries do
        reason = " ".join(str(error).split())[:200]
        msg = f"does not give the entries of {'-'.join(names)} ({reason}); is MP_API_KEY set?"
        raise ConfigError("materials_project", msg) from error
    level = "Materials Project GGA/GGA+U, corrected"
    return ReferenceEntries(tuple(entries), "the Materials Project", mixed=mixed).of_level(level)


def level_of(entry: ComputedEntry) -> str:
    """Return the level of theory that an entry names: ours, or the ``run_type`` of the Materials Project."""
    parameters = entry.parameters or {}
    return str(parameters.get(LEVEL) or parameters.get("run_type") or UNKNOWN)


def level_of_tier(tier: TierConfig) -> str:
    """Return the level of theory of a tier: its calculator, with those keywords that change energies.

    Parameters
    ----------
    tier
        The tier.

    Returns
    -------
    str
        Such as ``chgnet``, ``chgnet {"model": "r2scan"}`` or, with a pressure, ``chgnet at 10 GPa``.
    """
    has_digest = "digest" in tier.calculator_kwargs  # then the content counts, not the place
    no_energy = _NO_ENERGY | ({"library", "weights"} if has_digest else set())
    keywords = {key: value for key, value in tier.calculator_kwargs.items() if key not in no_energy}
    text = f" {json.dumps(keywords, sort_keys=True)}" if keywords else ""
    pressure = f" at {tier.gigapascals:g} GPa" if tier.gigapascals else ""
    return tier.calculator.lower() + text + pressure


def _with_level(entry: ComputedEntry, level: str) -> ComputedEntry:
    copied = entry.copy()
    copied.parameters = (entry.parameters or {}) | {LEVEL: level}
    return copied


def _plain(value: Any) -> Any:
    """Make plain what JSON does not know: numbers and arrays of numpy."""
    return value.tolist()
