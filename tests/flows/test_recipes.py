"""Recipes give values that a file, and keywords, override."""

import shutil

import pytest

from fuse_flows.cli.options import search_config
from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.checks import check_search
from fuse_flows.flows.recipes import RECIPES, recipe, recipe_values
from fuse_flows.relax.queue_tiers import is_queue_tier
from fuse_flows.settings import settings


def tiers(config):
    return [tier.calculator for tier in config.tiers]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fgen", ["vasp"]),
        ("fgen-spp", ["spp", "vasp"]),
        ("fgen-chgnet", ["chgnet", "vasp"]),
        ("mlgen", ["vasp"]),
        ("mlgen-spp", ["spp", "vasp"]),
        ("mlgen-chgnet", ["chgnet", "vasp"]),
    ],
)
def test_each_recipe_ends_with_the_final_tier(name, expected):
    config = recipe(name, "Ca3Ti2O7", final="vasp", max_atoms=24)
    assert tiers(config) == expected
    assert config.max_atoms == 24
    assert (config.pool.generate is None) == name.startswith("fgen")


def test_no_tier_is_repeated():
    assert tiers(recipe("fgen-spp", "MgO", final="spp")) == ["spp"]
    assert tiers(recipe("mlgen-chgnet", "MgO", final="CHGNet")) == ["CHGNet"]
    assert tiers(recipe("mlgen", "MgO")) == ["chgnet"]


def test_ranking_of_the_pool_is_that_of_the_paper():
    rankings = {name: recipe(name, "MgO").pool for name in RECIPES}
    found = {name: (pool.rank, pool.rank_tier and pool.rank_tier.calculator) for name, pool in rankings.items()}
    assert found["mlgen"] == found["fgen"] == found["fgen-spp"] == found["fgen-chgnet"] == ("none", None)
    assert found["mlgen-spp"] == ("relax", "spp")
    assert found["mlgen-chgnet"] == ("single", "chgnet")


def test_every_recipe_is_a_search_of_its_own():
    assert len({recipe(name, "MgO", final="emt").search_id for name in RECIPES}) == len(RECIPES)


def test_a_recipe_without_generation_is_the_search_that_its_tiers_are():
    assert recipe("fgen-chgnet", "MgO").search_id == search_config("MgO").search_id


def test_keywords_override_the_recipe():
    pool = {"generate": {"candidates": 30}, "rank": "single", "rank_tier": {"calculator": "lj"}}
    config = recipe("mlgen-spp", "MgO", tiers=["lj"], pool=pool)
    assert tiers(config) == ["lj"]
    assert (config.pool.generate.candidates, config.pool.generate.energy_model) == (30, "gn")
    assert (config.pool.rank, config.pool.rank_tier.calculator) == ("single", "lj")


def test_the_file_overrides_the_recipe_and_options_override_the_file(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("max_atoms: 9\npool: {generate: {candidates: 7, keep: 3, energy_model: spp}}\n")
    config = search_config("MgO", config=file, recipe="mlgen-spp", final="lj", max_atoms=6, energy_model="lj")
    assert (config.max_atoms, config.pool.generate.candidates, config.pool.generate.keep) == (6, 7, 3)
    assert (config.pool.generate.energy_model, config.pool.rank, tiers(config)) == ("lj", "relax", ["spp", "lj"])


def test_a_library_of_the_user_serves_ranking_too(tmp_path):
    from fuse_flows.potentials.library import load_library

    library, moved = load_library().save(tmp_path / "mine.npz"), tmp_path / "moved.npz"
    shutil.copy(library, moved)
    config, other = (
        search_config("MgO", recipe="mlgen-spp", final="lj", energy_model="spp", spp_library=file)
        for file in (library, moved)
    )
    assert config.search_id == other.search_id
    for tier in (config.tiers[0], config.pool.rank_tier):
        assert tier.calculator_kwargs["library"] == str(library)
        assert len(tier.calculator_kwargs["digest"]) == 16


def test_sections_are_merged_but_what_is_in_them_is_not(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("moves: {weights: {swap_atoms: 1}, attempts: 7}\n")
    config = load_config(file, formula="MgO", moves={"weights": {"double_cell": 2}})
    assert {name.value for name, weight in config.moves.weights.items() if weight} == {"double_cell"}
    assert config.moves.attempts == 7


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"recipe": "mlgen-gulp"}, "recipe"),
        ({"final": "lj"}, "final"),
        ({"recipe": "fgen", "final": "lj", "tiers": "spp,emt"}, "final"),
        ({"recipe": "fgen", "final": "no-such"}, "tiers.calculator"),
        ({"recipe": "fgen", "energy_model": "lj"}, "energy_model"),
        ({"gn_model": "net.npz"}, "gn_model"),
        ({"recipe": "mlgen", "gn_model": "no-such-file.npz"}, "pool.generate.model_file"),
        ({"recipe": "mlgen", "gn_model": "net.npz", "energy_model": "lj"}, "pool.generate.model_file"),
        ({"recipe": "mlgen", "energy_model": "no-such-potential"}, "tiers.calculator"),
        ({"recipe": "mlgen", "energy_model": "emt"}, "tiers.calculator"),
    ],
)
def test_bad_options_are_refused(values, field):
    with pytest.raises(ConfigError) as caught:
        search_config("MgO", **values)
    assert caught.value.field == field


def test_unknown_recipe_lists_the_known_ones():
    with pytest.raises(ConfigError, match="fgen, fgen-spp, fgen-chgnet, mlgen, mlgen-spp, mlgen-chgnet"):
        recipe_values("gen")


def test_ranking_tier_is_checked():
    with pytest.raises(ConfigError, match=r"^tiers\.calculator: emt has no parameters for"):
        check_search(recipe("mlgen", "MgO", final="lj", pool={"rank": "single", "rank_tier": {"calculator": "emt"}}))


def test_vasp_at_the_end_goes_to_the_queue(monkeypatch):
    """The stages stand in the configuration, so that they count for the name of the search."""
    monkeypatch.setenv("FUSE_FLOWS_VASP_ELSEWHERE", "true")
    settings.cache_clear()
    config = search_config("MgO", recipe="mlgen-spp", final="vasp", energy_model="spp")
    assert [is_queue_tier(tier) for tier in config.tiers] == [False, True]
    assert len(config.tiers[-1].calculator_kwargs["stages"]) == 5
    with pytest.raises(ConfigError, match=r"pool.rank_tier: the pool cannot be ranked with vasp"):
        check_search(load_config(formula="MgO", tiers=["vasp"], pool={"generate": {}, "rank": "single"}))
