"""Points of the box are crystals of the right composition, symmetry, volume and shape."""

import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyxtal")

from fuse_flows.errors import ConfigError, MissingExtraError
from fuse_flows.generators.filters import contact_limits, reasons
from fuse_flows.generators.space import groups
from fuse_flows.generators.space.decode import COORDINATES, NoCombinationError, SearchSpace
from fuse_flows.generators.space.groups import space_group
from fuse_flows.generators.space.packing import packing_distances

COUNTS = {"Ca": 3, "Ti": 2, "O": 7}


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), units=st.integers(1, 4), groups=st.sampled_from([(1, 230), (1, 2), (143, 230)]))
def test_composition_volume_and_bounds(seed, units, groups):
    space = SearchSpace({"Co": 1, "As": 2}, units, groups)
    crystals = space.decode(np.random.default_rng(seed).random((8, space.dimensions)))
    volumes = np.abs(np.linalg.det(crystals.lattices))
    assert (volumes > space.volumes[0] * (1 - 1e-9)).all()
    assert (volumes < space.volumes[1] * (1 + 1e-9)).all()
    assert crystals.frac_coords.shape == (8, 3 * units, 3)
    assert (crystals.frac_coords >= 0).all()
    assert (crystals.frac_coords < 1).all()
    assert (crystals.numbers == np.repeat([27, 33], [units, 2 * units])).all()
    assert ((crystals.groups >= groups[0]) & (crystals.groups <= groups[1])).all()


def test_the_symmetry_is_at_least_what_was_asked_for():
    space = SearchSpace(COUNTS, 2)
    vectors = np.random.default_rng(0).random((2000, space.dimensions))
    space.separate(vectors, packing_distances(space.numbers))
    crystals = space.decode(vectors)
    limits = contact_limits(space.numbers, 0.4)
    fine = np.array([not r for r in reasons(crystals, limits, volumes=space.volumes, gap=7.0)])
    assert fine.sum() > 300
    seen = set()
    for cell, number in zip(crystals.pick(fine).cells(), crystals.groups[fine], strict=True):
        found = spglib.get_symmetry_dataset((cell.lattice, cell.frac_coords, cell.numbers), symprec=1e-3)
        needed = space_group(int(number)).positions[-1].multiplicity
        assert len(found.rotations) % needed == 0, number
        seen.add(int(number))
    assert len(seen) > 60


def test_extreme_numbers_make_finite_cells():
    space = SearchSpace(COUNTS, 1)
    corners = np.array([[0.0] * space.dimensions, [1.0 - 1e-12] * space.dimensions])
    assert np.isfinite(space.decode(corners).lattices).all()


def test_separation_opens_contacts_and_keeps_symmetry():
    space = SearchSpace({"Co": 1, "As": 2}, 4, (1, 20))
    limits = packing_distances(space.numbers)
    vectors = np.random.default_rng(2).random((300, space.dimensions))

    def refused(some):
        return sum(bool(r) for r in reasons(space.decode(some), 0.8 * limits, volumes=space.volumes, gap=7.0))

    pushed = vectors.copy()
    space.separate(pushed, limits)
    assert (pushed[:, :COORDINATES] == vectors[:, :COORDINATES]).all()
    assert (pushed >= 0).all()
    assert (pushed < 1).all()
    assert refused(pushed) < 0.5 * refused(vectors)
    again = vectors.copy()
    space.separate(again, limits)
    assert (again == pushed).all()


@pytest.mark.parametrize(
    ("counts", "units", "groups", "field"),
    [
        ({"Mg": 1, "O": 3}, 1, (230, 230), "space_groups"),
        ({"Xq": 1, "O": 3}, 1, (1, 230), "formula"),
        (COUNTS, 1, (5, 2), "space_groups"),
        (COUNTS, 1, (0, 2), "space_groups"),
    ],
)
def test_bad_input_is_named(counts, units, groups, field):
    with pytest.raises(ConfigError) as raised:
        SearchSpace(counts, units, groups)
    assert raised.value.field == field


def test_no_combination_is_an_error_of_its_own():
    with pytest.raises(NoCombinationError, match="widen the range"):
        SearchSpace({"Mg": 1, "O": 3}, 1, (230, 230))


def test_without_pyxtal_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyxtal.symmetry", None)
    with pytest.raises(MissingExtraError, match=r"fuse-flows\[gn\]"):
        groups._tables(1)
