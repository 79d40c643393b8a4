"""When this process must end: the time that a queueing system has given it, and the signals that come before the end.

A job looks here between two structures. If there is no time for another one, it stores what it has and is followed by a
job that goes on from there, in this or any other allocation; a job that would only just begin is put back. None of
this changes what a search visits.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_SLOWER = 1.5  # how much longer than any before the next structure may take
_ASK_SECONDS = 20


@dataclass
class Ending:
    """The end of a process, as far as it is known.

    Parameters
    ----------
    ends_at
        When the allocation ends, in seconds of the epoch; None if that is unknown.
    margin
        Seconds before that in which no structure is begun. It grows with the slowest structure so far.
    clock
        Returns the time in seconds of the epoch.
    """

    ends_at: float | None = None
    margin: float = 0.0
    clock: Callable[[], float] = time.time
    requested: bool = False
    slowest: float = 0.0
    _began: float | None = field(default=None, repr=False)

    def begin(self) -> None:
        """Note that a structure begins."""
        self._began = self.clock()

    def lap(self) -> None:
        """Note that a structure is done, and that the next one may begin."""
        now = self.clock()
        if self._began is not None:
            self.slowest = max(self.slowest, now - self._began)
        self._began = now

    def is_near(self) -> bool:
        """Tell whether nothing more is to be begun: somebody asked this process to end, or too little time is left."""
        if self.requested or self.ends_at is None:
            return self.requested
        return self.clock() + max(self.margin, _SLOWER * self.slowest) >= self.ends_at


_ending: ContextVar[Ending | None] = ContextVar("fuse_flows_ending", default=None)


def current_ending() -> Ending | None:
    """Return the end that jobs of this context look at, or None."""
    return _ending.get()


@contextmanager
def look_at(ending: Ending) -> Iterator[Ending]:
    """Let the jobs that run while the context is open see when they have to end; signals ask them to.

    Handlers of signals are put back afterwards. In a thread other than the first there are none.
    """
    token = _ending.set(ending)

    def request(*_: Any) -> None:
        ending.requested = True

    try:
        with handling(SIGNALS, request):
            yield ending
    finally:
        _ending.reset(token)


@contextmanager
def handling(signals: Iterable[signal.Signals], handler: Callable[..., None]) -> Iterator[None]:
    """Let a function answer signals while the context is open; only the first thread can, in others nothing changes.

    Parameters
    ----------
    signals
        Which.
    handler
        As for :func:`signal.signal`.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {name: signal.signal(name, handler) for name in signals}
    try:
        yield
    finally:
        for name, earlier in before.items():
            signal.signal(name, signal.SIG_DFL if earlier is None else earlier)


def begin_structures() -> None:
    """Say that a job begins its first structure."""
    ending = _ending.get()
    if ending is not None:
        ending.begin()


def must_hand_over() -> bool:
    """Say that a structure is done, and learn whether there is no time for another one."""
    ending = _ending.get()
    if ending is None:
        return False
    ending.lap()
    return ending.is_near()


@cache
def ending_of_process() -> Ending:
    """Return the end of this process; looked up once, because the queueing system may have to be asked."""
    config = settings()
    ends_at = config.allocation_end or allocation_end(os.environ, now=time.time(), ask=_ask, began=_allocation_began)
    return Ending(ends_at, config.allocation_margin)


def allocation_end(
    environment: Mapping[str, str],
    *,
    now: float,
    ask: Callable[[list[str]], str],
    began: Callable[[str], float | None],
) -> float | None:
    """Find out when the allocation of a queueing system ends.

    Parameters
    ----------
    environment
        Environment variables. Slurm sets ``SLURM_JOB_END_TIME`` since version 23; an older one is asked with
        ``squeue``. PBS and Torque set ``PBS_WALLTIME`` to the seconds of the allocation. SGE tells nothing: there the
        setting ``FUSE_FLOWS_ALLOCATION_END`` is needed, which works everywhere.
    now
        Seconds of the epoch.
    ask
        Runs a command and returns what it prints; empty if it fails.
    began
        Returns when the first process began whose environment has a variable.

    Returns
    -------
    float or None
        Seconds of the epoch; None outside of an allocation, and where its end cannot be found out.
    """
    end = _number(environment.get("SLURM_JOB_END_TIME"))
    if end is not None:
        return end
    if "SLURM_JOB_ID" in environment:
        left = seconds_left(ask(["squeue", "--noheader", "--jobs", environment["SLURM_JOB_ID"], "--format", "%L"]))
        return None if left is None else now + left
    walltime = _number(environment.get("PBS_WALLTIME"))
    if walltime is not None:
        beginning = began("PBS_WALLTIME")
        return (now if beginning is None else beginning) + walltime
    return None


def seconds_left(text: str) -> float | None:
    """Read a duration as Slurm writes it: ``days-hours:minutes:seconds``, of which the first parts may be missing.

    Parameters
    ----------
    text
        The duration.

    Returns
    -------
    float or None
        Seconds; None for anything else, such as ``UNLIMITED``.

    Examples
    --------
    >>> seconds_left("1-02:03:04"), seconds_left("0:57"), seconds_left("UNLIMITED")
    (93784.0, 57.0, None)
    """
    days, dash, clock = text.strip().rpartition("-")
    numbers = [_number(part) for part in clock.split(":")]
    first = _number(days) if dash else 0.0
    known = [number for number in numbers if number is not None]
    if first is None or len(known) != len(numbers) or not 2 <= len(numbers) <= 3:
        return None
    return first * 86400 + sum(number * 60**power for power, number in enumerate(reversed(known)))


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a command of the queueing system that runs us
            command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _allocation_began(variable: str) -> float | None:
    """Return when the oldest of our parents began that has a variable in its environment; needs ``/proc``."""
    began, pid = None, os.getpid()
    try:
        boot = next(line for line in Path("/proc/stat").read_text("ascii").splitlines() if line.startswith("btime "))
        while pid > 1 and f"\0{variable}=".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rsplit(")", 1)[1].split()
            began = int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
            pid = int(fields[1])
    except (OSError, StopIteration, ValueError, IndexError):
        return began
    return began
