"""Put a LaunchPad back in a state in which the search goes on, whatever died and wherever.

FireWorks changes several documents one after the other, so a process that dies in between leaves them in
disagreement. Its own ``detect_lostruns`` sees a part of the cases only; here every one of them has its remedy. Nothing
is touched that a living worker may be about to finish: what looks broken must look the same a moment later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fuse_flows.store.once import ONCE, release_roots
from fuse_flows.store.processes import is_alive, local_worker_pid

if TYPE_CHECKING:
    from fireworks import LaunchPad

_DONE = ("COMPLETED", "FIZZLED")


@dataclass(frozen=True)
class RepairReport:
    """How many things were mended.

    Parameters
    ----------
    unlocked
        Workflows whose lock had been left behind.
    orphans
        Fireworks removed that belong to no workflow.
    released
        Fireworks made ready that their adder had not released.
    replayed
        Fireworks whose end the workflow had not noticed; the stored action was applied, nothing ran again.
    lost
        Launches without a living worker; their fireworks run again.
    unreserved
        Fireworks made ready again that were reserved by nobody.
    fizzled
        Failed fireworks made ready again.
    """

    unlocked: int = 0
    orphans: int = 0
    released: int = 0
    replayed: int = 0
    lost: int = 0
    unreserved: int = 0
    fizzled: int = 0

    @property
    def anything(self) -> bool:
        """Whether anything was mended."""
        return any(getattr(self, field.name) for field in fields(self))


def repair(
    launchpad: LaunchPad,
    search_id: str | None = None,
    *,
    lost_after: float | None,
    rerun_fizzled: bool = True,
    patience: float = 3.0,
    idle_worker: str | None = None,
    most_losses: int | None = None,
) -> RepairReport:
    """Mend what dead processes left behind.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search whose fireworks are looked at; None for the whole LaunchPad (where failed fireworks are made ready
        again only if they belong to a search).
    lost_after
        Seconds without a ping after which a running launch is lost; None: never for this reason. Workers whose name
        is :func:`.worker_name` and that belong to this machine are judged by their process instead.
    rerun_fizzled
        Make failed fireworks ready again, unless something that follows them has run already.
    patience
        Seconds after which a suspicion is checked again; 0 only when no worker can be alive.
    idle_worker
        Name of a worker that is known to run nothing, such as this process itself: what it seems to run is lost.
    most_losses
        A job that has been run so many times and was lost again is marked as failed; None: it always runs again.

    Returns
    -------
    RepairReport
        What was done.
    """
    scope = _Scope(launchpad, search_id)
    released = scope.release()
    broken = scope.suspicions()
    if patience > 0 and any(broken.values()):
        time.sleep(patience)
        again = scope.suspicions()
        broken = {kind: broken[kind] & again[kind] for kind in broken}
    unlocked = sum(scope.unlock(fw_id, updated_on) for fw_id, updated_on in broken["locked"])
    orphans = scope.remove([fw_id for fw_id, _ in broken["orphans"]])
    for fw_id, _ in broken["unnoticed"]:
        scope.replay(fw_id)
    lost = scope.lost_launches(lost_after, idle_worker)
    for launch_id in lost:
        launchpad.mark_fizzled(launch_id)
    unreserved = [fw_id for fw_id, _ in broken["unheld"] & scope.unheld()]
    _rerun(launchpad, scope.fireworks_of(lost, most_losses) + unreserved)
    failed = scope.failed() if rerun_fizzled else []
    _rerun(launchpad, failed)
    return RepairReport(unlocked, orphans, released, len(broken["unnoticed"]), len(lost), len(unreserved), len(failed))


def _rerun(launchpad: LaunchPad, fw_ids: list[int]) -> None:
    for fw_id in fw_ids:
        launchpad.rerun_fw(fw_id)


class _Scope:
    """The fireworks and workflows that a repair may touch.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    search_id
        The search; None for everything.
    """

    def __init__(self, launchpad: LaunchPad, search_id: str | None) -> None:
        self._launchpad = launchpad
        self._of_search = search_id is not None
        self._fireworks = {} if search_id is None else {"spec.search_id": search_id}
        self._workflows = {} if search_id is None else {"metadata.search_id": search_id}

    def suspicions(self) -> dict[str, set[tuple[int, Any]]]:
        """Return what looks broken: kinds, each with (id, what must not change in the meantime)."""
        return {
            "locked": self._locked(),
            "orphans": self._orphans(),
            "unnoticed": self._unnoticed(),
            "unheld": self.unheld(),
        }

    def release(self) -> int:
        """Release the workflows whose adder died before it did."""
        query = {**self._workflows, ONCE: {"$exists": True}, "state": "READY"}
        found = self._launchpad.workflows.find(query, {"nodes": 1, "parent_links": 1})
        return sum(release_roots(self._launchpad, workflow) for workflow in found)

    def _locked(self) -> set[tuple[int, Any]]:
        """Return locked workflows by a firework of theirs; whoever holds a lock rightly soon writes the document."""
        query = {**self._workflows, "locked": True}
        found = self._launchpad.workflows.find(query, {"nodes": 1, "updated_on": 1})
        return {(workflow["nodes"][0], workflow["updated_on"]) for workflow in found}

    def unlock(self, fw_id: int, updated_on: Any) -> int:
        """Take the lock off a workflow that has not been written since."""
        query = {"nodes": fw_id, "locked": True, "updated_on": updated_on}
        return self._launchpad.workflows.update_one(query, {"$unset": {"locked": True}}).modified_count

    def _orphans(self) -> set[tuple[int, Any]]:
        """Return fireworks of no workflow: inserted by a process that died before it wrote the workflow."""
        ids = {firework["fw_id"] for firework in self._launchpad.fireworks.find(self._fireworks, {"fw_id": 1})}
        query = {"nodes": {"$in": list(ids)}} if self._of_search else {}
        for workflow in self._launchpad.workflows.find(query, {"nodes": 1}):
            ids.difference_update(workflow["nodes"])
        return {(fw_id, None) for fw_id in ids}

    def remove(self, fw_ids: list[int]) -> int:
        """Remove fireworks with their launches."""
        self._launchpad.launches.delete_many({"fw_id": {"$in": fw_ids}})
        return self._launchpad.fireworks.delete_many({"fw_id": {"$in": fw_ids}}).deleted_count

    def _unnoticed(self) -> set[tuple[int, Any]]:
        """Return fireworks that have ended, by their own document or their launch, unnoticed by the workflow."""
        found: set[tuple[int, Any]] = set()
        noticed = {
            int(fw_id): state
            for workflow in self._launchpad.workflows.find(self._workflows, {"fw_states": 1})
            for fw_id, state in workflow["fw_states"].items()
        }
        query = {**self._fireworks, "state": {"$in": [*_DONE, "RUNNING"]}}
        for firework in self._launchpad.fireworks.find(query, {"fw_id": 1, "state": 1, "launches": 1}):
            fw_id, state = firework["fw_id"], firework["state"]
            if state == "RUNNING":
                ended = self._launch_states(firework["launches"])
                if ended and all(launch in _DONE for launch in ended):
                    found.add((fw_id, state))
            elif noticed.get(fw_id, state) != state:
                found.add((fw_id, state))
        return found

    def replay(self, fw_id: int) -> None:
        """Let the workflow notice the end of a firework and apply the stored action."""
        query = {"fw_id": fw_id, "state": {"$in": list(_DONE)}}
        self._launchpad.fireworks.update_one(query, {"$set": {"state": "RUNNING"}})
        self._launchpad._refresh_wf(fw_id)  # noqa: SLF001 - there is no public name for it

    def lost_launches(self, lost_after: float | None, idle_worker: str | None) -> list[int]:
        """Return running launches without a living worker."""
        query: dict[str, Any] = {"state": "RUNNING"}
        if self._of_search:
            ids = [firework["fw_id"] for firework in self._launchpad.fireworks.find(self._fireworks, {"fw_id": 1})]
            query["fw_id"] = {"$in": ids}
        shown = {"launch_id": 1, "fworker": 1, "state_history": 1}
        running = list(self._launchpad.launches.find(query, shown))
        return [
            launch["launch_id"]
            for launch in running
            if launch["fworker"]["name"] == idle_worker or is_lost(launch, lost_after)
        ]

    def fireworks_of(self, launch_ids: list[int], most_losses: int | None) -> list[int]:
        """Return the fireworks that ended with these launches, and with no other, unless they ran too often before."""
        query = {"launches": {"$in": launch_ids}, "state": {"$in": ["RUNNING", "FIZZLED"]}}
        found = self._launchpad.fireworks.find(query, {"fw_id": 1, "launches": 1, "archived_launches": 1})
        return [
            firework["fw_id"]
            for firework in found
            if all(state == "FIZZLED" for state in self._launch_states(firework["launches"]))
            and (most_losses is None or len(firework.get("archived_launches", ())) + 1 < most_losses)
        ]

    def unheld(self) -> set[tuple[int, Any]]:
        """Return reserved fireworks whose reservation no launch holds."""
        query = {**self._fireworks, "state": "RESERVED"}
        found = self._launchpad.fireworks.find(query, {"fw_id": 1, "launches": 1, "updated_on": 1})
        return {
            (firework["fw_id"], firework["updated_on"])
            for firework in found
            if "RESERVED" not in self._launch_states(firework["launches"])
        }

    def failed(self) -> list[int]:
        """Return failed fireworks of searches which nothing that has run depends on: a rerun would run that again."""
        of_a_search: dict[str, Any] = self._fireworks or {"spec.search_id": {"$exists": True}}
        query = {**of_a_search, "state": "FIZZLED"}
        found = {firework["fw_id"] for firework in self._launchpad.fireworks.find(query, {"fw_id": 1})}
        kept, behind = [], set()
        for workflow in self._launchpad.workflows.find({"nodes": {"$in": list(found)}}, {"links": 1, "fw_states": 1}):
            states = workflow["fw_states"]
            for fw_id, children in workflow["links"].items():
                if int(fw_id) in found and all(states[str(child)] in {"WAITING", "FIZZLED"} for child in children):
                    kept.append(int(fw_id))
                    behind.update(children)
        return [fw_id for fw_id in kept if fw_id not in behind]  # these run again with those before them

    def _launch_states(self, launch_ids: list[int]) -> list[str]:
        if not launch_ids:
            return []
        found = self._launchpad.launches.find({"launch_id": {"$in": launch_ids}}, {"state": 1})
        return [launch["state"] for launch in found]


def is_lost(launch: dict[str, Any], lost_after: float | None) -> bool:
    """Judge a running launch by the process of its worker if that is known, else by its last ping.

    Parameters
    ----------
    launch
        With ``fworker`` and ``state_history``.
    lost_after
        Seconds without a ping after which a worker elsewhere is lost; None: never for this reason.
    """
    running = [entry for entry in launch["state_history"] if entry["state"] == "RUNNING"]
    began, pinged = _time(running[-1]["created_on"]), _time(running[-1]["updated_on"])
    pid = local_worker_pid(launch["fworker"]["name"])
    if pid is not None:
        return not is_alive(pid, since=began.timestamp())
    return lost_after is not None and datetime.now(UTC) - pinged > timedelta(seconds=lost_after)


def _time(value: str | datetime) -> datetime:
    """Return a time as FireWorks stores it, which is in UTC whether it says so or not."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
