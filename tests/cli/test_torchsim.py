import pytest

from fuse_flows.cli.hull import _tier
from fuse_flows.cli.options import SearchOptions, search_config
from fuse_flows.errors import ConfigError
from fuse_flows.relax.hull import level_of_tier
from fuse_flows.settings import settings

SEARCH = """
max_atoms: 8
tiers:
  - calculator: torchsim
    calculator_kwargs: {model: MODEL, weights: small.model, device: cuda}
"""


def test_a_search_is_submitted_with_the_digest_of_its_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSE_FLOWS_TORCHSIM_ELSEWHERE", "true")
    settings.cache_clear()
    (tmp_path / "small.model").write_text("weights")
    (tmp_path / "search.yaml").write_text(SEARCH.replace("MODEL", "mace"))
    search = search_config("MgO", SearchOptions(config=tmp_path / "search.yaml"))
    kwargs = search.tiers[0].calculator_kwargs
    assert kwargs["weights"] == str(tmp_path / "small.model")
    assert len(kwargs["digest"]) == 16
    (tmp_path / "small.model").write_text("other weights")
    other = search_config("MgO", SearchOptions(config=tmp_path / "search.yaml"))
    assert other.search_id != search.search_id
    (tmp_path / "search.yaml").write_text(SEARCH.replace("MODEL", "mase"))
    with pytest.raises(ConfigError, match=r"calculator_kwargs\.model: 'mase' is unknown"):
        search_config("MgO", SearchOptions(config=tmp_path / "search.yaml"))


def test_references_for_the_hull_have_the_level_of_the_search(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSE_FLOWS_TORCHSIM_ELSEWHERE", "true")
    settings.cache_clear()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.model").write_text("weights")
    (tmp_path / "search.yaml").write_text(SEARCH.replace("MODEL", "mace"))
    search = search_config("MgO", SearchOptions(config=tmp_path / "search.yaml"))
    assert level_of_tier(_tier("torchsim", tmp_path / "search.yaml")) == level_of_tier(search.tiers[-1])
    (tmp_path / "small.model").write_text("other weights")
    assert level_of_tier(_tier("torchsim", tmp_path / "search.yaml")) != level_of_tier(search.tiers[-1])
