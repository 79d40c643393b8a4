"""Threads of the numerical libraries: more than one per worker makes small cells slower, often many times over."""

from __future__ import annotations

import os
import sys
from typing import Any

_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def thread_environment(n: int) -> dict[str, str]:
    """Environment variables that limit the threads of a process; they count before its libraries load.

    Parameters
    ----------
    n
        Threads, at least 1.

    Returns
    -------
    dict
        Variables and values, for the environment of a child process.

    Raises
    ------
    ValueError
        If ``n`` is below 1.
    """
    if n < 1:
        msg = f"a process needs at least one thread, not {n}"
        raise ValueError(msg)
    return dict.fromkeys(_COUNTS, str(n)) | {"OMP_WAIT_POLICY": "PASSIVE"}


def limit_threads(n: int) -> None:
    """Limit the threads of this process and of its children.

    Libraries that are loaded later read the environment; those already loaded are told. Call it again after a
    library with a thread pool of its own was loaded in another way.

    Parameters
    ----------
    n
        Threads, at least 1.

    Raises
    ------
    ValueError
        If ``n`` is below 1.
    """
    from threadpoolctl import threadpool_limits

    os.environ.update(thread_environment(n))
    threadpool_limits(limits=n)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(n)
