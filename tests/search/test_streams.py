"""Random streams depend on the place in the search and on nothing else."""

from itertools import product

from fuse_flows.search.streams import streams


def test_same_place_same_numbers():
    first, again = streams(5, 0, 3, 1), streams(5, 0, 3, 1)
    first.propose.random(100)
    assert (first.judge.random(4) == again.judge.random(4)).all()
    assert (first.rattle.random(4) == again.rattle.random(4)).all()


def test_every_place_and_purpose_has_its_own_stream():
    draws = {generator.random() for place in product(range(3), repeat=4) for generator in streams(*place)}
    assert len(draws) == 3**4 * 3
