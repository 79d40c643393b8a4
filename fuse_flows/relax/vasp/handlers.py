"""custodian's error handlers for one stage: fresh copies of atomate2's, less those that undo staged relaxations."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomate2.vasp.run import DEFAULT_HANDLERS
from custodian.vasp.handlers import (
    FrozenJobErrorHandler,
    KspacingMetalHandler,
    UnconvergedErrorHandler,
    WalltimeHandler,
)
from custodian.vasp.io import load_vasprun

if TYPE_CHECKING:
    from custodian.custodian import ErrorHandler

WALLTIME_REACHED = "Walltime reached"
"""What custodian writes into its log when a run was asked to end for want of time."""

UNDO_STAGES = (UnconvergedErrorHandler, KspacingMetalHandler)
"""The first restarts a stage that used up its steps, the second replaces the k-spacing of a metal."""


class ElectronicErrorHandler(UnconvergedErrorHandler):
    """Correct a run whose last self-consistency loop has not converged; used-up ionic steps are no error."""

    def check(self, directory: str = "./") -> bool:
        """Tell whether the last self-consistency loop used up NELM."""
        try:
            return not load_vasprun(str(Path(directory) / self.output_filename)).converged_electronic
        except Exception:  # noqa: BLE001 - a vasprun.xml that cannot be read is the validators' affair
            return False


class DeadlineHandler(WalltimeHandler):
    """Ask VASP to end after its ionic step when this job's time is nearly over.

    custodian's own handler counts from the first handler of the process, which may have run many jobs since.

    Parameters
    ----------
    wall_time
        Seconds that are left now.
    buffer_time
        Seconds to be kept for the last ionic step and for what follows.
    """

    def __init__(self, wall_time: float, buffer_time: float) -> None:
        self.wall_time = wall_time
        self.buffer_time = buffer_time
        self.electronic_step_stop = False
        self.start_time = dt.datetime.now()  # noqa: DTZ005 - the handler compares it with such times
        self.prev_check_time = self.start_time
        self.electronic_steps_timings = [0]


def stage_handlers(
    frozen_seconds: float, seconds_left: float | None = None, buffer_seconds: float = 0.0
) -> list[ErrorHandler]:
    """Return handlers for one run; they count corrections, so each run needs its own.

    Parameters
    ----------
    frozen_seconds
        Output that has not grown for so long is frozen.
    seconds_left
        Seconds until the job must have ended; None without a limit.
    buffer_seconds
        Seconds of these that the last ionic step may need.

    Returns
    -------
    list of ErrorHandler
        In atomate2's order.
    """
    special: dict[type, dict[str, Any]] = {FrozenJobErrorHandler: {"timeout": frozen_seconds}}
    kept = [type(handler) for handler in DEFAULT_HANDLERS if not isinstance(handler, UNDO_STAGES)]
    handlers = [kind(**special.get(kind, {})) for kind in kept] + [ElectronicErrorHandler()]
    if seconds_left is not None:
        handlers.append(DeadlineHandler(seconds_left, buffer_seconds))
    return handlers
