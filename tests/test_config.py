"""The configuration refuses bad input with one line, and names searches."""

import pytest

from fuse_flows.config import MoveName, SearchConfig, load_config, make_config, parse_formula
from fuse_flows.errors import ConfigError


@pytest.mark.parametrize(
    ("formula", "counts"),
    [
        ("Ca3Ti2O7", {"Ca": 3, "Ti": 2, "O": 7}),
        ("Ti2O4", {"Ti": 1, "O": 2}),
        ("Mg(OH)2", {"Mg": 1, "O": 2, "H": 2}),
        ("O2", {"O": 1}),
        (" Mn ", {"Mn": 1}),
    ],
)
def test_formula_is_one_unit_of_whole_atoms(formula, counts):
    assert parse_formula(formula) == counts
    assert list(parse_formula(formula)) == list(counts)


@pytest.mark.parametrize("formula", ["", "  ", "Xx2", "sr", "SrTiO3)", "Sr0.5TiO3", "0", "Mg0", "3", "Mg-O", "Q2O"])
def test_bad_formula_names_the_field(formula):
    with pytest.raises(ConfigError, match=r"^formula: "):
        make_config({"formula": formula})


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"max_atoms": 3}, "max_atoms"),
        ({"max_atom": 30}, "max_atom"),
        ({"generator": {"initial_max_atoms": 4}}, "generator.initial_max_atoms"),
        ({"generator": {"initial": 4}}, "generator.initial"),
        ({"moves": {"weights": {"no_such_move": 1}}}, "moves.weights"),
        ({"moves": {"weights": {"swap_atoms": 0}}}, "moves.weights"),
        ({"moves": {"weights": {"swap_atoms": -1}}}, "moves.weights"),
        ({"oxidation_states": {"Sr": 2, "Ti": 4, "O": -1}}, "oxidation_states"),
        ({"oxidation_states": {"Sr": 2, "Ti": 4}}, "oxidation_states"),
        ({"checks": {"min_density": 2.0}}, "checks.max_density"),
        ({"stop": {"max_structures": 10}}, "stop.max_structures"),
        ({"tiers": []}, "tiers"),
        ({"acceptance": {"temperature": float("nan")}}, "acceptance.temperature"),
        ({"acceptance": {"temperature": 0.6}}, "acceptance.max_temperature"),
        ({"symmetry": {"standardise": "cubic"}}, "symmetry.standardise"),
        ({"symmetry": {"symprec": 0}}, "symmetry.symprec"),
        ({"generator": {"max_aspect": 0.5}}, "generator.max_aspect"),
        ({"stop": {"wall_hours": 0}}, "stop.wall_hours"),
        ({"move_policy": "random"}, "move_policy"),
        ({"reinforce": {"energy_window": 1000}}, "reinforce.energy_window"),
        ({"reinforce": {"epsilon": 2}}, "reinforce.epsilon"),
        ({"version": 2}, "version"),
    ],
)
def test_bad_value_names_the_field_in_one_line(values, field):
    with pytest.raises(ConfigError) as caught:
        make_config({"formula": "SrTiO3", **values})
    assert caught.value.field.startswith(field)
    assert "\n" not in str(caught.value)


def test_configuration_is_frozen():
    config = load_config(formula="MgO")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


def test_yaml_round_trip_keeps_everything(tmp_path):
    config = load_config(formula="SrTiO3", seed=7, moves={"weights": {"swap_atoms": 2}}, label="trial")
    path = tmp_path / "search.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config
    assert config.moves.weights[MoveName.SWAP_SUBMODULES] == 0


def test_overrides_merge_into_sections(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text("formula: MgO\nstop: {patience: 5, max_structures: 99}\n")
    config = load_config(path, stop={"max_structures": 50}, seed=None)
    assert (config.stop.patience, config.stop.max_structures, config.seed) == (5, 50, 0)


def test_unreadable_file_is_a_clear_error(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text("formula: [")
    for bad in (path, tmp_path / "missing.yaml"):
        with pytest.raises(ConfigError, match=r"^config: .*cannot be read"):
            load_config(bad)


def test_search_id_depends_on_what_is_searched_only():
    base = SearchConfig(formula="MgO")
    assert base.search_id == SearchConfig(formula="Mg2O2", execution={"steps_per_job": 9}).search_id
    assert base.search_id == SearchConfig(formula="MgO", stop={"max_structures": 999}).search_id
    assert base.search_id == SearchConfig(formula="MgO", stop={"wall_hours": 2}).search_id
    assert base.search_id == SearchConfig(formula="MgO", reinforce={"epsilon": 0.3}).search_id
    others = [
        {"move_policy": "uniform"},
        {"move_policy": "reinforce"},
        {"move_policy": "reinforce", "reinforce": {"epsilon": 0.3}},
        {"symmetry": {"standardise": "primitive"}},
        {"symmetry": {"reduce": "niggli"}},
        {"seed": 1},
        {"label": "x"},
        {"max_atoms": 8},
        {"tiers": [{"calculator": "emt"}]},
    ]
    assert len({base.search_id, *(SearchConfig(formula="MgO", **other).search_id for other in others)}) == 10
