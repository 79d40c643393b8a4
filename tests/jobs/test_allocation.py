"""Workers know when their time ends, stop between two structures, and what they leave others go on with."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import launch_rocket, rapidfire

from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.jobs.allocation import (
    Ending,
    _allocation_began,
    allocation_end,
    ending_of_process,
    look_at,
    must_hand_over,
    seconds_left,
)
from fuse_flows.settings import settings
from fuse_flows.store.queries import candidates
from fuse_flows.store.searches import search_document

INITIAL, STRUCTURES = 4, 12


class Clock:
    """A clock that goes on by some seconds whenever somebody looks at it."""

    def __init__(self, *, tick=0.0):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:57", 57),
        ("12:34:56", 45296),
        ("1-00:00:01", 86401),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
        ("17", None),
        ("x-1:00", None),
    ],
)
def test_durations_of_slurm(text, seconds):
    assert seconds_left(text) == seconds


def end(answer="", began=None, **environment):
    return allocation_end(environment, now=1000.0, ask=lambda _: answer, began=lambda _: began)


def test_end_of_the_allocation():
    assert end() is None
    assert end(SLURM_JOB_END_TIME="1700000000", SLURM_JOB_ID="7") == 1.7e9
    assert end("1:00\n", SLURM_JOB_ID="7") == 1060
    assert end("UNLIMITED\n", SLURM_JOB_ID="7") is None
    assert end("", SLURM_JOB_ID="7") is None
    assert end(PBS_WALLTIME="3600") == 4600
    assert end(PBS_WALLTIME="3600", began=900.0) == 4500
    assert end(JOB_ID="7", QUEUE="all.q") is None  # SGE


def test_setting_comes_first(monkeypatch):
    ending_of_process.cache_clear()
    monkeypatch.setenv("FUSE_FLOWS_ALLOCATION_END", "1234.5")
    monkeypatch.setenv("FUSE_FLOWS_ALLOCATION_MARGIN", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "99")
    settings.cache_clear()
    found = ending_of_process()
    ending_of_process.cache_clear()
    assert (found.ends_at, found.margin) == (1234.5, 7)


def test_beginning_of_an_allocation_is_that_of_its_oldest_process():
    code = "from fuse_flows.jobs.allocation import _allocation_began; print(_allocation_began('PBS_WALLTIME'))"
    before = time.time()
    script = ["/bin/sh", "-c", f'sleep 1.5; "{sys.executable}" -c "{code}"; true']
    done = subprocess.run(
        script,
        env=os.environ | {"PBS_WALLTIME": "60"},
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert before - 1.1 <= float(done.stdout) <= before + 1.4
    assert _allocation_began("NO_SUCH_VARIABLE") is None


def test_margin_grows_with_the_slowest_structure():
    clock = Clock()
    ending = Ending(100.0, 10.0, clock)
    ending.begin()
    for moment, is_near in ((8, False), (50, False), (52, False), (83, True)):  # the second one takes 42
        clock.now = moment
        ending.lap()
        assert ending.is_near() == (is_near or moment + 1.5 * ending.slowest >= 100)
    assert ending.slowest == 42


def test_nobody_looks_outside_of_a_worker():
    assert not must_hand_over()
    assert not Ending().is_near()
    assert Ending(requested=True).is_near()


def test_signal_asks_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with look_at(Ending()) as ending:
        assert not must_hand_over()
        os.kill(os.getpid(), signal.SIGTERM)
        assert must_hand_over()
        assert ending.requested
    assert signal.getsignal(signal.SIGTERM) is before


def config(**execution):
    return load_config(
        formula="Cu3Au",
        max_atoms=4,
        seed=5,
        generator={"initial_structures": INITIAL},
        stop={"max_structures": STRUCTURES},
        execution={"structures_per_job": INITIAL, "steps_per_job": 5, "jobs_per_segment": 2} | execution,
        tiers=[{"calculator": "emt", "max_steps": 15, "fmax": 0.3, "smax": 3}],
    )


def sequence(connection, search_id):
    fields = ("candidate_id", "energy_per_atom", "move", "accepted", "outcome", "cluster_id")
    return [tuple(found[field] for field in fields) for found in candidates(connection, search_id)]


@pytest.fixture(name="undisturbed")
def _undisturbed(connection_factory):
    connection, search = connection_factory(), config()
    submit(connection, search)
    work(connection, search.search_id)
    found = sequence(connection, search.search_id)
    assert len(found) == STRUCTURES
    return found


def finish_in_allocations(connection, search, allocation):
    """Go on in one allocation after the other; return how many it took, and how often a job handed over."""
    submit(connection, search)
    for number in range(1, 60):
        allocation()
        document = search_document(connection, search.search_id)
        if document.status == "finished":
            partial = connection.outputs.count_documents({"output.begun": {"$type": "array"}})
            return number, partial
        assert document.jobs.get("FIZZLED", 0) == document.jobs.get("RUNNING", 0) == 0
    pytest.fail("the search does not come to its end")
    return None


@pytest.mark.mongo
def test_short_allocations_end_with_the_same_search(undisturbed, connection):
    """Every look at the clock takes a second, so an allocation of 6 holds two or three structures."""
    search = config()

    def allocation():
        with look_at(Ending(6.0, 1.0, Clock(tick=1.0))):
            work(connection, search.search_id)

    number, partial = finish_in_allocations(connection, search, allocation)
    assert number >= 4
    assert partial >= 1
    assert sequence(connection, search.search_id) == undisturbed
    assert connection.candidates.count_documents({}) == STRUCTURES


@pytest.mark.mongo
def test_plain_rlaunch_ends_with_its_allocation(undisturbed, connection, monkeypatch):
    """FireWorks' own worker knows of no end: the Firetask hands over and lets it fetch no more."""
    search = config()
    endings = []
    monkeypatch.setattr("fuse_flows.jobs.firetask.ending_of_process", lambda: endings[-1])
    fetch = connection.launchpad.run_exists, connection.launchpad.checkout_fw

    def allocation():
        connection.launchpad.run_exists, connection.launchpad.checkout_fw = fetch
        endings.append(Ending(6.0, 1.0, Clock(tick=1.0)))
        with suppress(SystemExit):  # not raised where the search is over before the allocation
            rapidfire(connection.launchpad, FWorker(), strm_lvl="ERROR")

    number, partial = finish_in_allocations(connection, search, allocation)
    assert number >= 3
    assert partial >= 1
    assert sequence(connection, search.search_id) == undisturbed


@pytest.mark.mongo
def test_job_that_would_only_begin_is_put_back(undisturbed, connection):
    search = config()
    submit(connection, search)
    for _ in range(2):
        with look_at(Ending(requested=True)):
            assert launch_rocket(connection.launchpad, FWorker(), strm_lvl="ERROR")
    assert connection.outputs.count_documents({}) == 0
    assert search_document(connection, search.search_id).jobs == {"COMPLETED": 2, "READY": 1, "WAITING": 1}
    work(connection, search.search_id)
    assert sequence(connection, search.search_id) == undisturbed
