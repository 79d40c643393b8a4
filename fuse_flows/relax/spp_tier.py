"""Statistical proxy potentials as a tier: the shipped library, one of the user's own, or GULP's files.

Antypov et al., ChemPhysChem 2024, 10.1002/cphc.202400254; the use of the tier in front of others is that of the FUSE2
paper (10.1039/d4fd00094c).
"""

from __future__ import annotations

import hashlib
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fuse_flows.errors import ConfigError, first_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_flows.config import SearchConfig, TierConfig
    from fuse_flows.potentials.tables import PairTables
    from fuse_flows.relax.pair_tier import PairRelaxer

SPP = "spp"
_FIELD = "tiers.calculator_kwargs"


class SppOptions(BaseModel):
    """Keywords of calculator ``spp``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: str | None = Field(
        None,
        description="A file made by 'fuse-flows spp derive' (.npz), a GULP library (.lib) or a folder of A-B.POT "
        "files; None: the library that comes with the package.",
    )
    taper: float = Field(
        2.0, ge=0, description="Width over which potentials from GULP's files go to zero at their end, angstrom."
    )
    gnorm: float | None = Field(
        0.1,
        gt=0,
        description="Converged when the root mean square of all derivatives is below this, as in the FUSE2 paper, "
        "eV/A and eV; None: fmax and smax count.",
    )
    digest: str | None = Field(None, description="Hash of the potentials that are used; filled in on submission.")


def spp_options(tier: TierConfig) -> SppOptions:
    """Return the keywords of a tier, checked.

    Parameters
    ----------
    tier
        A tier whose calculator is ``spp``.

    Returns
    -------
    SppOptions
        Its keywords.

    Raises
    ------
    ConfigError
        Naming the first keyword that is wrong.
    """
    try:
        return SppOptions.model_validate(tier.calculator_kwargs)
    except ValidationError as error:
        refusal = first_refusal(error)
        message = f"{refusal.message} (spp knows {', '.join(SppOptions.model_fields)})"
        raise ConfigError(refusal.field(_FIELD), message) from None


def spp_tables(options: SppOptions, symbols: Iterable[str]) -> PairTables:
    """Return the potentials between some elements.

    Parameters
    ----------
    options
        Which library.
    symbols
        The elements of a compound, all of them.

    Returns
    -------
    PairTables
        Their potentials.

    Raises
    ------
    ConfigError
        If the library cannot be read or lacks a pair, or is not the one the search was submitted with.
    """
    elements = tuple(sorted(set(symbols)))
    tables = _tables(options.library, options.taper, elements)
    if options.digest is not None and options.digest != _digest(tables):
        raise ConfigError(f"{_FIELD}.library", f"{options.library} has changed since the search was submitted")
    return tables


def build_spp_relaxer(tier: TierConfig) -> PairRelaxer:
    """Return the relaxer of a tier whose calculator is ``spp``.

    Parameters
    ----------
    tier
        The tier.

    Returns
    -------
    PairRelaxer
        It reads the potentials of each set of elements when it first meets them.

    Raises
    ------
    ConfigError
        If a keyword is wrong.
    """
    from fuse_flows.relax.pair_tier import PairRelaxer

    options = spp_options(tier)
    return PairRelaxer(tier, partial(spp_tables, options), gnorm=options.gnorm)


def with_library_digests(config: SearchConfig) -> SearchConfig:
    """Return a configuration whose search is named by what is in the user's libraries, not by where they are.

    Parameters
    ----------
    config
        The search.

    Returns
    -------
    SearchConfig
        With ``digest`` beside each ``library`` of a tier ``spp``.

    Raises
    ------
    ConfigError
        If a library cannot be read or lacks a pair of elements.
    """
    return config.with_each_tier(lambda tier: _with_digest(tier, config))


def _with_digest(tier: TierConfig, config: SearchConfig) -> TierConfig:
    if tier.calculator.lower() != SPP or spp_options(tier).library is None:
        return tier
    options = spp_options(tier)
    library = str(Path(cast("str", options.library)).expanduser().resolve())
    digest = _digest(_read_tables(library, options.taper, tuple(sorted(config.counts))))
    return tier.model_copy(
        update={"calculator_kwargs": tier.calculator_kwargs | {"library": library, "digest": digest}}
    )


@cache
def _tables(library: str | None, width: float, elements: tuple[str, ...]) -> PairTables:
    return _read_tables(library, width, elements)


def _read_tables(library: str | None, width: float, elements: tuple[str, ...]) -> PairTables:
    from fuse_flows.potentials.tables import PairTables, taper

    r, values = _read(library, elements)
    if library is not None and Path(library).suffix != ".npz" and width > 0:
        values = {pair: taper(r, potential, width) for pair, potential in values.items()}
    return PairTables.from_values(r, values)


def _read(library: str | None, elements: tuple[str, ...]) -> tuple[Any, dict[tuple[str, str], Any]]:
    if library is None or Path(library).suffix == ".npz":
        from fuse_flows.potentials.library import load_library

        return load_library(library).tables(elements)
    from fuse_flows.potentials.gulp import read_gulp_library

    return read_gulp_library(library, elements)


def _digest(tables: PairTables) -> str:
    """Return a hash of potentials, the same wherever they were read."""
    content = hashlib.sha256(" ".join(tables.symbols).encode())
    for pair, potential in sorted(tables.values.items()):
        content.update(repr(pair).encode())
        content.update((np.round(np.asarray(potential), 9) + 0.0).tobytes())
    return content.hexdigest()[:16]
