import json
from itertools import combinations_with_replacement

import numpy as np
import pytest

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.library import load_library


@pytest.fixture(scope="module")
def shipped():
    return load_library()


def test_shipped_library_names_its_source(shipped):
    assert shipped.provenance["licence"] == "CC-BY-4.0"
    assert "Materials Project" in shipped.provenance["attribution"]
    assert shipped.provenance["held_out"] is True
    assert len(shipped.symbols) == 89


def test_every_pair_has_a_sound_potential(shipped):
    for other in ("O", "Fe"):
        r, values = shipped.tables([*(s for s in shipped.symbols if s != other), other])
        assert len(values) == 89 * 90 // 2
    r, values = shipped.tables(shipped.symbols)
    table = np.array(list(values.values()))
    assert np.isfinite(table).all()
    assert (table[:, 0] > table[:, r.searchsorted(0.9)] + 2).all()  # a wall
    assert (np.diff(table[:, r < 0.85]) < 0).all()
    assert (table[:, -1] == 0).all()
    assert table.min() > -5
    assert r[0] == 0.5
    assert r[-1] == 11.0


def test_wells_lie_where_the_bonds_are(shipped):
    for one, two, low, high in (("Mg", "O", 1.9, 2.5), ("Na", "Cl", 2.5, 3.2), ("Si", "O", 1.4, 1.9)):
        r, values = shipped.tables([one, two])
        pair = values[tuple(sorted((one, two)))]
        near = (r > 1.2) & (r < 3.5)
        assert low < r[near][pair[near].argmin()] <= high
    # Ions of like charge keep their distance, though no farther than any crystal shows.
    r, values = shipped.tables(["Na", "Cl"])
    assert np.interp(2.2, r, values["Na", "Na"]) > 0.3


def test_surroundings_decide_between_two_potentials(shipped):
    _, oxide = shipped.tables(["Fe", "O"])
    _, alloy = shipped.tables(["Fe", "Co"])
    assert np.abs(oxide["Fe", "Fe"] - alloy["Fe", "Fe"]).max() > 0.05
    assert shipped.crystals_of("Fe", "Fe", anions=True) > 1000
    assert shipped.crystals_of("O", "Fe", anions=True) == shipped.crystals_of("Fe", "O", anions=True)


def test_pairs_come_in_alphabetical_order_whatever_is_given(shipped):
    _, values = shipped.tables(["Ti", "O", "Sr", "O"])
    assert list(values) == list(combinations_with_replacement(["O", "Sr", "Ti"], 2))


def test_unknown_element_is_named(shipped):
    with pytest.raises(ConfigError, match="no statistical potential for Og"):
        shipped.tables(["O", "Og"])


def test_saves_and_loads(shipped, tmp_path):
    path = shipped.save(tmp_path / "copy")
    assert path.suffix == ".npz"
    assert path.stat().st_size < 10e6
    loaded = load_library(path)
    np.testing.assert_array_equal(loaded.coefficients, shipped.coefficients)
    np.testing.assert_array_equal(loaded.crystals, shipped.crystals)
    assert json.dumps(loaded.provenance) == json.dumps(shipped.provenance)


def test_files_that_are_no_library(tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        load_library(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ConfigError, match="no library"):
        load_library(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", symbols=np.array(["O"]))
    with pytest.raises(ConfigError, match="no library"):
        load_library(tmp_path / "other.npz")
    np.savez(
        tmp_path / "short.npz",
        symbols=np.array(["O", "Ti"]),
        coefficients=np.zeros((2, 2, 73)),
        crystals=np.zeros((2, 2)),
        provenance=np.array("{}"),
    )
    with pytest.raises(ConfigError, match="need 6 potentials"):
        load_library(tmp_path / "short.npz")
