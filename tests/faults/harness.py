"""Searches that are disturbed in every way a cluster knows, and compared with one that was left in peace.

Workers are forked from this process, which has imported everything already; each makes connections of its own.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
from fireworks import LaunchPad

from fuse_flows.config import load_config
from fuse_flows.flows.local import extend, submit
from fuse_flows.flows.worker import work
from fuse_flows.jobs import firetask
from fuse_flows.jobs.allocation import Ending, look_at
from fuse_flows.store.connection import Connection
from fuse_flows.store.jobstore import jobstore_from_launchpad
from fuse_flows.store.processes import is_alive
from fuse_flows.store.queries import candidates
from fuse_flows.store.repair import repair
from fuse_flows.store.searches import search_document
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

sys.path.insert(0, str(Path(__file__).parents[1] / "store" / "workers"))
from crash_points import POINTS, die_at

INITIAL, STRUCTURES = 4, 12
FIELDS = ("candidate_id", "energy_per_atom", "move", "accepted", "outcome", "verdict", "cluster_id", "failed_moves")
ROUNDS = 5
PATIENCE = 300.0
FORK = multiprocessing.get_context("fork")


def search_config(**execution):
    return load_config(
        formula="Cu3Au",
        max_atoms=4,
        seed=5,
        generator={"initial_structures": INITIAL},
        stop={"max_structures": STRUCTURES},
        execution={"structures_per_job": 2, "steps_per_job": 1, "jobs_per_segment": 3} | execution,
        tiers=[{"calculator": "emt", "max_steps": 15, "fmax": 0.3, "smax": 3}],
    )


def connection_to(server, name):
    """Connect to a database of a server, with little patience when it is away."""
    values = server.launchpad_values() | {"name": name, "strm_lvl": "CRITICAL"}
    values["mongoclient_kwargs"] = values["mongoclient_kwargs"] | {"serverSelectionTimeoutMS": 1500}
    launchpad = LaunchPad(**values)
    return Connection(launchpad, jobstore_from_launchpad(launchpad), "test", "test", "test")


@dataclass
class Ground:
    """A database for one search, and a folder for its workers."""

    server: EmbeddedServer
    folder: Path
    name: str
    connection: Connection
    config: object

    @classmethod
    def prepare(cls, server, folder, **execution):
        """Return the ground of a search that was submitted and not begun."""
        name = f"fault_{uuid4().hex[:8]}"
        ground = cls(server, folder / name, name, connection_to(server, name), search_config(**execution))
        ground.folder.mkdir(parents=True)
        ensure_indexes(ground.connection)
        submit(ground.connection, ground.config)
        return ground

    def worker(self, before=lambda: None, ending=None, folder=None):
        """Start a worker process; ``before`` is called in it."""
        process = FORK.Process(target=self._work, args=(before, ending, folder or self.folder))
        process.start()
        return process

    def _work(self, before, ending, folder):
        for cached in (jobstore_from_launchpad, firetask._prepared_jobstore):
            cached.cache_clear()
        log = os.open(self.folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)
        signal.alarm(int(PATIENCE))  # whatever happens, it does not outlive the test
        code = 1
        try:
            before()
            connection = connection_to(self.server, self.name)
            with look_at(ending or Ending()):
                work(connection, self.config.search_id)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)

    def stored(self):
        return len(candidates(self.connection, self.config.search_id))

    def wait_for(self, number, processes=()):
        """Wait until so many candidates are stored, or all processes have ended."""
        deadline = time.monotonic() + PATIENCE
        while self.stored() < number:
            if processes and not any(process.is_alive() for process in processes):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.stored()} of {number} candidates after {PATIENCE} s")
            time.sleep(0.02)

    def resume(self):
        """Go on as 'fuse-flows resume' does, with a worker process; return what was mended in how many rounds."""
        mended, search_id = Counter(), self.config.search_id
        for round_number in range(ROUNDS):
            if search_document(self.connection, search_id).status == "finished":
                return dict(mended), round_number
            report = repair(self.connection.launchpad, search_id, lost_after=None, patience=0.2)
            mended.update({name: number for name, number in vars(report).items() if number})
            extend(self.connection, self.config)
            self.worker().join(PATIENCE)
        return dict(mended), ROUNDS

    def close(self):
        self.connection.launchpad.connection.drop_database(self.name)
        self.connection.close()


def sequence(connection, search_id):
    return [tuple(found[field] for field in FIELDS) for found in candidates(connection, search_id)]


def undisturbed(server, folder):
    """Return the candidates of the search that is left in peace."""
    ground = Ground.prepare(server, folder)
    ground.worker().join(PATIENCE)
    found = sequence(ground.connection, ground.config.search_id)
    ground.close()
    if len(found) != STRUCTURES or len({key for key, *_ in found}) != STRUCTURES:
        raise AssertionError((ground.folder / "worker.log").read_text())
    return found


@dataclass(frozen=True)
class Fault:
    """A way to disturb a search.

    Parameters
    ----------
    kind, name
        What is done.
    disturb
        Does it to a ground; afterwards nothing works on the search any more. It returns whether it struck.
    execution
        How the search is cut into jobs.
    """

    kind: str
    name: str
    disturb: Callable[[Ground], bool]
    execution: tuple = ()


def crash(ground, point, times):
    worker = ground.worker(partial(die_at, point, times))
    worker.join(PATIENCE)
    return worker.exitcode == 137


def kill_at_random(ground, seed):
    """Kill a worker twice, at moments that a seed decides."""
    rng, struck = np.random.default_rng(seed), False
    for number in sorted(rng.choice(STRUCTURES - 2, 2, replace=False)):
        worker = ground.worker()
        ground.wait_for(number, [worker])
        time.sleep(rng.random() * 0.2)
        worker.kill()
        worker.join()
        struck |= worker.exitcode == -signal.SIGKILL
        repair(ground.connection.launchpad, ground.config.search_id, lost_after=None, patience=0.2)
    return struck


def kill_mongod(ground, number, seconds):
    """Kill the database under a living worker, and start it again after so many seconds."""
    worker = ground.worker()
    ground.wait_for(number, [worker])
    pid = ground.server.status().pid
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)
    time.sleep(seconds)
    ground.server.start()
    worker.join(PATIENCE)
    return worker.exitcode == 0


def terminate(ground, number):
    worker = ground.worker()
    ground.wait_for(number, [worker])
    worker.terminate()
    worker.join(PATIENCE)
    return worker.exitcode == 0 and ground.stored() < STRUCTURES


class _Clock:
    """A clock that goes on by a second whenever somebody looks at it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def time_limit(ground, seconds):
    """Work in allocations of so many looks at the clock."""
    struck = 0
    for _ in range(40):
        if search_document(ground.connection, ground.config.search_id).status == "finished":
            break
        worker = ground.worker(ending=Ending(seconds, 1.0, _Clock()))
        worker.join(PATIENCE)
        if worker.exitcode != 0:
            return False
        struck += 1
    return struck > 2


def two_workers(ground, kill_one_after=None):
    workers = [ground.worker(), ground.worker()]
    if kill_one_after is not None:
        ground.wait_for(kill_one_after, workers)
        workers[0].kill()
    for worker in workers:
        # the one that is left waits for the job of the dead one: whoever sees that calls repair
        deadline = time.monotonic() + PATIENCE
        while worker.is_alive() and time.monotonic() < deadline:
            worker.join(1.0)
            repair(ground.connection.launchpad, ground.config.search_id, lost_after=None, patience=0.5)
    return all(worker.exitcode in {0, -signal.SIGKILL} for worker in workers)


@contextmanager
def small_disk(folder, size):
    """Mount a tmpfs of so many bytes; only root can do that."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)  # noqa: S607
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def fill(folder, leave):
    """Fill a disk but for so many bytes."""
    ballast, room = folder / "ballast", os.statvfs(folder)
    with ballast.open("wb", buffering=0) as file, suppress(OSError):  # others write, too
        for _ in range(max(0, room.f_bavail * room.f_frsize - leave) // 4096 + (leave == 0)):
            file.write(bytes(4096))
    return ballast


def full_disk_of_the_worker(ground):
    """Let a worker run where nothing can be written, until its disk has room again."""
    with small_disk(ground.folder / "disk", 65536) as disk:
        ballast = fill(disk, 4096)
        worker = ground.worker(folder=disk)
        worker.join(PATIENCE)
        failed = search_document(ground.connection, ground.config.search_id).jobs.get("FIZZLED", 0)
        ballast.unlink()
    return failed > 0


def full_disk_of_mongod(ground, number):
    """Fill the disk of the database under a living worker; make room and start it again a moment later."""
    worker = ground.worker()
    ground.wait_for(number, [worker])
    pid, disk = ground.server.status().pid, ground.server.data_dir.parent
    ballast = fill(disk, 0)
    client = ground.connection.launchpad.connection
    deadline = time.monotonic() + 120
    while is_alive(pid) and time.monotonic() < deadline:  # it gives up when it must write a checkpoint
        try:
            client.admin.command("fsync")
        except Exception:  # noqa: BLE001 - whatever a server says that cannot write
            time.sleep(0.2)
    struck = not is_alive(pid)
    ballast.unlink()
    ground.server.start()
    worker.join(PATIENCE)
    return struck


def all_faults(*, is_root):
    """Return the whole campaign."""
    early = [Fault("crash point", point, partial(crash, point=point, times=times)) for point, times in POINTS.items()]
    late = [
        Fault("crash point", f"{point} (late)", partial(crash, point=point, times=3 if "workflow not" in point else 5))
        for point in POINTS
        if "parent not" not in point
    ]
    kills = [Fault("kill -9", f"random moments {seed}", partial(kill_at_random, seed=seed)) for seed in range(6)]
    databases = [
        Fault("mongod killed", f"away for {seconds} s", partial(kill_mongod, number=number, seconds=seconds))
        for number, seconds in ((2, 0), (5, 4), (8, 8))
    ]
    endings = [Fault("SIGTERM", f"after {n} structures", partial(terminate, number=n)) for n in (1, 5, 9)]
    cut = (("structures_per_job", 4), ("steps_per_job", 5), ("jobs_per_segment", 2))
    endings += [
        Fault("time limit", f"allocations of {seconds} s", partial(time_limit, seconds=seconds), cut)
        for seconds in (6.0, 9.0)
    ]
    pairs = [Fault("two workers", "at once", two_workers)]
    pairs += [Fault("two workers", f"one killed after {n}", partial(two_workers, kill_one_after=n)) for n in (2, 6)]
    disks = [Fault("disk full", "of the worker", full_disk_of_the_worker)] if is_root else []
    return [*early, *late, *kills, *databases, *endings, *pairs, *disks]


def full_disks_of_mongod():
    """Return the faults for a server whose data lie on a small disk of their own."""
    return [Fault("disk full", f"of mongod, after {n}", partial(full_disk_of_mongod, number=n)) for n in (3, 7)]


def trial(fault, server, folder, expected):
    """Disturb a search, resume it, and compare it candidate by candidate; return a row of the table."""
    ground = Ground.prepare(server, folder, **dict(fault.execution))
    began = time.monotonic()
    struck = fault.disturb(ground)
    mended, rounds = ground.resume()
    found = sequence(ground.connection, ground.config.search_id)
    known = {entry[0]: entry for entry in expected}
    keys = Counter(entry[0] for entry in found)
    view = ground.connection.candidates.count_documents({})
    row = {
        "kind": fault.kind,
        "name": fault.name,
        "struck": struck,
        "lost": len(set(known) - set(keys)),
        "duplicated": sum(keys.values()) - len(keys) + max(0, view - len(found)),
        "different": sum(known.get(entry[0]) != entry for entry in found),
        "left_over": ground.connection.launchpad.workflows.count_documents({"locked": True})
        + ground.connection.launchpad.fireworks.count_documents({"state": {"$ne": "COMPLETED"}}),
        "resumed": rounds,
        "mended": mended,
        "seconds": round(time.monotonic() - began, 1),
    }
    ground.close()
    return row


def failed_row(fault, error):
    """Return the row of a run that ended with an exception."""
    counts = dict.fromkeys(("lost", "duplicated", "different", "left_over"), 0)
    what = {"kind": fault.kind, "name": fault.name, "struck": False, "error": f"{type(error).__name__}: {error}"}
    return what | counts | {"resumed": 0, "mended": {}, "seconds": 0.0}


def is_harmless(row):
    """Tell whether nothing was lost, duplicated, changed or left over, although the fault struck."""
    return row["struck"] and not any(row[key] for key in ("lost", "duplicated", "different", "left_over"))
