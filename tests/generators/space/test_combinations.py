"""Wyckoff combinations: all are counted, all are drawn, equally often."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyxtal")

from fuse_flows.generators.space.combinations import Combinations
from fuse_flows.generators.space.groups import space_group


@settings(deadline=None, max_examples=40)
@given(number=st.integers(1, 230), counts=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple))
def test_the_number_is_that_of_the_list(number, counts):
    some = Combinations(space_group(number), counts)
    if some.number > 5000:
        return
    listed = list(some.all())
    assert len(set(listed)) == len(listed) == some.number


@settings(deadline=None, max_examples=60)
@given(
    number=st.integers(1, 230),
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4).map(tuple),
    u=st.floats(0, 1, exclude_max=True),
)
def test_every_draw_holds_exactly_the_atoms(number, counts, u):
    group = space_group(number)
    some = Combinations(group, counts)
    if not some.number:
        with pytest.raises(ValueError, match="no combination"):
            some.draw(u)
        return
    orbits = some.draw(u)
    assert tuple(sum(group.positions[k].multiplicity for k in element) for element in orbits) == counts
    used = Counter(k for element in orbits for k in element)
    assert all(times == 1 for k, times in used.items() if group.positions[k].freedom == 0)
    assert sum(map(len, orbits)) <= some.most_orbits()


@pytest.mark.parametrize(("number", "counts"), [(47, (2, 1)), (12, (2, 4)), (62, (4, 8)), (2, (2, 2))])
def test_even_numbers_draw_each_combination_equally_often(number, counts):
    some = Combinations(space_group(number), counts)
    times = 20
    grid = (np.arange(times * int(some.number)) + 0.5) / (times * some.number)
    drawn = Counter(some.draw(float(u)) for u in grid)
    assert set(drawn) == set(some.all())
    assert set(drawn.values()) == {times}


def test_more_combinations_than_a_number_has_digits_are_drawn_evenly():
    # of 28 atoms in Pmmm the last choices are made by digits that the number does not have
    group = space_group(47)
    some = Combinations(group, (14, 14))
    assert some.number > 1e10
    rng = np.random.default_rng(1)
    drawn = [some.draw(u) for u in rng.random(4000)]
    assert len(set(drawn)) == len(drawn)
    # exchanging the elements maps the combinations onto themselves
    first = sum(len(one) for one, _ in drawn)
    second = sum(len(two) for _, two in drawn)
    assert abs(first - second) < 0.03 * first
