import pytest

from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.generators.planning import MOST_ATOMS, in_order, that_fit, units_to_generate
from fuse_flows.generators.pool import PoolMember


def config(max_atoms=50, formula="Cu3Au", **generate):
    return load_config(formula=formula, max_atoms=max_atoms, pool={"generate": generate})


def member(name, energy=None, atoms=1):
    cell = [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    return PoolMember(
        name=name, lattice=cell, numbers=[29] * atoms, frac_coords=[[0, 0, 0]] * atoms, energy_per_atom=energy
    )


@pytest.mark.parametrize(
    ("given", "units"),
    [(None, range(1, 13)), ((2, 3), range(2, 4)), ((4, 90), range(4, 13)), ((12, 12), range(12, 13))],
)
def test_formula_units_reach_to_what_fits(given, units):
    assert units_to_generate(config(formula_units=given)) == units


@pytest.mark.parametrize(
    ("generate", "field"),
    [
        ({"formula_units": (13, 14)}, "pool.generate.formula_units"),
        ({"keep": MOST_ATOMS // 48 + 1}, "pool.generate.keep"),
    ],
)
def test_what_cannot_be_generated_is_refused(generate, field):
    with pytest.raises(ConfigError) as caught:
        units_to_generate(config(**generate))
    assert caught.value.field == field


def test_a_search_without_generation_says_so():
    with pytest.raises(ConfigError, match=r"^pool\.generate: is not there"):
        units_to_generate(load_config(formula="Cu3Au"))


def test_order_is_by_energy_and_stable():
    members = [member("a", 2.0), member("b"), member("c", -1.0), member("d", 2.0), member("e")]
    assert [found.name for found in in_order(members)] == ["b", "e", "c", "a", "d"]


def test_a_pool_ends_where_its_document_is_full():
    members = [member(str(n), atoms=MOST_ATOMS // 4) for n in range(6)]
    assert [found.name for found in that_fit(members)] == ["0", "1", "2", "3"]
