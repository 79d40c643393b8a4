from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

import fuse_flows
from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError, MissingExtraError
from fuse_flows.relax import calculators
from fuse_flows.relax.calculators import check_calculator, cutoff, engine_version, make_calculator


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    package = tmp_path / "own_potentials" / "deep"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "own_calculator.py").write_text("from ase.calculators.emt import EMT\n\n\nclass Mine(EMT):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)


def tier(name, **kwargs):
    return TierConfig(calculator=name, calculator_kwargs=kwargs)


def test_unknown_name_lists_what_is_known():
    for call in (make_calculator, lambda t: check_calculator(t, ["Cu"])):
        with pytest.raises(ConfigError) as caught:
            call(tier("chgnat"))
        assert caught.value.field == "tiers.calculator"
        for known in (
            "'chgnat' is unknown",
            "chgnet",
            "emt",
            "lj",
            "buckingham",
            "MACE-MP-0",
            "SevenNet",
            "import path",
        ):
            assert known in str(caught.value)


def test_missing_extra(monkeypatch):
    monkeypatch.setattr(calculators, "find_spec", lambda name: None if name == "chgnet" else object())
    for call in (make_calculator, lambda t: check_calculator(t, ["Mg", "O"])):
        with pytest.raises(MissingExtraError, match=r"fuse-flows\[chgnet\]"):
            call(tier("chgnet"))


@pytest.mark.parametrize("name", ["MACE-MP-0", "MACE_MP_0", "MLFF.MACE_MP_0"])
def test_missing_package_of_a_force_field(monkeypatch, name):
    monkeypatch.setattr(calculators, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="pip install mace-torch"):
        check_calculator(tier(name), ["Mg", "O"])


@pytest.mark.parametrize(
    ("name", "elements", "lacking"),
    [
        ("emt", ["Cu", "Mg", "Zn"], "Mg, Zn"),
        ("buckingham", ["Mg", "O"], "Mg"),
        ("chgnet", ["O", "Am"], "Am"),
        ("CHGNet", ["O", "Rn"], "Rn"),
    ],
)
def test_elements_are_checked(name, elements, lacking):
    with pytest.raises(ConfigError, match=f"no parameters for {lacking};"):
        check_calculator(tier(name), elements)


@pytest.mark.parametrize(
    ("name", "elements"),
    [("emt", ["Cu", "Au"]), ("buckingham", ["Sr", "Ti", "O"]), ("lj", ["Ar"]), ("chgnet", ["Sr", "Ti", "O"])],
)
def test_good_tiers_pass(name, elements):
    check_calculator(tier(name), elements)


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object()])
def test_keywords_must_be_json(value):
    broken = TierConfig.model_construct(calculator="emt", calculator_kwargs={"x": value})
    with pytest.raises(ConfigError) as caught:
        check_calculator(broken, ["Cu"])
    assert caught.value.field == "tiers.calculator_kwargs"


def test_keywords_that_the_calculator_refuses():
    for call in (make_calculator, lambda t: check_calculator(t, ["Sr", "O"])):
        with pytest.raises(ConfigError, match="cannot be made"):
            call(tier("buckingham", colour="red"))
    with pytest.raises(ConfigError, match="does not know modell"):
        check_calculator(tier("chgnet", modell="0.3.0"), ["O"])
    with pytest.raises(ConfigError, match=r"use one of 0\.3\.0"):
        check_calculator(tier("chgnet", model_name="0.9"), ["O"])
    check_calculator(tier("chgnet", model_name="r2scan"), ["O"])


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize("name", ["own_calculator:Mine", "own_calculator.Mine"])
def test_import_path(name):
    check_calculator(tier(name), ["Cu"])
    assert type(make_calculator(tier(name))).__name__ == "Mine"


@pytest.mark.usefixtures("own_module")
def test_import_path_that_is_not_there():
    with pytest.raises(ConfigError, match="own_other"):
        check_calculator(tier("own_other:Mine"), ["Cu"])
    with pytest.raises(ConfigError, match="shallow"):
        check_calculator(tier("own_potentials.shallow:Mine"), ["Cu"])
    check_calculator(tier("own_potentials.deep:Mine"), ["Cu"])
    with pytest.raises(ConfigError, match="Yours"):
        make_calculator(tier("own_calculator:Yours"))


def test_equal_tiers_share_a_calculator():
    assert make_calculator(tier("lj", sigma=2.0, epsilon=0.1)) is make_calculator(tier("lj", epsilon=0.1, sigma=2.0))
    assert make_calculator(tier("lj", sigma=2.0)) is not make_calculator(tier("lj", sigma=2.1))


def test_cutoff():
    assert cutoff(make_calculator(tier("lj", sigma=2.0))) == pytest.approx(6.0)
    assert cutoff(make_calculator(tier("buckingham"))) == pytest.approx(10.0)
    assert cutoff(make_calculator(tier("emt"))) is None


def test_version():
    assert engine_version(make_calculator(tier("emt"))) == version("ase")
    assert engine_version(make_calculator(tier("buckingham"))) == fuse_flows.__version__
    assert engine_version(object()) == ""


def test_check_is_light():
    code = (
        "import sys; from fuse_flows.config import TierConfig; from fuse_flows.relax.tiers import build_relaxer;"
        "from fuse_flows.relax.calculators import check_calculator;"
        "assert 'ase' not in sys.modules;"
        "check_calculator(TierConfig(calculator='chgnet'), ['Mg', 'O']);"
        "assert 'torch' not in sys.modules and 'chgnet' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
