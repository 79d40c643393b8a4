"""The volume per atom is estimated well, the window is generous, and scaling never closes a contact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.config import make_config
from fuse_flows.structures.assembly import random_structure
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.neighbours import shortest_distance
from fuse_flows.structures.volumes import VolumeWindow, element_volume, estimated_volume, scaled_towards

# Measured volumes per atom, A^3.
MEASURED = {
    "MgO": 9.35,
    "SrTiO3": 11.91,
    "NaCl": 22.4,
    "Cu": 11.8,
    "W": 15.8,
    "C": 5.67,
    "FeS2": 13.3,
    "CaF2": 13.6,
    "CsCl": 35.0,
    "Al2O3": 8.5,
    "SiO2": 12.6,
    "YWB4": 11.2,
    "CoAs2": 15.3,
}


def unit(formula):
    return FormulaUnit.from_config(make_config({"formula": formula}))


@pytest.mark.parametrize(("formula", "volume"), MEASURED.items())
def test_estimate_is_near_the_measured_volume(formula, volume):
    low, high = make_config({"formula": formula}).volume.low, make_config({"formula": formula}).volume.high
    ratio = volume / estimated_volume(unit(formula))
    assert low < 0.6 < ratio < 1.4 < high


def test_estimate_is_a_mean_over_the_atoms():
    mixed = (element_volume("Mg", with_anion=True) + element_volume("O", with_anion=True)) / 2
    assert estimated_volume(unit("MgO")) == pytest.approx(mixed)
    assert element_volume("Mg", with_anion=True) < 0.5 * element_volume("Mg", with_anion=False)


def test_elements_without_enough_crystals_have_a_volume_all_the_same():
    assert element_volume("O", with_anion=False) == element_volume("O", with_anion=True)  # there is no other kind
    assert 15 < element_volume("Ar", with_anion=False) < 45  # 37.4 A^3 in the crystal; from the radius


def test_charges_do_not_count():
    charged = FormulaUnit.from_counts({"Mg": 1, "O": 1}, {"Mg": 2, "O": -2})
    assert estimated_volume(charged) == estimated_volume(unit("MgO"))


def test_window_holds_what_it_is_told_to():
    window = VolumeWindow(10.0, 5.0, 25.0)
    wide = BlockStructure(np.eye(3) * 3.0, [12], [[0, 0, 0]], (1, 1, 1))
    assert not window.holds(wide.scaled(1.01))
    assert window.including(27.0).holds(wide.scaled(1.01))
    assert window.including(27.0).low == 5.0
    assert not window.holds(wide.scaled(0.5))
    assert window.including(3.0).holds(wide.scaled(0.5))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), factor=st.floats(0.3, 3.0))
def test_scaling_reaches_the_volume_or_stops_at_the_contacts(seed, factor):
    config, formula_unit = make_config({"formula": "SrTiO3", "max_atoms": 10}), unit("SrTiO3")
    built = random_structure(formula_unit, max_formula_units=2, config=config, rng=np.random.default_rng(seed))
    before = built.volume / len(built)
    scaled = scaled_towards(built, factor * before, formula_unit, 1.0)
    after = scaled.volume / len(scaled)
    assert np.array_equal(scaled.frac_coords, built.frac_coords)
    assert after == pytest.approx(factor * before) or factor * before < after <= before * (1 + 1e-9)
    if after < before * (1 - 1e-9):
        assert shortest_distance(scaled.lattice, scaled.frac_coords) >= 0.65 * 2 * 0.74  # two oxygens


def test_scaling_leaves_alone_what_is_too_tight_already():
    tight = BlockStructure(np.eye(3) * 8.0, [12, 8], [[0, 0, 0], [0.1, 0, 0]], (1, 1, 1))
    assert scaled_towards(tight, 10.0, unit("MgO"), 1.0).is_identical(tight)


def test_assembled_structures_have_the_target_volume():
    config, formula_unit = make_config({"formula": "CoAs2", "max_atoms": 12}), unit("CoAs2")
    estimate = estimated_volume(formula_unit)
    window = VolumeWindow(estimate, 0.5 * estimate, 2.5 * estimate)
    ratios = {True: [], False: []}
    for scale, found in ratios.items():
        search = make_config({"formula": "CoAs2", "max_atoms": 12, "volume": {"scale": scale}})
        for seed in range(20):
            rng = np.random.default_rng(seed)
            made = random_structure(formula_unit, max_formula_units=4, config=search, rng=rng, window=window)
            assert window.holds(made)
            found.append(made.volume / len(made) / estimate)
    assert np.median(ratios[True]) == pytest.approx(1)
    assert np.median(ratios[False]) > 1.2
    assert np.std(ratios[True]) < np.std(ratios[False])
    everything = random_structure(formula_unit, max_formula_units=4, config=config, rng=np.random.default_rng(0))
    assert everything.volume > 0


def test_rocksalt_lies_in_its_window():
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    estimate = estimated_volume(unit("MgO"))
    assert VolumeWindow(estimate, 0.5 * estimate, 2.5 * estimate).holds(BlockStructure.from_structure(crystal))
