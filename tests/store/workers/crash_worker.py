"""Run a LaunchPad's jobs and die, as by ``kill -9``, at the n-th time a point is reached: FILE POINT N."""

import os
import sys

import fireworks.core.launchpad as launchpad_module
import jobflow.core.store as jobstore_module
from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import rapidfire

from fuse_flows.store.processes import worker_name

FILE, POINT, TIMES = sys.argv[1], sys.argv[2], int(sys.argv[3])
reached = []
completing = []  # launches whose end is being stored


def reach(point):
    if point == POINT:
        reached.append(point)
        if len(reached) == TIMES:
            os._exit(137)


def around(owner, name, before=None, after=None):
    """Reach points before and after a method."""
    inner = getattr(owner, name)

    def method(self, *args, **kwargs):
        if before:
            reach(before())
        result = inner(self, *args, **kwargs)
        if after:
            reach(after(result))
        return result

    setattr(owner, name, method)


def either(at_end, at_checkout):
    return lambda *_: at_end if completing else at_checkout


def complete(self, *args, inner=LaunchPad.complete_launch, **kwargs):
    completing.append(args)
    try:
        return inner(self, *args, **kwargs)
    finally:
        completing.clear()


def upsert(self, fws, *, reassign_all=False, inner=LaunchPad._upsert_fws):
    if not completing:
        reach("checkout: launch there, firework not")
        return inner(self, fws, reassign_all=reassign_all)
    ids = {}
    for place, firework in enumerate(sorted(fws, key=lambda found: found.fw_id)):
        ids |= inner(self, [firework], reassign_all=reassign_all)
        if place == 0 and len(fws) > 1:
            reach("end: child there, parent not")
    if len(fws) > 1:
        reach("end: fireworks there, workflow not")
    return ids


around(jobstore_module.JobStore, "update", lambda: "job: before the output", lambda _: "job: after the output")
LaunchPad.complete_launch = complete
LaunchPad._upsert_fws = upsert
around(LaunchPad, "_refresh_wf", either("end: launch there, nothing else", "checkout: before the workflow"))
around(launchpad_module.WFLock, "__exit__", either("end: before unlock", "checkout: before unlock"))
around(LaunchPad, "complete_launch", None, lambda _: "end: all done")
around(LaunchPad, "_get_a_fw_to_run", None, lambda found: found and "checkout: reserved, no launch")
around(LaunchPad, "checkout_fw", None, lambda _: "checkout: all done")

rapidfire(LaunchPad.from_file(FILE), FWorker(worker_name()), sleep_time=1, strm_lvl="ERROR")
