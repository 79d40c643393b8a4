"""Processes of this machine: whether one is still alive, and the name under which our workers sign their launches."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

_WORKER = re.compile(r"fuse-flows@(?P<host>.+):(?P<pid>\d+)")


def worker_name(pid: int | None = None) -> str:
    """Return the FWorker name by which ``repair`` recognises a worker of this machine.

    Parameters
    ----------
    pid
        Process of the worker; None for this process.

    Returns
    -------
    str
        ``fuse-flows@<host>:<pid>``.
    """
    return f"fuse-flows@{socket.gethostname()}:{os.getpid() if pid is None else pid}"


def local_worker_pid(name: str) -> int | None:
    """Return the process behind a worker name, if the worker runs on this machine.

    Parameters
    ----------
    name
        Name of an FWorker.

    Returns
    -------
    int or None
        None for a name that is not ours, or from another machine.
    """
    match = _WORKER.fullmatch(name)
    if match is None or match["host"] != socket.gethostname():
        return None
    return int(match["pid"])


def is_alive(pid: int, *, since: float | None = None) -> bool:
    """Tell whether a process is running.

    Parameters
    ----------
    pid
        Number of the process.
    since
        A time (seconds of the epoch) at which it was known to run: a process that started later has only inherited
        the number. Needs ``/proc``; without it the number alone decides.

    Returns
    -------
    bool
        False for no such process, for a zombie, and for another process under the same number.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, under another user
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # gone meanwhile, unless this system has no /proc at all
    except OSError:
        return True  # /proc hides the processes of other users
    fields = stat.rsplit(")", 1)[1].split()
    if fields[0] in {"Z", "X"}:
        return False
    if since is None or boot is None:
        return True
    started = int(boot[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return started <= since + 2.0  # btime is rounded to whole seconds
