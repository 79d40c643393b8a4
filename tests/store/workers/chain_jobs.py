"""Jobs for the tests of repair: they note in a file that they ran."""

import os
from pathlib import Path

from jobflow import CURRENT_JOB, Response, job


def note(text):
    with Path(os.environ["RAN_LOG"]).open("a", encoding="utf-8") as log:
        log.write(f"{text}\n")


@job
def step(i, n, mode="replace"):
    """A chain in which each step adds the next one."""
    note(f"step {i}")
    CURRENT_JOB.job.hosts = CURRENT_JOB.job.hosts[-1:]
    if i + 1 == n:
        return Response(output=i)
    return Response(output=i, **{mode: step(i + 1, n, mode)})


@job
def fails_once(flag):
    """Fail unless a file is there."""
    note("fails_once")
    if not Path(flag).exists():
        Path(flag).touch()
        raise RuntimeError("the first time it fails")
    return 1


@job
def collect(values):
    note("collect")
    return [value for value in values if isinstance(value, int)]
