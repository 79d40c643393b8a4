"""What users write to choose candidates, read and checked."""

from __future__ import annotations

from fuse_flows.errors import ConfigError
from fuse_flows.relax.result import Outcome


def outcome_of(text: str) -> Outcome:
    """Read an outcome as a user writes it.

    Parameters
    ----------
    text
        Its name in any case, with hyphens or underscores.

    Returns
    -------
    Outcome
        The outcome.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    try:
        return Outcome(text.strip().upper().replace("-", "_"))
    except ValueError:
        raise ConfigError("outcome", f"{text!r} does not exist; choose one of {', '.join(Outcome)}") from None


def space_group_number(group: int | str) -> int:
    """Return the number of a space group.

    Parameters
    ----------
    group
        Its number, or its symbol in any spelling that pymatgen reads (``P6_3/mmc``, ``P63/mmc``).

    Returns
    -------
    int
        1 to 230.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    from pymatgen.symmetry.groups import SpaceGroup

    text = str(group).strip()
    message = f"{text!r} is no space group; give a number from 1 to 230 or a symbol such as Pnma"
    if text.lstrip("-").isdigit():
        if not 1 <= int(text) <= 230:
            raise ConfigError("space_group", message)
        return int(text)
    try:
        return int(SpaceGroup(text).int_number)
    except (ValueError, KeyError):
        raise ConfigError("space_group", message) from None
