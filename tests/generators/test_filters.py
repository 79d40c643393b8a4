"""Filters against brute force over many images."""

import itertools

import numpy as np
import pytest

from fuse_flows.generators import filters
from fuse_flows.potentials.batches import radial_densities
from fuse_flows.potentials.contacts import short_contacts

IMAGES = np.array(list(itertools.product(range(-4, 5), repeat=3)), dtype=float)


def some_cells(n, atoms, seed):
    rng = np.random.default_rng(seed)
    lattices = rng.normal(size=(n, 3, 3)) * 2 + 4 * np.eye(3)
    return lattices, rng.random((n, atoms, 3))


def test_contacts_are_those_of_brute_force():
    lattices, coords = some_cells(200, 4, 0)
    limits = filters.contact_limits(np.array([8, 8, 22, 20]), 0.5)
    found = short_contacts(lattices, coords, limits)
    for lattice, frac, short in zip(lattices, coords, found, strict=True):
        vectors = (frac[None, :, None] - frac[:, None, None] + IMAGES) @ lattice
        distances = np.linalg.norm(vectors, axis=-1)
        distances[distances < 1e-12] = np.inf
        assert short == (distances.min(axis=2) < limits).any()
    assert 20 < found.sum() < 180


def test_a_flat_cell_is_refused():
    flat = np.array([[[4.0, 0, 0], [0, 4, 0], [4, 4, 0]], np.eye(3) * 1e-9])
    assert short_contacts(flat, np.zeros((2, 1, 3)), np.ones((1, 1))).all()


def test_gaps_are_those_of_a_long_stack_of_planes():
    lattices, coords = some_cells(60, 3, 1)
    found = filters.widest_gaps(lattices, coords)
    for lattice, frac, gap in zip(lattices, coords, found, strict=True):
        widest = 0.0
        for plane in filters.PLANES:
            normal = np.linalg.inv(lattice) @ plane
            points = ((frac[:, None] + IMAGES[None]) @ lattice).reshape(-1, 3) @ (normal / np.linalg.norm(normal))
            spacing = 1 / np.linalg.norm(normal)
            inside = np.unique(np.round(np.sort(points[np.abs(points) < 1.6 * spacing]), 9))
            widest = max(widest, np.diff(inside).max())
        assert gap == pytest.approx(widest, abs=1e-6)


def test_a_vacuum_is_an_empty_slab():
    lattice = np.diag([4.0, 4.0, 20.0])
    coords = np.array([[0, 0, 0], [0.5, 0.5, 0.1]])
    assert filters.widest_gaps(lattice[None], coords[None])[0] == pytest.approx(18.0)


def test_planes_are_13_families():
    families = {tuple(max(plane.tolist(), (-plane).tolist())) for plane in filters.PLANES}
    assert len(families) == 13


def test_densities_of_many_atoms_are_even():
    lattices, coords = some_cells(40, 40, 4)
    kinds = np.repeat([0, 1], [10, 30])
    densities = radial_densities(lattices, coords, kinds, 3.5, 70, 0.06)
    assert densities.shape == (40, 3, 70)
    assert np.abs(densities[:, :, 35:].mean(axis=(0, 2))).max() < 0.1
