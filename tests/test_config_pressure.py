"""One pressure for a search, written into its tiers; what is no pressure is refused by name."""

import pytest

from fuse_flows.cli.options import search_config
from fuse_flows.config import SearchConfig, load_config
from fuse_flows.errors import ConfigError
from fuse_flows.relax.energy_model import tier_of_model


def config(**values):
    return load_config(formula="MgO", **values)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), "high", True, 1001, -1e6, [1]])
@pytest.mark.parametrize("of_tier", [False, True])
def test_what_is_no_pressure_is_refused(bad, of_tier):
    values = {"tiers": [{"calculator": "emt", "pressure": bad}]} if of_tier else {"pressure": bad}
    with pytest.raises(ConfigError, match=r"pressure: .*GPa") as caught:
        config(**values)
    assert caught.value.field == ("tiers.pressure" if of_tier else "pressure")
    assert "\n" not in str(caught.value)


def test_pressure_is_written_into_the_tiers():
    ranking = {"calculator": "spp"}
    search = config(
        pressure=30, tiers=["spp", {"calculator": "emt", "pressure": 0}, "chgnet"], pool={"rank_tier": ranking}
    )
    assert [tier.gigapascals for tier in search.tiers] == [30.0, 0.0, 30.0]
    assert search.pool.rank_tier.gigapascals == 30.0
    assert config(pressure=30).tiers[0].gigapascals == 30.0
    assert SearchConfig.model_validate_json(search.model_dump_json()) == search
    assert tier_of_model(config(pressure=30, pool={"generate": {"energy_model": "lj"}})).gigapascals == 30.0


def test_last_tier_is_at_the_pressure_of_the_search():
    with pytest.raises(ConfigError, match=r"tiers\.pressure: 5 GPa in the last tier, .* but 0 in the search"):
        config(tiers=["spp", {"calculator": "emt", "pressure": 5}])
    assert config(pressure=5, tiers=["spp", {"calculator": "emt", "pressure": 5}]).pressure == 5.0


def test_names_of_searches():
    """Without a pressure the name is that of always; every other pressure is another search."""
    assert load_config(formula="SrTiO3").search_id == "SrTiO3-d983d953c2"
    assert config(tiers=["spp", "chgnet"]).search_id == config(tiers=["spp", "chgnet"], pressure=0).search_id
    tiers = ["spp", {"calculator": "emt", "pressure": 10}, "emt"]
    searches = [config(), config(pressure=10), config(pressure=-10), config(tiers=tiers)]
    searches += [config(tiers=["spp", "emt", "emt"]), config(tiers=tiers, pressure=10)]
    assert len({search.search_id for search in searches}) == len(searches)


def test_option():
    assert search_config("MgO", calculator="lj", pressure=12.5).tiers[0].gigapascals == 12.5
    with pytest.raises(ConfigError, match="pressure: 3000 GPa is out of reach"):
        search_config("MgO", calculator="lj", pressure=3000)
