"""The tier ``gpaw`` behind the interface of all tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError
from fuse_flows.relax.gpaw.checks import require_gpaw
from fuse_flows.relax.gpaw.options import GPAW, parse_options
from fuse_flows.relax.gpaw.process import Clock
from fuse_flows.relax.gpaw.staged import relax_staged
from fuse_flows.relax.staged import Progress, StagedRelaxer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.relax.base import Part


class GpawRelaxer(StagedRelaxer):
    """Relaxation with GPAW in stages; GPAW runs in a process of its own, so that its crash costs one structure.

    Of the tier ``calculator_kwargs`` (:class:`.GpawOptions`), ``fmax``, ``smax`` and ``max_steps`` (for stages that do
    not say otherwise), ``relax_cell``, ``queue`` and the guards count; the optimiser is our L-BFGS, and
    ``queue.wall_time`` takes the place of ``time_limit``. GPAW's text stays in a folder of the working directory.

    Parameters
    ----------
    tier
        The tier.

    Raises
    ------
    ConfigError
        If a keyword is refused.
    """

    engine = GPAW

    def __init__(self, tier: TierConfig) -> None:
        from fuse_flows.relax.descent import warm_up

        super().__init__(tier)
        self.options = parse_options(tier)
        warm_up()

    def prepared(
        self, structure: Structure, seconds_left: float | None
    ) -> Callable[[dict[str, Any] | None, Path, int | None], Part]:
        """Refuse a machine without GPAW or without the PAW data; see :meth:`.StagedRelaxer.prepared`."""
        clock = Clock(seconds_left, self.tier.queue_settings.wall_buffer)
        require_gpaw(self.options, {site.specie.symbol for site in structure})

        def run(progress: dict[str, Any] | None, folder: Path, stages: int | None) -> Part:
            begun = None if progress is None else Progress.from_dict(progress)
            return relax_staged(structure, self.options, self.tier, folder, clock=clock, begun=begun, max_stages=stages)

        return run

    @staticmethod
    def is_of_machine(error: Exception) -> bool:
        """Tell whether GPAW could not be started, or a disk failed under it."""
        return isinstance(error, ConfigError | OSError)
