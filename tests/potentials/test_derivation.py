from dataclasses import replace

import numpy as np
import pytest

from fuse_flows.potentials import splines
from fuse_flows.potentials.derivation import InversionSettings, first_shell, invert, pair_distribution, with_wall
from fuse_flows.potentials.relatives import blend, relatives_of
from fuse_flows.potentials.statistics import BIN_WIDTH, DistanceStatistics, channel

SYMBOLS = ("Ca", "Na", "O", "Sr")
BINS = 220
CENTRES = (np.arange(BINS) + 0.5) * BIN_WIDTH


def shell(at, width=0.2, height=4.0):
    return height * np.exp(-0.5 * ((CENTRES - at) / width) ** 2) + 1 / (1 + np.exp(-(CENTRES - 1.5 * at) / 0.2))


def statistics_of(**shells):
    channels = 2 * 10
    observed, expected = np.zeros((channels, BINS)), np.zeros((channels, BINS))
    weights = np.zeros(channels)
    for pair, (at, weight) in shells.items():
        k = channel(*(SYMBOLS.index(s) for s in pair.split("_")), 0, len(SYMBOLS))
        expected[k] = weight * CENTRES**2
        observed[k] = shell(at) * expected[k]
        weights[k] = weight
    return DistanceStatistics(SYMBOLS, observed, expected, np.ceil(weights).astype(int), weights)


def test_pairs_with_many_data_keep_their_own_and_others_borrow_scaled_distances():
    settings = InversionSettings()
    relatives = relatives_of(SYMBOLS, settings)
    g = pair_distribution(statistics_of(Ca_O=(2.4, 500.0), O_O=(2.8, 500.0)), relatives, settings)
    peak = {p: CENTRES[g[channel(*(SYMBOLS.index(s) for s in p), 0, 4)].argmax()] for p in (("Ca", "O"), ("Sr", "O"))}
    radii = dict(zip(SYMBOLS, relatives.radii, strict=True))
    assert peak["Ca", "O"] == pytest.approx(2.4, abs=0.06)
    assert peak["Sr", "O"] == pytest.approx(2.4 * (radii["Sr"] + radii["O"]) / (radii["Ca"] + radii["O"]), abs=0.06)
    assert np.isfinite(g).all()


def test_inversion_has_its_well_at_the_shell_and_a_wall_inside():
    settings = InversionSettings()
    potential = invert(shell(2.4)[None], CENTRES, settings)[0]
    assert CENTRES[potential.argmin()] == pytest.approx(2.4, abs=0.05)
    start = first_shell(shell(2.4), settings.floor)
    assert 1.5 < CENTRES[start] < 2.4
    slopes = np.diff(potential[: start + 1]) / BIN_WIDTH
    assert (slopes < -0.9 * settings.wall_slope).all()
    assert (np.diff(slopes) > 0).all()
    assert potential[0] > potential[start] + 0.5 * settings.wall_curvature * CENTRES[start] ** 2


def test_rare_contacts_are_no_shell():
    peroxides = shell(2.8) + 0.1 * np.exp(-0.5 * ((CENTRES - 1.45) / 0.05) ** 2)
    assert CENTRES[first_shell(peroxides, 0.03)] > 1.6


def test_wall_rises_whatever_was_there():
    settings = InversionSettings()
    r = np.linspace(0.5, 11, 211)
    rows = np.stack([np.sin(3 * r), np.zeros_like(r)])
    walled = with_wall(rows, r, np.array([2.0, 3.0]), settings)
    for row, old, edge in zip(walled, rows, (2.0, 3.0), strict=True):
        np.testing.assert_array_equal(row[r >= edge], old[r >= edge])
        slopes = np.diff(row[r <= edge])
        assert (slopes < 0).all()
        assert (np.diff(slopes) > 0).all()


def test_blend_moves_only_pairs_with_few_data():
    settings = replace(InversionSettings(), borrowed=5.0)
    relatives = relatives_of(SYMBOLS, settings)
    values, weights = np.zeros((20, 211)), np.zeros(20)
    rich, poor = channel(0, 2, 0, 4), channel(2, 3, 0, 4)
    values[rich], weights[rich] = 1.0, 1e6
    values[poor], weights[poor] = -1.0, 5.0
    mixed = blend(values, weights, relatives, settings, shift=10.0)
    np.testing.assert_allclose(mixed[rich], 1.0, atol=1e-4)
    np.testing.assert_allclose(mixed[poor], 0.0, atol=1e-3)


def test_splines_return_what_they_were_fitted_to_and_vanish_smoothly():
    r = np.linspace(0.5, 11, 421)
    values = np.stack([np.exp(-r) + 0.1 * np.cos(2 * r), 1 / r])
    coefficients = splines.fit(r, values)
    inner = r < 9
    np.testing.assert_allclose(splines.values_at(coefficients, r)[:, inner], values[:, inner], atol=3e-3)
    ends = splines.values_at(coefficients, np.array([10.999, 11.0, 12.0]))
    assert np.abs(ends).max() < 1e-6
    np.testing.assert_allclose(splines.untapered_at(coefficients, r[inner]), splines.values_at(coefficients, r[inner]))


def test_slopes_of_the_splines_are_their_derivatives():
    value, slope, other = np.zeros(4), np.zeros(4), np.zeros(4)
    for r in (0.7, 2.345, 8.87, 9.6, 10.72):
        splines.basis(r, value, slope)
        m = splines.basis(r + 1e-6, other, np.zeros(4))
        assert m == splines.basis(r - 1e-6, value, np.zeros(4))
        np.testing.assert_allclose((other - value) / 2e-6, slope, atol=1e-6)
