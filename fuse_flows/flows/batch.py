"""Many searches from one file: all are read and checked before the first is submitted, and none is ever there twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from fuse_flows.config import merged_values
from fuse_flows.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_KEYS = ("recipe", "final", "priority")


@dataclass(frozen=True)
class Entry:
    """One search of a batch.

    Parameters
    ----------
    number
        Its place in the file, from 1.
    formula
        Its formula.
    values
        Keys of :class:`.SearchConfig`: the common ones, and its own over them.
    recipe, final
        Recipe and last tier; None for none.
    priority
        Priority of its jobs; None for FireWorks' own.
    """

    number: int
    formula: str
    values: dict[str, Any]
    recipe: str | None = None
    final: str | None = None
    priority: int | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"searches[{self.number}] ({self.formula})"


def read_batch(path: Path) -> list[Entry]:
    """Read a file of searches.

    Parameters
    ----------
    path
        YAML with the list ``searches``: formulas, or keys of the configuration (``formula`` among them); ``common``:
        keys that hold for all of them; and ``recipe``, ``final`` and ``priority``, for all of them or within one.

    Returns
    -------
    list of Entry
        In the order of the file; their configurations are not checked yet.

    Raises
    ------
    ConfigError
        If the file cannot be read, or is built otherwise.

    Examples
    --------
    ::

        recipe: fgen-spp
        common: {max_atoms: 20, stop: {max_structures: 200}}
        searches:
          - SrTiO3
          - {formula: MgO, max_atoms: 8, priority: 5}
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError("batch", f"{path} cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not isinstance(content.get("searches"), list) or not content["searches"]:
        raise ConfigError("batch", f"{path} must hold a list 'searches' of formulas, or of keys and values")
    unknown = sorted(map(str, set(content) - {"searches", "common", *_KEYS}))
    if unknown:
        msg = f"is no key of a batch; put keys of the configuration that hold for all searches of {path} into 'common'"
        raise ConfigError(unknown[0], msg)
    common = content.get("common") or {}
    if not isinstance(common, dict) or "formula" in common:
        raise ConfigError("common", "must hold keys and values of the configuration, without a formula")
    shared = {key: content.get(key) for key in _KEYS}
    return [_entry(number, own, common, shared) for number, own in enumerate(content["searches"], start=1)]


def _entry(number: int, own: Any, common: dict[str, Any], shared: dict[str, Any]) -> Entry:
    values = {"formula": own} if isinstance(own, str) else own
    if not isinstance(values, dict) or not isinstance(values.get("formula"), str):
        raise ConfigError(f"searches[{number}]", "must be a formula, or keys and values with a formula among them")
    keys = shared | {key: values[key] for key in _KEYS if key in values}
    priority = keys["priority"]
    if priority is not None and (not isinstance(priority, int) or isinstance(priority, bool)):
        raise ConfigError(f"searches[{number}].priority", f"must be a whole number, not {priority!r}")
    rest = {key: value for key, value in values.items() if key not in {*_KEYS, "formula"}}
    return Entry(number, values["formula"], merged_values(common, rest), keys["recipe"], keys["final"], priority)
