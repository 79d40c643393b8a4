"""Energies above the convex hull, on hulls small enough to be worked out by hand."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry

from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError
from fuse_flows.relax.hull import ReferenceEntries, fetch_references, level_of, level_of_tier, read_references
from fuse_flows.relax.references import entry_of, relax_references

# eV per formula: Li -1, O2 -4 (-2 per atom), Li2O -8: 4 eV below 2 Li + O, so -8/3 eV/atom on the hull.
ENERGIES = {"Li": -1.0, "O2": -4.0, "Li2O": -8.0}


def references(level="chgnet", **more):
    values = {**ENERGIES, **more}
    return ReferenceEntries(tuple(ComputedEntry(name, e, parameters={"level": level}) for name, e in values.items()))


def test_hull_of_lithium_and_oxygen():
    hull = references()
    assert hull.energy_per_atom("Li2O") == pytest.approx(-8 / 3)
    # Li2O2 is Li2O + O: (-8 - 2) / 4
    assert hull.energy_per_atom("Li2O2") == pytest.approx(-2.5)
    # Li4O is Li2O + 2 Li: (-8 - 2) / 5
    assert hull.energy_per_atom("Li4O") == pytest.approx(-2.0)
    assert hull.energy_per_atom("O2") == pytest.approx(-2.0)


def test_an_entry_below_the_hull_becomes_part_of_it():
    # at -11 eV, Li2O2 lies 1 eV below Li2O + O
    assert references(Li2O2=-11.0).energy_per_atom("LiO") == pytest.approx(-2.75)
    assert references(Li2O2=-9.0).energy_per_atom("LiO") == pytest.approx(-2.5)


@given(share=st.integers(1, 20), other=st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_the_hull_lies_below_the_elements_and_on_the_lever_rule(share, other):
    energy = references().energy_per_atom(f"Li{share}O{other}")
    x = other / (share + other)
    between = -1 - x * 5 if x <= 1 / 3 else -8 / 3 + (x - 1 / 3)
    assert energy == pytest.approx(between)
    assert energy <= -(1 - x) - 2 * x


def test_other_elements_are_left_out_and_missing_ones_named():
    hull = references(Na=-1.0, NaLi=-99.0)
    assert hull.energy_per_atom("Li2O") == pytest.approx(-8 / 3)
    with pytest.raises(ConfigError, match="no entry of Ca, S;"):
        hull.energy_per_atom("CaS")


def test_levels_are_not_mixed_unless_asked_for():
    of_gga = references("GGA")
    with pytest.raises(ConfigError, match="level GGA, the search is of chgnet"):
        of_gga.check("chgnet")
    of_gga.check("GGA")
    both = ReferenceEntries((*of_gga.entries, *references().entries), mixed=True)
    both.check("chgnet")
    assert both.mark("chgnet") == "chgnet mixed with GGA"
    assert of_gga.of_level("chgnet").mark("chgnet") == "chgnet"
    assert level_of(of_gga.entries[0]) == "GGA"  # the original says what it said


def test_level_of_entries_and_tiers():
    assert level_of(ComputedEntry("Li", -1, parameters={"run_type": "GGA+U"})) == "GGA+U"
    assert level_of(ComputedEntry("Li", -1)) == "unknown"
    assert level_of_tier(TierConfig(calculator="CHGNet", fmax=0.01)) == "chgnet"
    on_gpu = TierConfig(calculator="chgnet", calculator_kwargs={"use_device": "cuda"})
    assert level_of_tier(on_gpu) == "chgnet"
    other = TierConfig(calculator="chgnet", calculator_kwargs={"model_name": "r2scan"})
    assert level_of_tier(other) == 'chgnet {"model_name": "r2scan"}'


def test_files_of_pymatgen_are_read_and_written(tmp_path):
    structure = Structure(Lattice.cubic(3.5), ["Li"], [[0, 0, 0]])
    entries = (*references().entries, entry_of(structure, -1.5, TierConfig(), "bcc"))
    ReferenceEntries(entries).write(tmp_path / "own.json")
    found = read_references(tmp_path / "own.json")
    assert [entry.energy for entry in found.entries] == [-1.0, -4.0, -8.0, -1.5]
    assert found.entries[-1].structure == structure
    assert found.levels == ("chgnet",)
    assert found.energy_per_atom("Li") == pytest.approx(-1.5)
    plain = [{"composition": {"Li": 1}, "energy": -1.0}, {"composition": {"O": 2}, "energy": -4.0}]
    (tmp_path / "plain.json").write_text(json.dumps({"entries": plain}))
    assert read_references(tmp_path / "plain.json").levels == ("unknown",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must hold a list"),
        ('{"a": 1}', "must hold a list"),
        ("[1]", "no ComputedEntry"),
        ('[{"@class": "Structure"}]', "no ComputedEntry"),
        ('[{"energy": 1.0}]', "no ComputedEntry"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_references(tmp_path / "bad.json")
    with pytest.raises(ConfigError, match="does not exist; make it"):
        read_references(tmp_path / "absent.json")


def test_references_are_relaxed_by_the_tier():
    tier = TierConfig(calculator="emt", max_steps=200)
    stretched = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.75), ["Cu"], [[0, 0, 0]])
    apart = Structure(Lattice.cubic(1.0), ["Cu"], [[0, 0, 0]])
    entries, failed = relax_references([("fcc", stretched), ("crushed", apart)], tier)
    (entry,) = entries
    assert entry.entry_id == "fcc"
    assert entry.energy_per_atom == pytest.approx(-0.0070, abs=3e-4)  # EMT's fcc copper at rest
    assert entry.structure.volume / 4 == pytest.approx(11.57, abs=0.05)
    assert level_of(entry) == "emt"
    assert list(failed) == ["crushed"]


def test_materials_project_needs_its_package_or_its_key(monkeypatch):
    for name in ("MP_API_KEY", "PMG_MAPI_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="materials_project: "):
        fetch_references(["Li", "O"])
