from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fuse_flows.config import TierConfig
from fuse_flows.relax.guards import (
    check_contacts,
    check_geometry,
    check_isolated,
    check_numbers,
    isolated_atoms,
    volume_factor,
)
from fuse_flows.relax.result import Outcome

CUBE = 4.0 * np.eye(3)
TIER = TierConfig(calculator="emt", min_distance=0.6, max_volume_change=5.0)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6))
def test_contacts_and_neighbours_are_those_of_all_images(seed, n):
    rng = np.random.default_rng(seed)
    lattice = 3.0 * np.eye(3) + rng.normal(0.0, 0.6, (3, 3))
    assume(np.linalg.svd(lattice, compute_uv=False).min() > 1.0)
    coords = rng.uniform(-1.0, 2.0, (n, 3))
    images = np.stack(np.meshgrid(*[np.arange(-7, 8)] * 3), axis=-1).reshape(-1, 3)
    delta = coords[:, None, None] - coords[None, :, None] + images
    lengths = np.linalg.norm(delta @ lattice, axis=-1)
    lengths[np.arange(n), np.arange(n), np.flatnonzero(~images.any(axis=1))[0]] = np.inf
    nearest = lengths.min(axis=(1, 2))
    for limit in (0.6, 2.0, 3.0):
        verdict = check_contacts(TIER.model_copy(update={"min_distance": limit}), lattice, coords)
        assert (verdict is not None) == (nearest.min() < limit)
        assert isolated_atoms(lattice, coords, limit) == np.flatnonzero(nearest > limit).tolist()


def test_contact_with_own_image():
    verdict = check_contacts(TierConfig(min_distance=1.6), np.diag([1.5, 4.0, 4.0]), np.zeros((1, 3)))
    assert verdict is not None
    assert "1.50 A" in verdict.reason


def test_coincident_atoms_are_too_close():
    assert check_contacts(TIER, CUBE, np.array([[0.1, 0.2, 0.3], [1.1, 0.2, -0.7]])) is not None


def test_isolated_atom_is_named():
    lattice = np.diag([5.0, 5.0, 30.0])
    coords = np.array([[0, 0, 0.0], [0.5, 0.5, 0.05], [0.5, 0.5, 0.5]])
    assert isolated_atoms(lattice, coords, 4.5) == [2]
    verdict = check_isolated(4.5, lattice, coords)
    assert verdict is not None
    assert verdict.outcome is Outcome.ISOLATED_ATOMS
    assert "1 atoms" in verdict.reason


def test_images_of_one_atom_are_neighbours():
    assert isolated_atoms(CUBE, np.zeros((1, 3)), 6.0) == []
    assert isolated_atoms(CUBE, np.zeros((1, 3)), 3.9) == [0]


def test_no_cutoff_no_isolation():
    assert check_isolated(None, 50 * np.eye(3), np.zeros((1, 3))) is None


def test_close_contact_is_refused():
    coords = np.array([[0, 0, 0.0], [0.1, 0, 0]])
    verdict = check_contacts(TIER, CUBE, coords)
    assert verdict is not None
    assert verdict.outcome is Outcome.TOO_CLOSE
    assert "0.40 A" in verdict.reason
    assert check_contacts(TIER, 1.6 * CUBE, coords) is None


@pytest.mark.parametrize("factor", [0.1, 9.0])
def test_volume_change_either_way_is_an_explosion(factor):
    assert volume_factor(factor * CUBE, CUBE) == pytest.approx(max(factor, 1 / factor) ** 3)
    verdict = check_geometry(TIER, None, factor * CUBE, np.zeros((1, 3)), CUBE)
    assert verdict is not None
    assert verdict.outcome is Outcome.EXPLODED


def test_flat_or_undefined_cell_is_an_explosion():
    assert volume_factor(np.diag([4.0, 4.0, 0.0]), CUBE) == float("inf")
    verdict = check_geometry(TIER, 6.0, np.full((3, 3), np.nan), np.zeros((1, 3)), CUBE)
    assert verdict is not None
    assert verdict.outcome is Outcome.EXPLODED


@pytest.mark.parametrize(
    ("energy", "force", "stress", "name"),
    [(np.nan, 0.0, 0.0, "energy"), (1.0, np.inf, 0.0, "forces"), (1.0, 0.0, np.nan, "stress")],
)
def test_numbers_that_are_not_finite(energy, force, stress, name):
    verdict = check_numbers(energy, np.full((2, 3), force), np.full((3, 3), stress))
    assert verdict is not None
    assert verdict.outcome is Outcome.ENGINE_ERROR
    assert verdict.reason == f"{name} not finite"


def test_absurd_force_is_an_explosion():
    verdict = check_numbers(1.0, np.array([[1e6, 0.0, 0.0]]), None)
    assert verdict is not None
    assert verdict.outcome is Outcome.EXPLODED
    assert check_numbers(1.0, np.array([[100.0, 0.0, 0.0]]), None) is None
