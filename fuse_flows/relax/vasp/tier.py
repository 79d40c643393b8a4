"""The tier ``vasp`` behind the interface of all tiers."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.base import Part
from fuse_flows.relax.result import Outcome, RelaxResult, one_line
from fuse_flows.relax.vasp.checks import require_vasp
from fuse_flows.relax.vasp.options import VASP, parse_options
from fuse_flows.relax.vasp.stage import RunSettings, of_machine
from fuse_flows.relax.vasp.staged import Progress, relax_staged

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig


class VaspRelaxer:
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

    def __init__(self, tier: TierConfig) -> None:
        self.tier = tier
        self.options = parse_options(tier)
        self._version = ""

    @property
    def name(self) -> str:
        """Name of the calculator, as in the configuration."""
        return VASP

    @property
    def version(self) -> str:
        """Version of VASP; empty before it has run."""
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
            If this machine has no VASP or lacks a POTCAR: no fault of the structure.
        """
        require_vasp(self.options, sorted({site.specie.symbol for site in structure}))
        queue = self.tier.queue_settings
        watch = RunSettings(seconds_left, queue.wall_buffer, queue.custodian)
        begun = None if progress is None else Progress.from_dict(progress)
        folder = Path(tempfile.mkdtemp(prefix="vasp_", dir=place))
        stages = 1 if one_stage else None
        try:
            part = relax_staged(structure, self.options, self.tier, folder, watch=watch, begun=begun, max_stages=stages)
        except Exception as error:
            if of_machine(error):
                raise
            reason = one_line(f"{type(error).__name__}: {error}")
            failed = RelaxResult(Outcome.ENGINE_ERROR, structure.copy(), reason=reason, engine=VASP)
            part = Part(replace(failed, pressure=self.tier.gigapascals), None, None)
        if part.result is not None:
            self._version = part.result.engine_version or self._version
        return part
