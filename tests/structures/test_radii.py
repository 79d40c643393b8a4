from __future__ import annotations

import pytest
from pymatgen.core import Element

from fuse_flows.config import GeneratorConfig, make_config
from fuse_flows.errors import ConfigError
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.radii import coordination_range, element_radius, ideal_density, module_edge

# I_p (angstrom) and ideal density (amu/A^3) with neutral atoms
TABLE = [
    ("Ca3Ti2O7", 4.6767, 2.4371),
    ("CoAs2", 4.8933, 9.0683),
    ("Cu7S4", 4.7709, 7.1330),
    ("Mn", 5.4800, 5.1006),
    ("Pb5As3O12Cl", 4.2381, 9.3632),
    ("Si6Al6B3Fe3NaO30F", 3.7360, 4.6099),
    ("WCl2", 4.5200, 12.8198),
    ("YWB4", 4.3133, 6.8844),
    ("Li2Sn2S3Cl4", 4.8655, 5.1043),
    ("Li3Si3O5Cl5", 4.2250, 3.6939),
    ("Li4OBrCl", 5.2286, 2.0716),
    ("Ca3Al2Si3O12", 4.2380, 2.7876),
    ("SrTiO3", 4.6720, 3.0567),
    ("Y2Ti2O7", 4.2764, 4.3320),
]


def unit_of(formula, charges=None):
    return FormulaUnit.from_config(make_config({"formula": formula, "oxidation_states": charges}))


@pytest.mark.parametrize(("formula", "edge", "density"), TABLE)
def test_edge_and_ideal_density_of_the_known_compositions(formula, edge, density):
    unit = unit_of(formula)
    assert module_edge(unit) == edge
    assert ideal_density(unit) == pytest.approx(density, abs=5.1e-5)


@pytest.mark.parametrize(
    ("formula", "charges", "edge"),
    [("Y2Ti2O7", {"Y": 3, "Ti": 4, "O": -2}, 4.3213), ("SrTiO3", {"Sr": 2, "Ti": 4, "O": -2}, 4.6261)],
)
def test_edge_with_ionic_radii(formula, charges, edge):
    assert module_edge(unit_of(formula, charges)) == edge


def test_the_scale_multiplies_and_a_given_edge_replaces():
    unit = unit_of("SrTiO3")
    assert module_edge(unit, GeneratorConfig()) == 4.6720
    assert module_edge(unit, GeneratorConfig(module_edge_scale=0.9)) == 4.2048
    assert module_edge(unit, GeneratorConfig(module_edge_scale=0.9, module_edge=4.123456)) == 4.1235


def test_every_element_up_to_lawrencium_has_a_sensible_neutral_radius():
    for z in range(1, 104):
        symbol = Element.from_Z(z).symbol
        low, high = coordination_range(symbol)
        assert 0.4 < element_radius(symbol) < 3.0
        assert 1 <= low <= high <= 14


def test_no_placeholder_is_left_among_the_lanthanides_and_actinides():
    for z in [*range(57, 72), *range(89, 104)]:
        assert element_radius(Element.from_Z(z).symbol) > 1.5


def test_mended_ionic_radii_are_the_means_of_shannons_values():
    assert element_radius("Ce", 3) == pytest.approx((1.01 + 1.07 + 1.143 + 1.196 + 1.25 + 1.34) / 6, abs=1e-4)
    assert element_radius("Mo", 5) == pytest.approx((0.46 + 0.61) / 2)


def test_a_missing_charge_names_the_field_and_the_fix():
    with pytest.raises(ConfigError, match=r"ionic radius for Ti \+1; use one of \+2, \+3, \+4 .* neutral") as caught:
        module_edge(unit_of("Ti2O", {"Ti": 1, "O": -2}))
    assert caught.value.field == "oxidation_states"
    with pytest.raises(ConfigError, match="leave oxidation_states out"):
        ideal_density(unit_of("KHe", {"K": 1, "He": -1}))


def test_ions_of_one_sign_are_refused():
    with pytest.raises(ConfigError, match="cations and anions"):
        module_edge(FormulaUnit.from_counts({"Na": 1}, {"Na": 1}))


def test_an_element_without_a_radius_is_refused():
    with pytest.raises(ConfigError, match="Rf") as caught:
        module_edge(FormulaUnit.from_counts({"Rf": 1}))
    assert caught.value.field == "formula"
