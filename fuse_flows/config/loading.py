"""Configurations from YAML, keywords and command line options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fuse_flows.config.search import SearchConfig
from fuse_flows.errors import ConfigError, first_refusal


def load_config(
    path: str | Path | None = None, *, base: dict[str, Any] | None = None, **overrides: Any
) -> SearchConfig:
    """Read a configuration from a YAML file and put keywords over it.

    Parameters
    ----------
    path
        YAML (or JSON) file with keys of :class:`SearchConfig`; None for the defaults.
    base
        Keys of :class:`SearchConfig` with values that the file and the keywords override, such as those of a recipe.
    **overrides
        Keys of :class:`SearchConfig`; a dictionary is merged into its section, None values are ignored.

    Returns
    -------
    SearchConfig
        The checked configuration.

    Raises
    ------
    ConfigError
        If the file cannot be read or a value is refused; the message names the field and the fix.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError("config", f"{path} cannot be read as YAML ({error})".replace("\n", " ")) from error
        if not isinstance(values, dict):
            raise ConfigError("config", f"{path} must hold keys and values, not a {type(values).__name__}")
    given = {key: value for key, value in overrides.items() if value is not None}
    return make_config(merged_values(merged_values(base or {}, values), given))


def merged_values(values: dict[str, Any], over: dict[str, Any], *, inside: bool = False) -> dict[str, Any]:
    """Put values over others; sections are merged, and pool.generate inside its section, but nothing else."""
    merged = dict(values)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and (not inside or key == "generate")
        merged[key] = merged_values(merged[key], value, inside=True) if both else value
    return merged


def make_config(values: dict[str, Any]) -> SearchConfig:
    """Check a dictionary of values and turn pydantic's report into one line.

    Parameters
    ----------
    values
        Keys and values of :class:`SearchConfig`.

    Returns
    -------
    SearchConfig
        The checked configuration.

    Raises
    ------
    ConfigError
        Naming the first offending field and what is wrong with it.
    """
    try:
        return SearchConfig.model_validate(values)
    except ValidationError as error:
        refusal = first_refusal(error)
        if isinstance(refusal.cause, ConfigError):
            raise refusal.cause from None
        if refusal.kind == "extra_forbidden":
            message = "is not a key of the configuration; run 'fuse-flows config show FORMULA' to see them all"
        elif refusal.kind == "missing":
            message = "is missing; it must be given"
        else:
            message = f"{refusal.message} (got {refusal.given!r})"
        raise ConfigError(refusal.field() or "config", message) from None
