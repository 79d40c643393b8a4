"""Tiers as they are submitted: whatever decides on their energies stands in the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_flows.relax.gpaw.options import with_gpaw_defaults
from fuse_flows.relax.torchsim import with_weights_digests
from fuse_flows.relax.vasp.options import with_vasp_defaults

if TYPE_CHECKING:
    from fuse_flows.config import SearchConfig


def with_tiers_written_out(search: SearchConfig) -> SearchConfig:
    """Write out what the tiers of a search leave to their engines, as far as it does not depend on the compound.

    Parameters
    ----------
    search
        A configuration.

    Returns
    -------
    SearchConfig
        With the complete options of VASP and GPAW, and digests of files of weights.

    Raises
    ------
    ConfigError
        Naming a keyword that is refused.
    """
    return with_gpaw_defaults(with_vasp_defaults(with_weights_digests(search)))
