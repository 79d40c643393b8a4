"""What a worker does that has nothing to do: now and then it looks for jobs whose worker is gone, and mends them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuse_flows.settings import settings
from fuse_flows.store.lost import claim_repair, suspicious_jobs
from fuse_flows.store.repair import repair

if TYPE_CHECKING:
    from fireworks import LaunchPad

MOST_LOSSES = 5
"""A job that was lost so often is marked as failed: whatever kills its workers would kill the next one, too."""
SECOND_LOOK = 1.0
"""Seconds after which a suspicion is looked at again before anything is read that takes time."""

log = logging.getLogger(__name__)


@dataclass
class IdleRepair:
    """Mends what lost workers left behind, while this worker has nothing to do.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search that the worker works on; None for all searches.
    worker
        Name of this worker, which runs nothing whenever it comes here.
    """

    launchpad: LaunchPad
    search_id: str | None
    worker: str
    _looked: float = field(default_factory=time.monotonic)

    def is_busy(self) -> None:
        """Say that this worker has run a job; the time to the next look begins anew."""
        self._looked = time.monotonic()

    def look(self) -> bool:
        """Look for lost jobs if the last look is long enough ago (``FUSE_FLOWS_REPAIR_EVERY``), and mend them.

        Returns
        -------
        bool
            Whether anything was mended. While all jobs run normally only they are read, and nothing is written.
        """
        if time.monotonic() - self._looked < settings().repair_every:
            return False
        self._looked = time.monotonic()
        suspected = self._suspected()
        if not suspected:
            return False
        time.sleep(SECOND_LOOK)
        return bool(suspected & self._suspected()) and self.mend() is True

    def mend(self) -> bool | None:
        """Mend whatever is broken, if no other worker does so just now.

        Returns
        -------
        bool or None
            Whether anything was mended; None if another worker has the leave to do it.
        """
        if not claim_repair(self.launchpad, self.search_id, settings().repair_every):
            return None
        report = repair(
            self.launchpad,
            self.search_id,
            lost_after=_lost_after(),
            rerun_fizzled=False,
            idle_worker=self.worker,
            most_losses=MOST_LOSSES,
        )
        if report.anything:
            log.warning("jobs were lost; repaired: %s", report)
        return report.anything

    def _suspected(self) -> set[tuple[int, object]]:
        return suspicious_jobs(self.launchpad, self.search_id, lost_after=_lost_after(), idle_worker=self.worker)


def _lost_after() -> float:
    """Return the seconds without a ping after which a worker elsewhere is lost, as FireWorks is configured."""
    from fireworks.fw_config import RUN_EXPIRATION_SECS

    return float(RUN_EXPIRATION_SECS)
