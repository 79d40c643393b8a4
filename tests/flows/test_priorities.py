"""Searches of higher priority go first, and all later jobs of a search inherit what was given to it."""

import pytest
from fireworks import FWorker, Workflow
from fireworks.core.rocket_launcher import launch_rocket

from fuse_flows.config import load_config
from fuse_flows.flows.local import extend, submit, work
from fuse_flows.flows.search import SearchMaker
from fuse_flows.jobs.allocation import Ending, look_at
from fuse_flows.store.priorities import priority_of_search, set_priority

pytestmark = pytest.mark.mongo


def config(**changes):
    values = {
        "formula": "Cu3Au",
        "max_atoms": 4,
        "generator": {"initial_structures": 2},
        "stop": {"max_structures": 8},
        "execution": {"jobs_per_segment": 2, "structures_per_job": 2},
        "tiers": [{"calculator": "emt", "max_steps": 3, "fmax": 1, "smax": 9}],
    }
    return load_config(**values | changes)


def priorities(connection, search_id):
    """Return the priority of every job, in the order in which they were made."""
    found = connection.launchpad.fireworks.find(
        {"spec.search_id": search_id}, {"spec._priority": 1}, sort=[("fw_id", 1)]
    )
    return [firework["spec"].get("_priority") for firework in found]


def test_later_jobs_inherit_and_the_higher_search_goes_first(connection):
    low, high = config(seed=1), config(seed=2)
    submit(connection, low, priority=1)
    submit(connection, high, priority=7)
    work(connection)
    assert set(priorities(connection, low.search_id)) == {1}
    assert set(priorities(connection, high.search_id)) == {7}
    assert len(priorities(connection, high.search_id)) > 6, "two segments and more"
    names = {
        firework["fw_id"]: firework["spec"]["search_id"]
        for firework in connection.launchpad.fireworks.find({}, {"fw_id": 1, "spec.search_id": 1})
    }
    ran = [names[launch["fw_id"]] for launch in connection.launchpad.launches.find({}, sort=[("launch_id", 1)])]
    half = len(ran) // 2
    assert ran == [high.search_id] * half + [low.search_id] * half


def test_priority_given_later_reaches_jobs_that_are_added_by_then(connection):
    search = config()
    submit(connection, search)
    launch_rocket(connection.launchpad, FWorker(), strm_lvl="ERROR")
    assert priority_of_search(connection.launchpad, search.search_id) is None
    set_priority(connection.launchpad, search.search_id, 3)
    with look_at(Ending(requested=True)):  # put back by a worker that has no time
        launch_rocket(connection.launchpad, FWorker(), strm_lvl="ERROR")
    work(connection, search.search_id)
    found = priorities(connection, search.search_id)
    assert (found.count(None), found.count(3)) == (1, len(found) - 1), "only the job that was done by then has none"
    longer = config(stop={"max_structures": 10})
    assert extend(connection, longer)
    assert priorities(connection, search.search_id)[-1] == 3


def test_written_workflow_keeps_its_priority(connection, tmp_path):
    search = config()
    SearchMaker(search).workflow(priority=4).to_file(str(tmp_path / "wf.yaml"))
    connection.launchpad.add_wf(Workflow.from_file(str(tmp_path / "wf.yaml")))
    work(connection, search.search_id)
    assert set(priorities(connection, search.search_id)) == {4}
    assert priority_of_search(connection.launchpad, search.search_id) == 4
