"""Whether GPAW can be run here: asked of GPAW itself, in a process of its own."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fuse_flows.errors import ConfigError
from fuse_flows.relax.gpaw.options import GpawOptions, parse_options
from fuse_flows.relax.gpaw.process import Engine, EngineDiedError, EngineTimeoutError, find_command
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_flows.config import TierConfig

#: Seconds for reading the PAW data of all elements of a search.
_SECONDS = 120.0


def check_gpaw(tier: TierConfig, elements: Iterable[str]) -> None:
    """Check a GPAW tier before anything is submitted.

    Parameters
    ----------
    tier
        Its ``calculator_kwargs`` are checked.
    elements
        Symbols of the elements of the search.

    Raises
    ------
    ConfigError
        If a keyword is unknown or names an element that is not there, or, unless ``FUSE_FLOWS_GPAW_ELSEWHERE`` is
        set, GPAW cannot be started here or lacks the PAW data of an element.
    """
    options, wanted = parse_options(tier), sorted(set(elements))
    for name in ("magmoms", "setups"):
        strangers = sorted(set(getattr(options, name)) - set(wanted) - {"default"})
        if strangers:
            msg = f"{', '.join(strangers)} is no element of this search; use {', '.join(wanted)}"
            raise ConfigError(f"tiers.calculator_kwargs.{name}", msg)
    if not settings().gpaw_elsewhere:
        require_gpaw(options, wanted)


def require_gpaw(options: GpawOptions, elements: Iterable[str]) -> str:
    """Raise unless GPAW can be started here and has the PAW data of some elements.

    Parameters
    ----------
    options
        The options of the tier.
    elements
        Symbols.

    Returns
    -------
    str
        The version of GPAW.

    Raises
    ------
    ConfigError
        Naming what is missing.
    """
    command = tuple(find_command())
    version, missing = _probe(command, tuple(sorted(set(elements))), options.xc, tuple(sorted(options.setups.items())))
    if missing:
        names, reason = ", ".join(missing), next(iter(missing.values()))
        msg = (
            f"GPAW {version} has no PAW data of {names} for {options.xc} ({reason}); install gpaw-data, set "
            "GPAW_SETUP_PATH, or choose another xc or calculator_kwargs.setups"
        )
        raise ConfigError("tiers.calculator_kwargs.setups", msg)
    return version


def gpaw_state() -> str:
    """Say whether GPAW can be run here: ``available`` with its version, or what is missing."""
    try:
        return f"available ({require_gpaw(GpawOptions(), ('O',))})"
    except ConfigError as error:
        return str(error)


@cache
def _probe(
    command: tuple[str, ...], elements: tuple[str, ...], xc: str, setups: tuple[tuple[str, str], ...]
) -> tuple[str, dict[str, str]]:
    """Ask GPAW for its version, and for which elements it has no data."""
    with tempfile.TemporaryDirectory(prefix="fuse_gpaw_") as name, Engine(Path(name), list(command)) as engine:
        request = {"do": "probe", "elements": list(elements), "xc": xc, "setups": dict(setups)}
        try:
            found = engine.ask(request, _SECONDS)
        except (EngineDiedError, EngineTimeoutError) as error:
            raise ConfigError("tiers.calculator", f"GPAW ended when it was asked for its PAW data ({error})") from error
        if "failure" in found:
            raise ConfigError("tiers.calculator_kwargs.xc", f"GPAW refuses {xc!r}: {found['reason']}")
        return engine.version, found["missing"]
