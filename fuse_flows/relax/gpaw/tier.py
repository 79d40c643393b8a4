"""The tier ``gpaw`` behind the interface of all tiers."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError
from fuse_flows.relax.base import Part
from fuse_flows.relax.gpaw.checks import require_gpaw
from fuse_flows.relax.gpaw.options import GPAW, parse_options
from fuse_flows.relax.gpaw.process import Clock
from fuse_flows.relax.gpaw.staged import Progress, relax_staged
from fuse_flows.relax.result import Outcome, RelaxResult, one_line

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig


class GpawRelaxer:
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

    def __init__(self, tier: TierConfig) -> None:
        from fuse_flows.relax.descent import warm_up

        self.tier = tier
        self.options = parse_options(tier)
        self._version = ""
        warm_up()

    @property
    def name(self) -> str:
        """Name of the calculator, as in the configuration."""
        return GPAW

    @property
    def version(self) -> str:
        """Version of GPAW; empty before it has run."""
        return self._version

    def relax(self, structure: Structure) -> RelaxResult:
        """Relax a structure without a limit of time; see :meth:`fuse_flows.relax.base.Relaxer.relax`."""
        result = self.advance(structure, None, Path.cwd()).result
        assert result is not None  # noqa: S101 - without a limit it comes to its end
        return result

    def advance(
        self,
        structure: Structure,
        progress: dict[str, Any] | None,
        place: Path,
        *,
        seconds_left: float | None = None,
        one_stage: bool = False,
    ) -> Part:
        """Go on with a relaxation; see :meth:`fuse_flows.relax.base.PartwiseRelaxer.advance`.

        Raises
        ------
        ConfigError
            If this machine has no GPAW or lacks PAW data: no fault of the structure.
        """
        clock = Clock(seconds_left, self.tier.queue_settings.wall_buffer)
        require_gpaw(self.options, {site.specie.symbol for site in structure})
        begun = None if progress is None else Progress.from_dict(progress)
        folder = Path(tempfile.mkdtemp(prefix="gpaw_", dir=place))
        stages = 1 if one_stage else None
        try:
            part = relax_staged(structure, self.options, self.tier, folder, clock=clock, begun=begun, max_stages=stages)
        except (ConfigError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - every failure of a structure is a result with a reason
            reason = one_line(f"{type(error).__name__}: {error}")
            part = Part(RelaxResult(Outcome.ENGINE_ERROR, structure.copy(), reason=reason, engine=GPAW), None, None)
        if part.result is None:
            return part
        self._version = part.result.engine_version or self._version
        return replace(part, result=replace(part.result, pressure=self.tier.gigapascals))
