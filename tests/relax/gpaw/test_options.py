"""What a GPAW tier may be told; no GPAW needed."""

from __future__ import annotations

import numpy as np
import pytest

from fuse_flows.config import TierConfig, load_config
from fuse_flows.errors import ConfigError
from fuse_flows.relax.calculators import check_calculator
from fuse_flows.relax.gpaw.options import gpaw_parameters, mesh, parse_options, rescued, with_gpaw_defaults
from fuse_flows.relax.queue_tiers import categories
from fuse_flows.settings import settings


def tier(**kwargs):
    return TierConfig(calculator="gpaw", calculator_kwargs=kwargs)


def test_default_is_a_coarse_stage_and_the_final_one():
    options = parse_options(TierConfig(calculator="gpaw", fmax=0.03, smax=0.4, max_steps=70))
    coarse, final = options.stages
    assert (final.fmax, final.smax, final.max_steps) == (0.03, 0.4, 70)
    assert coarse.fmax > final.fmax
    assert final.ecut >= 700
    assert coarse.kspacing > final.kspacing
    written = gpaw_parameters(options, final, 4.25 * np.eye(3))
    assert written == {
        "mode": {"name": "pw", "ecut": 700.0},
        "xc": "PBE",
        "kpts": {"size": [5, 5, 5], "gamma": True},
        "occupations": {"name": "fermi-dirac", "width": 0.05},
        "convergence": {"energy": 1e-5, "density": 1e-5},
        "maxiter": 200,
    }
    again = rescued(written, options)
    assert again["mixer"]["beta"] < 0.05
    assert again["maxiter"] == 500


def test_mesh_is_that_of_vasp():
    """KSPACING of VASP: max(1, ceil(2 pi |b| / KSPACING)); here of a needle and of an oblique cell."""
    assert mesh(np.diag([3.0, 3.0, 30.0]), 0.3) == [7, 7, 1]
    half = 4.246 / 2
    assert mesh(np.array([[0, half, half], [half, 0, half], [half, half, 0]]), 0.65) == [4, 4, 4]


@pytest.mark.parametrize(
    ("kwargs", "field", "words"),
    [
        ({"ecutt": 700}, "tiers.calculator_kwargs.ecutt", "use stages, xc"),
        ({"stages": [{"encut": 700}]}, "tiers.calculator_kwargs.stages.0.encut", "use ecut, kspacing"),
        ({"stages": [{"ecut": -1}]}, "tiers.calculator_kwargs.stages.0.ecut", "greater than or equal"),
        ({"stages": []}, "tiers.calculator_kwargs.stages", "at least 1"),
        ({"stages": [{"smearing": "none"}]}, "tiers.calculator_kwargs.stages.0.smearing", "fermi-dirac"),
        ({"stages": [{"convergence": {"enrgy": 1}}]}, "tiers.calculator_kwargs.stages.0.convergence", "enrgy"),
        ({"parameters": {"kpts": [2, 2, 2]}}, "tiers.calculator_kwargs.parameters", "from stages.N.kspacing"),
        ({"parameters": {"mixr": {}}}, "tiers.calculator_kwargs.parameters", "mixr is no keyword of GPAW"),
    ],
)
def test_bad_keys_are_named(kwargs, field, words):
    with pytest.raises(ConfigError, match=words) as caught:
        check_calculator(tier(**kwargs), ["Mg", "O"])
    assert caught.value.field == field


def test_elements_of_other_searches_are_refused():
    with pytest.raises(ConfigError, match="Fe is no element of this search; use Mg, O"):
        check_calculator(tier(magmoms={"Fe": 5}), ["Mg", "O"])


def test_missing_gpaw(monkeypatch):
    from fuse_flows.relax.gpaw import process

    monkeypatch.delenv("FUSE_FLOWS_GPAW_COMMAND", raising=False)
    settings.cache_clear()
    monkeypatch.setattr(process, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"gpaw is not installed for this Python; run scripts/install_gpaw.sh"):
        check_calculator(tier(), ["Mg", "O"])
    monkeypatch.setenv("FUSE_FLOWS_GPAW_COMMAND", "no_such_mpiexec -n 4 gpaw python")
    settings.cache_clear()
    with pytest.raises(ConfigError, match="'no_such_mpiexec' is no program here"):
        check_calculator(tier(), ["Mg", "O"])
    monkeypatch.setenv("FUSE_FLOWS_GPAW_COMMAND", "false")
    settings.cache_clear()
    with pytest.raises(ConfigError, match=r"cannot be started by 'false' .*ended with code 1"):
        check_calculator(tier(), ["Mg", "O"])
    monkeypatch.setenv("FUSE_FLOWS_GPAW_ELSEWHERE", "true")
    settings.cache_clear()
    check_calculator(tier(), ["Mg", "O"])


def test_stages_count_for_the_name_of_a_search_and_the_queue_does_not():
    def search(**changes):
        given = load_config(formula="MgO", tiers=["spp", {"calculator": "gpaw", **changes}])
        return with_gpaw_defaults(given)

    plain = search()
    assert [stage["ecut"] for stage in plain.tiers[1].calculator_kwargs["stages"]] == [700.0, 700.0]
    assert with_gpaw_defaults(plain) == plain
    assert parse_options(search(fmax=0.01).tiers[1]).stages[-1].fmax == 0.01
    assert search(queue={"category": "big"}).search_id == plain.search_id
    assert search(calculator_kwargs={"stages": [{"ecut": 800}]}).search_id != plain.search_id
    assert search(calculator_kwargs={"xc": "RPBE"}).search_id != plain.search_id
    assert categories(plain) == ["gpaw"]
