from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from ase.units import GPa
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.interpolate import CubicSpline

from fuse_flows.config import TierConfig, load_config
from fuse_flows.errors import ConfigError
from fuse_flows.potentials.gulp import read_gulp_library, write_gulp_library
from fuse_flows.relax import gulp_tier
from fuse_flows.relax.base import Relaxer
from fuse_flows.relax.calculators import check_calculator, engines, make_calculator
from fuse_flows.relax.guards import check_contacts
from fuse_flows.relax.gulp_files import parse_output, parse_restart, write_input
from fuse_flows.relax.gulp_stages import PRESETS, GulpStage
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.tiers import _build, build_relaxer, relax_through, single_point
from fuse_flows.settings import settings

STANDIN = Path(__file__).with_name("gulp_standin.py")
CUTOFF = 4.8
QUICK = [
    {"keywords": "opti conj conp noelectro", "options": ["maxcyc 2", "gmax 0.1"]},
    {"keywords": "opti conp noelectro", "options": ["maxcyc 200", "gmax 0.01"]},
    {"keywords": "sing conp noelectro"},
]


def morse(depth, r0):
    r = np.linspace(1.0, CUTOFF, 191)
    x = 1 - np.exp(-1.5 * (r - r0))
    return r, depth * (x**2 - 1) * np.clip((CUTOFF - r) / 2, 0, 1) ** 3


@pytest.fixture
def library(tmp_path):
    r, mg_o = morse(1.0, 2.1)
    values = {("Mg", "O"): mg_o, ("Mg", "Mg"): morse(0.1, 3.2)[1], ("O", "O"): morse(0.1, 3.0)[1]}
    write_gulp_library(tmp_path / "library", r, values)
    return tmp_path / "library"


@pytest.fixture
def gulp(monkeypatch, tmp_path):
    """Put the stand-in in the place of GULP; return what it was given so far."""
    record = tmp_path / "runs"
    monkeypatch.setenv("FUSE_FLOWS_GULP", f"{sys.executable} {STANDIN}")
    monkeypatch.setenv("GULP_STANDIN_RUNS", str(record))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    settings.cache_clear()
    _build.cache_clear()
    yield lambda: [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    assert list((tmp_path / "scratch").iterdir()) == []
    _build.cache_clear()


def tier(library, stages=None, **changes):
    kwargs = {"library": str(library), "stages": stages or QUICK, **changes.pop("kwargs", {})}
    return TierConfig(calculator="gulp", calculator_kwargs=kwargs, **changes)


def energy_of(structure, library):
    r, values = read_gulp_library(library, {"Mg", "O"})
    i, j, d = neighbor_list("ijd", structure.to_ase_atoms(), CUTOFF)
    symbols = [site.specie.symbol for site in structure]
    return 0.5 * sum(
        CubicSpline(r, values[tuple(sorted((symbols[a], symbols[b])))])(x) for a, b, x in zip(i, j, d, strict=True)
    )


def test_stages_follow_each_other_and_the_energy_is_that_of_the_structure(gulp, library, rocksalt):
    structure = rocksalt(a=4.5)
    result = build_relaxer(tier(library)).relax(structure)
    assert result.outcome is Outcome.CONVERGED, result.reason
    assert result.reason == ""
    assert result.energy == pytest.approx(energy_of(result.structure, library), abs=1e-5)
    assert result.energy < energy_of(structure, library) - 0.1
    assert result.structure.species == structure.species
    assert result.structure.volume != pytest.approx(structure.volume, rel=0.01)
    assert result.steps > 2
    assert (result.engine, result.engine_version) == ("gulp", "6.2.0")
    inputs = [run["input"] for run in gulp()]
    assert [text.splitlines()[0] for text in inputs] == [stage["keywords"] for stage in QUICK]
    assert len({text.partition("fractional")[2].partition("include")[0] for text in inputs[:2]}) == 2
    assert all("dump temp.res" in text and max(map(len, text.splitlines())) <= 80 for text in inputs)
    assert not any(Path(run["folder"]).exists() for run in gulp())


def test_last_stage_may_be_the_optimisation(gulp, library, rocksalt):
    result = build_relaxer(tier(library, stages=QUICK[1:2])).relax(rocksalt())
    assert result.outcome is Outcome.CONVERGED
    assert result.energy == pytest.approx(energy_of(result.structure, library), abs=1e-5)
    assert len(gulp()) == 1


def test_a_final_single_point_does_not_hide_a_failed_optimisation(gulp, library, rocksalt):
    result = build_relaxer(tier(library, stages=[QUICK[0], QUICK[2]])).relax(rocksalt(a=4.6))
    assert result.outcome is Outcome.NOT_CONVERGED
    assert "Maximum number of function calls" in result.reason
    assert result.energy == pytest.approx(energy_of(result.structure, library), abs=1e-5)
    assert len(gulp()) == 2


@pytest.mark.usefixtures("gulp")
def test_positive_energies_count(monkeypatch, library, rocksalt):
    monkeypatch.setenv("GULP_STANDIN_SHIFT", "100")
    result = build_relaxer(tier(library)).relax(rocksalt())
    assert result.outcome is Outcome.CONVERGED
    assert result.energy == pytest.approx(800 + energy_of(result.structure, library), abs=1e-5)


def test_pressure(gulp, library, rocksalt):
    """GULP prints the enthalpy then; what is kept is the energy, and p V is added once."""
    pressed, free = (build_relaxer(tier(library, pressure=p)).relax(rocksalt(rattle=0.02)) for p in (10.0, None))
    assert (pressed.outcome, pressed.pressure) == ("CONVERGED", 10.0)
    assert "pressure 10 GPa" in gulp()[0]["input"]
    assert "pressure" not in gulp()[-1]["input"]
    assert pressed.structure.volume < 0.99 * free.structure.volume
    assert pressed.energy == pytest.approx(energy_of(pressed.structure, library), abs=1e-3)
    assert pressed.enthalpy == pytest.approx(pressed.energy + 10.0 * GPa * pressed.structure.volume)
    assert pressed.enthalpy < free.energy + 10.0 * GPa * free.structure.volume


def test_constant_volume(gulp, library, rocksalt):
    structure = rocksalt(a=4.4)
    result = build_relaxer(tier(library, relax_cell=False)).relax(structure)
    assert result.outcome is Outcome.CONVERGED
    assert np.allclose(result.structure.lattice.abc, structure.lattice.abc, atol=1e-5)
    assert all("conv" in run["input"].splitlines()[0].split() for run in gulp())


def test_no_lower_point(gulp, monkeypatch, library, rocksalt):
    monkeypatch.setenv("GULP_STANDIN", "no_lower_point")
    strict = build_relaxer(tier(library, stages=QUICK[1:2])).relax(rocksalt())
    assert strict.outcome is Outcome.NOT_CONVERGED
    assert strict.reason == "Conditions for a minimum have not been satisfied, gradient norm 0.05"
    lenient = build_relaxer(tier(library, stages=QUICK[1:2], kwargs={"accept_gnorm": 0.1})).relax(rocksalt())
    assert lenient.outcome is Outcome.CONVERGED
    assert lenient.energy == strict.energy
    assert len(gulp()) == 2


@pytest.mark.parametrize(
    "case",
    [
        ("crash@2", Outcome.ENGINE_ERROR, "exit code 139"),
        ("error@2", Outcome.ENGINE_ERROR, "Largest core-shell distance exceeds cutoff of cuts"),
        ("stars@2", Outcome.EXPLODED, "too large"),
        ("no_restart@2", Outcome.ENGINE_ERROR, "no temp.res"),
        ("collapse@2", Outcome.EXPLODED, "volume changed"),
        ("stranger@1", Outcome.ENGINE_ERROR, "not the General Utility Lattice Program"),
    ],
)
@pytest.mark.usefixtures("gulp")
def test_failures_keep_the_last_good_structure_and_no_energy(monkeypatch, library, rocksalt, case):
    kind, outcome, reason = case
    monkeypatch.setenv("GULP_STANDIN", kind)
    structure = rocksalt()
    result = build_relaxer(tier(library)).relax(structure)
    assert result.outcome is outcome
    assert reason in result.reason
    assert result.energy is None
    assert len(result.structure) == 8
    assert (result.structure == structure) is kind.startswith("stranger")
    assert check_contacts(tier(library), result.structure.lattice.matrix, result.structure.frac_coords) is None


def test_time_limit_ends_every_process(gulp, monkeypatch, tmp_path, library, rocksalt):
    script = tmp_path / "hang.sh"
    script.write_text(f"sleep 300 &\necho $! $$ > {tmp_path}/pids\nwait\n")
    monkeypatch.setenv("FUSE_FLOWS_GULP", f"sh {script}")
    settings.cache_clear()
    structure = rocksalt()
    result = build_relaxer(tier(library, time_limit=2.0)).relax(structure)
    assert (result.outcome, result.reason, result.energy) == (Outcome.TIMED_OUT, "stopped after 2 s", None)
    assert result.structure == structure
    assert gulp() == []
    assert all(wait_until_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def wait_until_gone(pid):
    for _ in range(500):
        status = Path(f"/proc/{pid}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.usefixtures("gulp")
@pytest.mark.parametrize("run", [1, 2])
def test_out_of_time_leaves_the_stage_before(monkeypatch, library, rocksalt, run):
    monkeypatch.setenv("GULP_STANDIN", f"cpu@{run}")
    structure = rocksalt(a=4.5)
    result = build_relaxer(tier(library)).relax(structure)
    assert result.outcome is Outcome.TIMED_OUT
    assert (result.structure == structure) is (result.energy is None) is (run == 1)
    if run == 2:
        assert result.energy == pytest.approx(energy_of(result.structure, library), abs=1e-5)


def test_contacts_are_refused_before_gulp_runs(gulp, library, rocksalt):
    structure = rocksalt()
    structure.append("O", structure[0].frac_coords + 0.05)
    assert build_relaxer(tier(library)).relax(structure).outcome is Outcome.TOO_CLOSE
    assert gulp() == []


def test_single_point_and_chain(gulp, library, rocksalt):
    structure = rocksalt()
    single = single_point(structure, tier(library))
    assert single.energy == pytest.approx(energy_of(structure, library), abs=1e-5)
    assert single.structure == structure
    assert len(gulp()) == 1
    first, second = relax_through(structure, [tier(library, stages=QUICK[:1]), tier(library, stages=QUICK[1:])])
    assert first.outcome is Outcome.NOT_CONVERGED
    assert second.energy < first.energy


def test_any_cell_of_the_crystal(gulp, library, rocksalt):
    skewed = rocksalt(rattle=0.05).get_primitive_structure(tolerance=0.5)
    skewed.make_supercell([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    result = build_relaxer(tier(library)).relax(skewed)
    assert result.outcome is Outcome.CONVERGED
    assert result.energy == pytest.approx(energy_of(result.structure, library), abs=1e-5)
    assert gulp()


def test_not_found(monkeypatch, library):
    monkeypatch.setenv("PATH", "/nowhere")
    for call in (build_relaxer, lambda t: check_calculator(t, ["Mg", "O"])):
        with pytest.raises(ConfigError, match=r"no gulp is on the PATH.*FUSE_FLOWS_GULP.*calculator spp"):
            call(tier(library))
    assert "calculator spp" in engines()["gulp"]
    monkeypatch.setenv("FUSE_FLOWS_GULP", "/opt/no/gulp")
    settings.cache_clear()
    with pytest.raises(ConfigError, match="/opt/no/gulp"):
        build_relaxer(tier(library))


@pytest.mark.usefixtures("gulp")
def test_checks_before_submission(library):
    assert engines()["gulp"] == "available"
    check_calculator(tier(library), ["Mg", "O"])
    with pytest.raises(ConfigError, match="CA-CA, CA-O"):
        check_calculator(tier(library), ["Ca", "O"])
    with pytest.raises(ConfigError, match="tier of its own"):
        make_calculator(tier(library))
    assert isinstance(build_relaxer(tier(library)), Relaxer)
    assert load_config(formula="MgO", tiers=[tier(library).model_dump()]).tiers[0].calculator == "gulp"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stages": "fast"}, "stages: 'fast' is unknown; use relax, rank, single"),
        ({"stages": []}, "stages: must be one of"),
        ({"stages": [{"keywords": ["conp"]}]}, r"stages\.0\.keywords: must say opti or sing"),
        ({"stages": [{"keywords": ["opti"], "options": ["dump x.res"]}]}, "'dump x.res' is written by fuse_flows"),
        ({"stages": [{"keywords": ["opti"], "options": ["maxcyc 5\nstop"]}]}, r"stages\.0\.options: must be a list"),
        ({"stages": [{"words": ["opti"]}]}, r"stages\.0: must have keywords"),
        ({"taper": -1}, "taper: must be a number of at least 0"),
        ({"colour": 1}, "does not know colour"),
        ({"library": "/no/library"}, "library: '/no/library' does not exist"),
    ],
)
@pytest.mark.usefixtures("gulp")
def test_bad_keywords(library, kwargs, message):
    bad = TierConfig(calculator="gulp", calculator_kwargs={"library": str(library), **kwargs})
    with pytest.raises(ConfigError, match=message):
        check_calculator(bad, ["Mg", "O"])


@pytest.mark.usefixtures("gulp")
def test_library_or_include(tmp_path, library):
    file = tmp_path / "ionic.lib"
    file.write_text("species\nO core -2.0\nbuck\nMg core O core 1428.5 0.2945 0.0 10.0\n")
    both = {"library": str(library), "include": str(file)}
    for kwargs in ({}, both):
        with pytest.raises(ConfigError, match=r"needs library .* or include"):
            build_relaxer(TierConfig(calculator="gulp", calculator_kwargs=kwargs))
    relaxer = build_relaxer(TierConfig(calculator="gulp", calculator_kwargs={"include": str(file)}))
    assert not any("noelectro" in stage.keywords for stage in relaxer.stages)
    with pytest.raises(ConfigError, match="taper: needs library"):
        build_relaxer(TierConfig(calculator="gulp", calculator_kwargs={"include": str(file), "taper": 2}))


def test_taper_is_handed_to_gulp(gulp, library, rocksalt):
    build_relaxer(tier(library, stages="single", kwargs={"taper": 2})).relax(rocksalt())
    assert "cutp 4.800000 2.000000" in gulp()[0]["input"].splitlines()


def test_stages_of_the_paper():
    for name in ("relax", "rank"):
        stages = PRESETS[name]
        assert len(stages) == 5
        assert [stage.optimises for stage in stages] == [True] * 4 + [False]
        assert {"conp", "noelectro"} <= set.intersection(*(set(stage.keywords) for stage in stages))
        assert "stepmax 0.001" in stages[0].options
        assert "stepmax 0.5" in stages[1].options


@pytest.mark.parametrize(
    ("text", "energy"),
    [
        ("  Final energy =    -315.17328097 eV      \n", -315.17328097),
        ("  Final energy =      12.50000000 eV \n", 12.5),
        ("  Final energy =-1234567.12345678 eV\n", -1234567.12345678),
        ("  Final energy = **************** eV\n", None),
        ("  Total lattice energy       =        -164.30127056 eV    \n", -164.30127056),
        ("  Total lattice energy : \n    Primitive unit cell      =        -314.69811894 eV    \n", -314.69811894),
        (
            "  Total lattice energy       =    -1.0 eV\n  Final energy =   -2.0 eV\n Total lattice energy = -2.0 eV\n",
            -2.0,
        ),
        ("  Total lattice energy       =          -15852.5610 kJ/(mole unit cells)\n", None),
    ],
)
def test_energies(text, energy):
    output = parse_output(text)
    assert output.energy == energy
    assert output.overflow is ("****" in text)


def test_restart_with_fractions_vectors_shells_and_touching_numbers():
    text = (
        "# Keywords:\nopti conp\ntitle\nfractions of a cell\nend\nvectors\n 4.0 0.0 0.0\n 0.0 4.0 0.0\n -1.0 0.0 4.0\n"
        "fractional  1   \nMg    core 1/3 0.5000000 -2/3 0.0 1.0 0.0\nO     core -0.1000000-0.2000000-0.3000000 0.0\n"
        "O     shel 0.1 0.1 0.1 -2.0 1.0 0.0\ntotalenergy            -1.0 eV\n"
    )
    lattice, coords = parse_restart(text, ["Mg", "O"])
    assert lattice[2].tolist() == [-1.0, 0.0, 4.0]
    assert np.allclose(coords, [[1 / 3, 0.5, -2 / 3], [-0.1, -0.2, -0.3]])
    for bad, message in ((["O", "Mg"], "atoms"), (["Mg"], "atoms")):
        with pytest.raises(ValueError, match=message):
            parse_restart(text, bad)
    with pytest.raises(ValueError, match="no cell"):
        parse_restart(text.replace("vectors", "scell"), ["Mg", "O"])


@profile(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(2.0, 50.0), min_size=3, max_size=3),
    st.lists(st.floats(40.0, 80.0), min_size=3, max_size=3),
    st.lists(st.tuples(*[st.floats(-1.0, 1.0)] * 3), min_size=1, max_size=6),
)
def test_input_holds_the_structure(edges, angles, coords):
    lattice = Lattice.from_parameters(*edges, *angles)
    structure = Structure(lattice, ["Sr"] * len(coords), coords)
    symbols = ["Sr"] * len(coords)
    text = write_input(GulpStage(("sing",)), lattice.matrix, structure.frac_coords, symbols)
    read, frac = parse_restart(text, symbols)  # both are files of GULP
    assert np.allclose(read, lattice.matrix, atol=1e-9)
    assert np.allclose(frac, structure.frac_coords, atol=1e-9)


def test_scratch_goes_with_an_interrupt(gulp, monkeypatch, library, rocksalt):
    def interrupted(_text):
        raise KeyboardInterrupt

    monkeypatch.setattr(gulp_tier, "parse_output", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_relaxer(tier(library)).relax(rocksalt())
    assert len(gulp()) == 1
