"""The points at which a FireWorks worker may die and leave the LaunchPad in disagreement with itself."""

import os

import fireworks.core.launchpad as launchpad_module
import jobflow.core.store as jobstore_module
from fireworks import LaunchPad

# point, which time a chain of steps reaches it in the middle
POINTS = {
    "job: before the output": 2,
    "job: after the output": 2,
    "end: launch there, nothing else": 2,
    "end: child there, parent not": 2,
    "end: fireworks there, workflow not": 2,
    "end: before unlock": 2,
    "end: all done": 2,
    "checkout: reserved, no launch": 2,
    "checkout: launch there, firework not": 3,
    "checkout: before the workflow": 2,
    "checkout: before unlock": 2,
    "checkout: all done": 2,
}


class Death:
    """Die, as by ``kill -9``, at the n-th time a point is reached."""

    def __init__(self, point, times):
        self.point, self.times = point, times
        self.reached, self.completing = 0, False

    def reach(self, point):
        if point == self.point:
            self.reached += 1
            if self.reached == self.times:
                os._exit(137)

    def around(self, owner, name, before=None, after=None):
        """Reach points before and after a method."""
        inner = getattr(owner, name)

        def method(this, *args, **kwargs):
            if before:
                self.reach(before())
            result = inner(this, *args, **kwargs)
            if after:
                self.reach(after(result))
            return result

        setattr(owner, name, method)

    def either(self, at_end, at_checkout):
        return lambda *_: at_end if self.completing else at_checkout


def die_at(point, times):
    """Let this process die at the n-th time it reaches a point; to be called once, in a process that may die."""
    death = Death(point, times)
    complete_launch, upsert_fws = LaunchPad.complete_launch, LaunchPad._upsert_fws

    def complete(self, *args, **kwargs):
        death.completing = True
        try:
            return complete_launch(self, *args, **kwargs)
        finally:
            death.completing = False

    def upsert(self, fws, *, reassign_all=False):
        if not death.completing:
            death.reach("checkout: launch there, firework not")
            return upsert_fws(self, fws, reassign_all=reassign_all)
        ids = {}
        for place, firework in enumerate(sorted(fws, key=lambda found: found.fw_id)):
            ids |= upsert_fws(self, [firework], reassign_all=reassign_all)
            if place == 0 and len(fws) > 1:
                death.reach("end: child there, parent not")
        if len(fws) > 1:
            death.reach("end: fireworks there, workflow not")
        return ids

    store = jobstore_module.JobStore
    death.around(store, "update", lambda: "job: before the output", lambda _: "job: after the output")
    LaunchPad.complete_launch, LaunchPad._upsert_fws = complete, upsert
    at_refresh = death.either("end: launch there, nothing else", "checkout: before the workflow")
    death.around(LaunchPad, "_refresh_wf", at_refresh)
    death.around(launchpad_module.WFLock, "__exit__", death.either("end: before unlock", "checkout: before unlock"))
    death.around(LaunchPad, "complete_launch", None, lambda _: "end: all done")
    death.around(LaunchPad, "_get_a_fw_to_run", None, lambda found: found and "checkout: reserved, no launch")
    death.around(LaunchPad, "checkout_fw", None, lambda _: "checkout: all done")
