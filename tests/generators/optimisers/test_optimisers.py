"""Every optimiser: seeds, stopping and continuing, and whether it finds lower values than even draws."""

import json

import numpy as np
import pytest

from fuse_flows.errors import ConfigError
from fuse_flows.generators.optimisers.base import Asked, Box
from fuse_flows.generators.optimisers.registry import OPTIMISERS, make_optimiser

BOX = Box(6, choices=5, structured=1)
ALL = sorted(OPTIMISERS)


def loss(vectors):
    """A bowl whose depth depends on the choice; a fifth of the box is refused."""
    choice = (vectors[:, 0] * 5).astype(int)
    value = ((vectors[:, 1:] - 0.37) ** 2).sum(axis=1) + 0.3 * np.array([2, 1, 0, 3, 4])[choice]
    return np.where(vectors[:, 1] > 0.8, np.inf, value)


def run(optimiser, batches, size=40):
    values = []
    for _ in range(batches):
        asked = optimiser.ask(size)
        found = loss(asked.vectors)
        half = len(found) // 2
        optimiser.tell(Asked(asked.tickets[half:], asked.vectors[half:]), found[half:])
        optimiser.tell(Asked(asked.tickets[:half], asked.vectors[:half]), found[:half])
        values.append(asked.vectors)
    return np.concatenate(values)


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_asks_the_same(name):
    one, two, other = (run(make_optimiser(name, BOX, (seed, 2)), 12) for seed in (3, 3, 4))
    assert (one == two).all()
    assert not (one[:40] == other[:40]).any()
    assert ((one >= 0) & (one < 1)).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("stop", [1, 7])
def test_a_stopped_run_goes_on_as_if_it_had_not(name, stop):
    whole = run(make_optimiser(name, BOX, 5), 12)
    first = make_optimiser(name, BOX, 5)
    begun = run(first, stop)
    second = make_optimiser(name, BOX, 5)
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert (np.concatenate([begun, run(second, 12 - stop)]) == whole).all()


@pytest.mark.parametrize("name", [name for name in ALL if name != "random"])
def test_it_finds_lower_values_than_even_draws(name):
    def best(which, seed):
        return loss(run(make_optimiser(which, BOX, seed), 40))[-400:]

    ours = np.median([np.median(np.nan_to_num(best(name, seed), posinf=9.0)) for seed in range(5)])
    even = np.median([np.median(np.nan_to_num(best("random", seed), posinf=9.0)) for seed in range(5)])
    lowest = np.median([best(name, seed).min() for seed in range(5)])
    assert ours < even
    assert lowest < 0.5 * np.median([best("random", seed).min() for seed in range(5)])


def test_a_swarm_that_waits_for_all_asks_for_none():
    swarm = make_optimiser("pso", BOX, 0)
    assert len(swarm.ask(500).tickets) == 200
    assert not len(swarm.ask(1).tickets)


def test_a_lineage_keeps_its_structure():
    lineages = make_optimiser("lineages", BOX, 0)
    vectors = run(lineages, 30)
    refined = vectors[200:]
    _, times = np.unique(refined[:, 0], return_counts=True)
    assert times.max() > 5


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="lineages"):
        make_optimiser("bfgs", BOX, 0)


def test_the_state_of_another_optimiser_is_refused():
    with pytest.raises(ValueError, match="random"):
        make_optimiser("pso", BOX, 0).restore(make_optimiser("random", BOX, 0).state())
