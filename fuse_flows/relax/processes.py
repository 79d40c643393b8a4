"""Worker processes that relax structures side by side, each with threads of its own.

The variables that limit the threads of a process count only before its libraries load, so the processes are started
anew, not forked; they stay, with their models loaded, until the process that started them ends.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

from fuse_flows.relax.result import Outcome, RelaxResult, one_line
from fuse_flows.relax.threads import thread_environment
from fuse_flows.relax.worker import request_of, result_of
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from fuse_flows.relax.ase_tier import AseRelaxer

#: Time that a process may take to end, s.
PATIENCE = 10.0
#: Processes that may die over one structure before it is taken for the cause: one may be killed for want of memory.
TRIES = 2


class WorkerError(RuntimeError):
    """A worker process ended in the midst of a relaxation."""


class _Worker:
    """One process; it is started when it is first asked, and anew after it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._is_closed = False  # by an interrupt

    def open(self) -> None:
        """Let it be asked again after it was closed."""
        self._is_closed = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        if self._process is None:
            self._process = _start()
            weakref.finalize(self, _end, self._process)
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise WorkerError("no pipes")
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):  # nothing, or half of an answer
            self._process = None
            msg = f"the process ended with code {_end(process)}"
            raise WorkerError(msg)
        return json.loads(line)

    def ask_again(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask; if the process died, ask another one, for the structure need not be the cause."""
        for _ in range(TRIES - 1):
            try:
                return self.ask(request)
            except WorkerError:
                if self._is_closed:
                    raise
        return self.ask(request)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()
            _end(self._process)
            self._process = None


class Processes:
    """Some worker processes, of which each takes the next structure as soon as it is free.

    Parameters
    ----------
    number
        How many at most; they are started as they are needed.
    """

    def __init__(self, number: int) -> None:
        self._workers = [_Worker() for _ in range(number)]

    def relax(
        self, relaxer: AseRelaxer, structures: Sequence[Structure], reference: float | None = None
    ) -> list[RelaxResult]:
        """Relax structures; see :meth:`fuse_flows.relax.ase_tier.AseRelaxer.relax_batch`.

        Parameters
        ----------
        relaxer
            Made from a tier alone.
        structures
            Ordered, periodic structures; they are not changed.
        reference
            As for :meth:`fuse_flows.relax.ase_tier.AseRelaxer.relax`.

        Returns
        -------
        list of RelaxResult
            In the order of the structures.
        """
        free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            worker.open()
            free.put(worker)

        def one(structure: Structure) -> RelaxResult:
            if not structure.is_ordered:
                return relaxer.relax(structure)  # which says so
            worker = free.get()
            try:
                return result_of(worker.ask_again(request_of(relaxer.tier, structure, reference)), structure, relaxer)
            except WorkerError as error:
                return RelaxResult(
                    outcome=Outcome.ENGINE_ERROR,
                    structure=structure.copy(),
                    reason=one_line(str(error)),
                    engine=relaxer.name,
                    engine_version=relaxer.version,
                    pressure=relaxer.tier.gigapascals,
                )
            finally:
                free.put(worker)

        with ThreadPoolExecutor(min(len(self._workers), len(structures))) as pool:
            try:
                return list(pool.map(one, structures))
            except BaseException:  # an interrupt; threads that wait for an answer would hold up the end
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in self._workers:
                    worker.close()
                raise


def relax_in_processes(
    relaxer: AseRelaxer, structures: Sequence[Structure], workers: int, *, reference: float | None = None
) -> list[RelaxResult]:
    """Relax structures in worker processes that all relaxers of this process share.

    Parameters
    ----------
    relaxer, structures, reference
        As for :meth:`Processes.relax`.
    workers
        Number of processes.

    Returns
    -------
    list of RelaxResult
        In the order of the structures.
    """
    return _processes(workers, os.getpid()).relax(relaxer, structures, reference)


@cache
def _processes(number: int, _pid: int) -> Processes:
    """Return the processes of this process; a fork of it must not talk to them."""
    return Processes(number)


def _start() -> subprocess.Popen[str]:
    """Start a worker that finds the modules that are found here."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-m", "fuse_flows.relax.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | thread_environment(settings().threads) | {"PYTHONPATH": path},
    )


def _end(process: subprocess.Popen[str]) -> int:
    """Let a process end, and return its code."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
