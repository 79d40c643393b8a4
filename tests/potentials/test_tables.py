from __future__ import annotations

import json

import numpy as np
import pytest

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.tables import PairTables, taper

GRID = np.linspace(0.8, 11.0, 1021)


def morse(r):
    return 0.5 * ((1 - np.exp(-1.4 * (r - 2.3))) ** 2 - 1)


def two_elements():
    return {
        ("Ca", "Ca"): taper(GRID, 3 / GRID),
        ("Ca", "O"): taper(GRID, morse(GRID)),
        ("O", "O"): taper(GRID, 1 / GRID),
    }


def test_splines_go_through_the_values_and_between_them():
    tables = PairTables.from_values(GRID, two_elements())
    assert tables.symbols == ("Ca", "O")
    assert tables.coefficients.shape == (2, 2, 1020, 4)
    np.testing.assert_array_equal(tables.coefficients[0, 1], tables.coefficients[1, 0])
    np.testing.assert_allclose(tables.coefficients[0, 1, :, 0], two_elements()["Ca", "O"][:-1])
    r = np.linspace(0.9, 8.9, 301)
    energy, slope = tables.evaluate("O", "Ca", r)
    np.testing.assert_allclose(energy, morse(r), atol=1e-8)
    np.testing.assert_allclose(slope, (morse(r + 1e-5) - morse(r - 1e-5)) / 2e-5, atol=1e-5)


def test_the_potential_repels_without_a_jump_below_the_first_knot():
    values = two_elements()
    values["O", "O"] = taper(GRID, 0.1 * GRID)  # attracts everywhere
    tables = PairTables.from_values(GRID, values)
    for pair in values:
        energy, slope = tables.evaluate(*pair, [0.8 - 1e-7, 0.8 + 1e-7])
        assert energy[0] == pytest.approx(energy[1], abs=1e-4)
        assert slope[0] == pytest.approx(slope[1], abs=1e-4 * max(1, abs(slope[1])))
        _, inside = tables.evaluate(*pair, [0.1, 0.3, 0.5])
        assert (inside < min(slope[0], 0.0)).all()
        assert (np.diff(inside) > 0).all()


def test_beyond_the_cutoff_there_is_nothing_and_tapered_tables_end_smoothly():
    tables = PairTables.from_values(GRID, two_elements())
    energy, slope = tables.evaluate("Ca", "Ca", [11.0, 11.5, 40.0])
    assert not energy.any()
    assert not slope.any()
    energy, slope = tables.evaluate("Ca", "Ca", 11.0 - 1e-9)
    assert energy == pytest.approx(0, abs=1e-9)
    assert slope == pytest.approx(0, abs=1e-6)


def test_taper_leaves_the_rest_alone():
    tapered = taper(GRID, np.ones_like(GRID), width=2.0)
    assert (tapered[GRID <= 9.0] == 1).all()
    assert tapered[-1] == 0
    assert tapered[np.argmin(abs(GRID - 10.0))] == pytest.approx(0.5)
    assert (np.diff(tapered) <= 0).all()


def test_functions_values_and_dictionaries_make_the_same_tables():
    functions = {("Mg", "O"): morse, ("Mg", "Mg"): lambda r: 4 / r, ("O", "O"): lambda r: 1 / r}
    tables = PairTables.from_functions(GRID, functions, {"Mg": -1.5})
    again = PairTables.from_dict(json.loads(json.dumps(tables.as_dict())))
    np.testing.assert_allclose(again.rows, tables.rows, rtol=1e-9, atol=1e-12)
    assert again.symbols == ("Mg", "O")
    assert again.self_energies.tolist() == [-1.5, 0.0]
    part = tables.subset(["O"])
    np.testing.assert_array_equal(part.evaluate("O", "O", GRID)[0], tables.evaluate("O", "O", GRID)[0])


@pytest.mark.parametrize(
    ("r", "values", "said"),
    [
        (GRID[::-1], {("O", "O"): GRID}, "uniform and ascending"),
        (GRID**2, {("O", "O"): GRID}, "uniform and ascending"),
        (GRID - 0.8, {("O", "O"): GRID}, "positive distances"),
        (GRID[:3], {("O", "O"): GRID[:3]}, "at least 8"),
        (GRID, {("Ca", "O"): GRID}, "the pair Ca-Ca is missing"),
        (GRID, {("O", "O"): GRID[:-1]}, "values of O-O must be 1021"),
        (GRID, {("O", "O"): np.where(GRID > 10, np.nan, 0)}, "values of O-O"),
        (GRID, {}, "at least one"),
    ],
)
def test_bad_tables_are_refused(r, values, said):
    with pytest.raises(ConfigError, match=said):
        PairTables.from_values(r, values)


def test_bad_dictionaries_are_refused():
    with pytest.raises(ConfigError, match="a library needs"):
        PairTables.from_dict({"symbols": ["O"]})
    with pytest.raises(ConfigError, match="a library needs"):
        PairTables.from_dict({"symbols": ["O"], "r_min": 1, "cutoff": 2, "values": {}})


def test_unknown_elements_are_refused():
    tables = PairTables.from_values(GRID, two_elements())
    assert tables.kinds(["O", "Ca", "O"]).tolist() == [1, 0, 1]
    with pytest.raises(ConfigError, match="no pair potential for Xe; the tables hold Ca, O"):
        tables.kinds(["O", "Xe"])
    with pytest.raises(ConfigError, match="Xe"):
        tables.subset(["Xe"])
