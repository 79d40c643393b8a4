"""The other side of :mod:`fuse_flows.relax.gpaw.engine`: starts it, asks it, and ends it whatever it is doing."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fuse_flows.errors import ConfigError
from fuse_flows.relax.gpaw import engine
from fuse_flows.relax.threads import thread_environment
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from types import TracebackType

_FIELD = "tiers.calculator"
_ELSEWHERE = "on a machine that only submits, set FUSE_FLOWS_GPAW_ELSEWHERE=true"
#: Seconds within which the program must say its first word: imports on a slow file system, many ranks.
START_SECONDS = 300.0
#: Seconds that a launcher gets to end its ranks.
_PATIENCE = 5.0
_ERRORS = "gpaw.err"


class EngineDiedError(RuntimeError):
    """The program ended by itself, or was killed."""


class EngineTimeoutError(RuntimeError):
    """There was no answer in time; the program has been ended."""


def find_command() -> list[str]:
    """Return the command that runs a Python program with GPAW.

    Returns
    -------
    list of str
        ``FUSE_FLOWS_GPAW_COMMAND``, or this Python.

    Raises
    ------
    ConfigError
        If its first word is no program of this machine, or GPAW is not installed for this Python.
    """
    given = settings().gpaw_command
    if given is None:
        if find_spec("gpaw") is None:
            msg = (
                "gpaw is not installed for this Python; run scripts/install_gpaw.sh, or set FUSE_FLOWS_GPAW_COMMAND to "
                f"a command that runs a Python with GPAW, such as 'mpiexec -n 4 gpaw python'; {_ELSEWHERE}"
            )
            raise ConfigError(_FIELD, msg)
        return [sys.executable]
    command = shlex.split(given)
    if not command or shutil.which(command[0]) is None:
        program = command[0] if command else "nothing"
        msg = (
            f"gpaw is started by FUSE_FLOWS_GPAW_COMMAND ({given!r}), and {program!r} is no program here; {_ELSEWHERE}"
        )
        raise ConfigError(_FIELD, msg)
    return command


class Engine:
    """GPAW in a process, or in several ones, of its own; a context that ends it.

    Parameters
    ----------
    folder
        Its working folder, where it leaves ``gpaw.txt`` (GPAW's text) and ``gpaw.err``.
    command
        See :func:`find_command`.

    Raises
    ------
    ConfigError
        If the program does not come to its first word: no fault of a structure.
    """

    def __init__(self, folder: Path, command: list[str] | None = None) -> None:
        command = find_command() if command is None else command
        self._errors = folder / _ERRORS
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - the command is the user's own setting
                [*command, str(Path(engine.__file__).resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env=os.environ | thread_environment(settings().threads),
                start_new_session=True,
            )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            hello = self.ask({"do": "hello"}, START_SECONDS)
        except (EngineDiedError, EngineTimeoutError) as error:
            self.close()
            with_it = f"GPAW cannot be started by {shlex.join(command)!r} ({error})"
            msg = f"{with_it}; mend FUSE_FLOWS_GPAW_COMMAND; {_ELSEWHERE}"
            raise ConfigError(_FIELD, msg) from error
        self.version = str(hello.get("version", ""))
        self.ranks = int(hello.get("ranks", 1))

    @property
    def pid(self) -> int:
        """Identifier of the process, or of the launcher."""
        return self._process.pid

    def ask(self, request: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Parameters
        ----------
        request
            See :mod:`fuse_flows.relax.gpaw.engine`.
        seconds
            How long to wait; None: for ever.

        Returns
        -------
        dict
            The answer, which may be a failure.

        Raises
        ------
        EngineDiedError
            If the program ended.
        EngineTimeoutError
            If there was no answer in time.
        """
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(OSError):  # the answer will tell
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        try:
            line = self._answers.get(timeout=None if seconds is None else max(0.0, seconds))
        except queue.Empty:
            self.close()
            msg = f"no answer within {seconds:.0f} s"
            raise EngineTimeoutError(msg) from None
        if line is None:
            code = self._end()
            ended = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            msg = f"GPAW {ended}{self._last_words()}"
            raise EngineDiedError(msg)
        return json.loads(line)

    def close(self) -> None:
        """End the program, whatever it is doing."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        """Hand answers over as they come; None at the end. Whatever else is printed is dropped."""
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(ValueError, OSError), stdout:  # may be closed under our hands
            for line in stdout:
                if line.startswith(engine.MARK):
                    self._answers.put(line.removeprefix(engine.MARK))
        self._answers.put(None)

    def _end(self) -> int:
        """End the whole group of processes; a launcher is asked first, for it knows of ranks on other machines."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._gone(self._process.wait(0.2))
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._gone(self._process.wait(_PATIENCE))
        self._signal(signal.SIGKILL)
        return self._process.wait()

    def _gone(self, code: int) -> int:
        """Leave nothing of the group behind."""
        self._signal(signal.SIGKILL)
        return code

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _last_words(self) -> str:
        """Return what it wrote last; launchers draw frames around, and say more than, the error itself."""
        written = self._errors.read_text(errors="replace").splitlines()
        lines = [line.strip() for line in written if any(letter.isalpha() for letter in line)]
        errors = [line for line in lines if "Error" in line]
        return f": {(errors or lines)[-1][:200]}" if lines else ""


class Clock:
    """The time that a job has left.

    Parameters
    ----------
    seconds_left
        Seconds until it must have ended; None without a limit.
    buffer_seconds
        Seconds of these in which nothing new is begun.
    """

    def __init__(self, seconds_left: float | None = None, buffer_seconds: float = 0.0) -> None:
        self._end = None if seconds_left is None else time.monotonic() + seconds_left
        self._buffer = buffer_seconds

    def left(self) -> float | None:
        """Return the seconds that are left."""
        return None if self._end is None else self._end - time.monotonic()

    def is_over(self) -> bool:
        """Tell whether nothing new is to be begun."""
        left = self.left()
        return left is not None and left <= self._buffer
