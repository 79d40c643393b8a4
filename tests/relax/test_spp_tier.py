"""The tier of statistical proxy potentials: which library it reads, and how it is named."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.cli.options import search_config
from fuse_flows.config import TierConfig, load_config
from fuse_flows.errors import ConfigError
from fuse_flows.potentials.gulp import write_gulp_library
from fuse_flows.relax.calculators import check_calculator
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.spp_tier import spp_options, spp_tables, with_library_digests
from fuse_flows.relax.tiers import relax_through, single_point

R = np.linspace(0.8, 8.0, 145)
ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.4), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def morse(depth, distance):
    return depth * ((1 - np.exp(-1.5 * (R - distance))) ** 2 - 1)


@pytest.fixture(name="library")
def _library(tmp_path):
    """A GULP library with a rocksalt-like pair."""
    values = {("Mg", "O"): morse(1.0, 2.1), ("Mg", "Mg"): 0.2 * np.exp(-R), ("O", "O"): 0.5 * np.exp(-R)}
    path = tmp_path / "mine.lib"
    write_gulp_library(path, R, values)
    return path


def tier(library=None, **more):
    kwargs = {} if library is None else {"library": str(library)}
    return TierConfig(calculator="spp", calculator_kwargs=kwargs | more)


def test_library_of_the_user_relaxes(library):
    (result,) = relax_through(ROCKSALT, [tier(library)])
    assert result.outcome is Outcome.CONVERGED
    single = single_point(ROCKSALT, tier(library))
    assert result.energy_per_atom < single.energy_per_atom
    tight = relax_through(ROCKSALT, [tier(library, gnorm=1e-4)])[-1]
    assert tight.energy_per_atom <= result.energy_per_atom
    assert tight.fmax < 1e-3


def test_potentials_of_gulp_files_are_tapered(library):
    tapered = spp_tables(spp_options(tier(library)), ["Mg", "O"])
    whole = spp_tables(spp_options(tier(library, taper=0)), ["Mg", "O"])
    assert tapered.evaluate("Mg", "O", 5.0)[0] == pytest.approx(whole.evaluate("Mg", "O", 5.0)[0])
    assert tapered.evaluate("Mg", "O", 7.999)[0] == pytest.approx(0, abs=1e-6)
    assert abs(whole.evaluate("Mg", "O", 7.999)[0]) > 1e-5


def test_search_is_named_by_the_content_of_the_library(library, tmp_path):
    def named(path):
        return with_library_digests(load_config(formula="MgO", tiers=[tier(path).model_dump(), {"calculator": "lj"}]))

    first = named(library)
    moved = tmp_path / "moved.lib"
    moved.write_text(library.read_text())
    assert named(moved).search_id == first.search_id
    write_gulp_library(moved, R, {("Mg", "O"): morse(1.1, 2.1), ("Mg", "Mg"): 0 * R, ("O", "O"): 0 * R})
    assert named(moved).search_id != first.search_id
    assert load_config(formula="MgO", tiers=["spp"]).search_id != first.search_id


def test_library_that_changed_since_submission_is_refused(library):
    config = with_library_digests(load_config(formula="MgO", tiers=[tier(library).model_dump()]))
    changed = tier(library, digest="0" * 16)
    assert spp_tables(spp_options(config.tiers[0]), ["Mg", "O"]).symbols == ("Mg", "O")
    with pytest.raises(ConfigError, match="changed since"):
        spp_tables(spp_options(changed), ["Mg", "O"])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"libary": "x"}, "libary"), ({"gnorm": 0}, "gnorm"), ({"library": "/no/such.lib"}, "such.lib")],
)
def test_wrong_keywords_are_refused_by_name(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        check_calculator(TierConfig(calculator="spp", calculator_kwargs=kwargs), ["Mg", "O"])


def test_missing_pair_is_refused_by_name(library):
    with pytest.raises(ConfigError, match="Sr"):
        check_calculator(tier(library), ["Sr", "O"])


def test_options_make_tiers(library):
    config = search_config("MgO", tiers="spp,lj", spp_library=library)
    assert [found.calculator for found in config.tiers] == ["spp", "lj"]
    assert config.tiers[0].calculator_kwargs["digest"]
    with pytest.raises(ConfigError, match="no tier uses it"):
        search_config("MgO", calculator="lj", spp_library=library)
    with pytest.raises(ConfigError, match="together"):
        search_config("MgO", calculator="lj", tiers="spp,lj")


def test_names_stand_for_tiers():
    assert load_config(formula="MgO", tiers=["spp", "chgnet"]).tiers == (
        TierConfig(calculator="spp"),
        TierConfig(calculator="chgnet"),
    )
