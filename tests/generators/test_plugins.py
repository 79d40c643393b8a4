"""Generators of other packages are found by their entry points; what they yield is checked and counted."""

import pytest

from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError, JobFailedError
from fuse_flows.generators.plugins import load_plugin, plugin_version, plugin_versions, share_of_plugin

NAME = "cu3au-generators"
pytestmark = pytest.mark.usefixtures("plugin_package")


def config(**generate):
    return load_config(formula="Cu3Au", max_atoms=8, pool={"generate": generate})


def test_plugins_are_found_with_their_versions():
    assert plugin_versions().items() >= {"strained": f"{NAME} 1.5", "broken": f"{NAME} 1.5"}.items()
    assert plugin_version("strained") == f"{NAME} 1.5"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("strain", "there are: .*strained"),
        ("missing", "cannot be imported"),
        ("unfinished", "cannot be imported: ZeroDivisionError: division by zero"),
        ("number", "cannot be called"),
    ],
)
def test_what_is_no_generator_is_refused(name, message):
    with pytest.raises(ConfigError, match=rf"^pool\.generate\.plugin: .*{message}"):
        load_plugin(name)


def test_structures_are_taken_in_their_order_and_follow_the_seed():
    shares = [share_of_plugin("strained", config(plugin="strained"), 1, seed) for seed in (3, 3, 4)]
    assert shares[0].members == shares[1].members != shares[2].members
    assert [member.name for member in shares[0].members] == [f"strained-1-{n}" for n in range(1, 7)]
    assert (shares[0].evaluated, shares[0].rejected, len(shares[0].members)) == (6, {}, 6)
    assert {len(member) for member in share_of_plugin("strained", config(plugin="strained"), 2, 3).members} == {8}


def test_what_cannot_serve_is_counted():
    share = share_of_plugin("mixed", config(plugin="mixed"), 1, 0)
    assert [member.name for member in share.members] == ["mixed-1-2", "mixed-1-7", "mixed-1-8"]
    reasons = {
        "unreadable": 1,
        "duplicate": 1,
        "contact too short": 1,
        "wrong composition": 1,
        "too large": 1,
    }
    assert share.rejected == reasons
    assert share.evaluated == 8


@pytest.mark.parametrize(("name", "words"), [("broken", "RuntimeError: out of ideas"), ("lazy", "TypeError: .*None")])
def test_a_generator_that_fails_is_named_with_its_words(name, words):
    with pytest.raises(JobFailedError, match=rf"^the generator {name} \({NAME} 1\.5\) failed: {words}"):
        share_of_plugin(name, config(plugin=name), 1, 0)


def test_what_is_not_finite_or_empty_is_counted():
    share = share_of_plugin("undefined", config(plugin="undefined"), 1, 0)
    assert (share.members, share.evaluated, share.rejected) == ([], 3, {"unreadable": 3})


def test_limits_hold():
    assert share_of_plugin("strained", config(candidates=4), 1, 0).evaluated == 4
    few = share_of_plugin("strained", config(keep=2), 1, 0)
    assert (len(few.members), few.evaluated) == (2, 2)
