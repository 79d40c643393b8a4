"""The tier ``vasp`` behind the interface of all tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError
from fuse_flows.relax.staged import StagedRelaxer
from fuse_flows.relax.vasp.checks import require_vasp
from fuse_flows.relax.vasp.options import VASP, parse_options
from fuse_flows.relax.vasp.stage import RunSettings, of_machine
from fuse_flows.relax.vasp.staged import VaspProgress, relax_staged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.base import Part


class VaspRelaxer(StagedRelaxer):
    """Relaxation with VASP in stages, through atomate2 and custodian.

    Of the tier ``calculator_kwargs`` (:class:`.VaspOptions`), ``relax_cell``, ``pressure``, ``queue`` and the guards
    count. VASP's own tolerances take the place of ``fmax``, ``smax``, ``max_steps`` and ``optimizer``, and
    ``queue.wall_time`` that of ``time_limit``. Files stay in a folder of the working directory.

    Parameters
    ----------
    tier
        The tier.

    Raises
    ------
    ConfigError
        If a keyword is refused.
    """

    engine = VASP

    def __init__(self, tier: TierConfig) -> None:
        super().__init__(tier)
        self.options = parse_options(tier)

    def prepared(
        self, structure: Structure, seconds_left: float | None
    ) -> Callable[[dict[str, Any] | None, Path, int | None], Part]:
        """Refuse a machine without VASP or without a POTCAR; see :meth:`.StagedRelaxer.prepared`."""
        require_vasp(self.options, sorted({site.specie.symbol for site in structure}))
        queue = self.tier.queue_settings
        watch = RunSettings(seconds_left, queue.wall_buffer, queue.custodian)

        def run(progress: dict[str, Any] | None, folder: Path, stages: int | None) -> Part:
            begun = None if progress is None else VaspProgress.from_dict(progress)
            return relax_staged(structure, self.options, self.tier, folder, watch=watch, begun=begun, max_stages=stages)

        return run

    @staticmethod
    def is_of_machine(error: Exception) -> bool:
        """Tell whether there is no space, no memory, no right to write, or no VASP that begins."""
        return isinstance(error, ConfigError) or of_machine(error)
