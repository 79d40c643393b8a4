"""The files that VASP gets, and what is refused before anything runs."""

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.inputs import Incar

from fuse_flows.config import TierConfig, load_config
from fuse_flows.errors import ConfigError
from fuse_flows.relax.calculators import check_calculator, engines
from fuse_flows.relax.vasp.options import VaspOptions, parse_options, with_vasp_defaults
from fuse_flows.settings import settings

#: FUSE2 paper, 10.1039/d4fd00094c: the relaxations of Ca3Ti2O7. ENCUT is 1.3 times the largest ENMAX, 400 eV of oxygen.
COMMON = {"NELM": 50, "ENCUT": 520, "ISIF": 3, "NWRITE": 1, "KGAMMA": True, "GGA": "Pe"}
FAST = COMMON | {"PREC": "Fast", "EDIFF": 1e-4, "IBRION": 2, "EDIFFG": 0.05, "KSPACING": 0.5}
FAST |= {"ALGO": "Fast", "LREAL": "Auto"}
FINE = COMMON | {"PREC": "Normal", "EDIFF": 1e-5, "IBRION": 1, "EDIFFG": -0.03, "KSPACING": 0.3}
FINE |= {"LREAL": False, "ISMEAR": 0}
TABLE = [FAST | {"NSW": 100}, FAST | {"NSW": 50}, FINE | {"NSW": 10}, FINE | {"NSW": 10}, FINE | {"NSW": 50}]
FILES = {"LWAVE": False, "LCHARG": False}  # no result depends on them


def tier(**options):
    return TierConfig(calculator="vasp", calculator_kwargs=options)


@pytest.fixture(name="ca3ti2o7", scope="module")
def _ca3ti2o7():
    """The formula unit of the tetragonal parent phase."""
    coords = [[0, 0, 0.5], [0, 0, 0.31], [0, 0, 0.1], [0, 0, 0], [0, 0, 0.2], [0, 0.5, 0.1]]
    kinds = ["Ca", "Ca", "Ti", "O", "O", "O"]
    return Structure.from_spacegroup("I4/mmm", Lattice.tetragonal(3.9, 19.5), kinds, coords).get_primitive_structure()


def written(structure, options, stage, folder):
    from atomate2.vasp.files import write_vasp_input_set

    from fuse_flows.relax.vasp.inputs import stage_generator

    folder.mkdir()
    write_vasp_input_set(structure, stage_generator(options, stage), directory=folder, clean_prev=False)
    return dict(Incar.from_file(folder / "INCAR"))


@pytest.mark.parametrize("stage", range(5))
def test_stages_are_those_of_the_paper(ca3ti2o7, standin, tmp_path, stage):
    standin()
    assert ca3ti2o7.composition.reduced_formula == "Ca3Ti2O7"
    assert written(ca3ti2o7, parse_options(tier()), stage, tmp_path / "stage") == TABLE[stage] | FILES
    names = sorted(path.name for path in (tmp_path / "stage").iterdir())
    assert names == ["INCAR", "POSCAR", "POTCAR"]  # without KPOINTS, KSPACING counts
    titles = [line.split()[1] for line in (tmp_path / "stage/POTCAR").read_text().splitlines() if "PAW_PBE" in line][
        ::2
    ]
    assert set(titles) <= {"Ca_sv", "Ti_sv", "O", "="}


def test_stages_make_220_steps():
    assert sum(stage["NSW"] for stage in VaspOptions().stages) == 220


def test_users_add_what_they_need(ca3ti2o7, standin, tmp_path):
    standin()
    options = parse_options(
        tier(
            stages=[
                {"NSW": 5, "KSPACING": 0.4, "ediff": 1e-3},
                {"NSW": 0, "KSPACING": 0.2, "ISIF": None, "SIGMA": 0.01},
            ],
            incar={
                "LDAU": True,
                "LDAUU": {"Ti": 3.0},
                "LDAUJ": {},
                "LDAUL": {"Ti": 2},
                "ISPIN": 2,
                "MAGMOM": {"Ti": 1.0},
                "EDIFF": 1e-6,
                "ENCUT": 700,
            },
        )
    )
    first = written(ca3ti2o7, options, 0, tmp_path / "first")
    second = written(ca3ti2o7, options, 1, tmp_path / "second")
    order = (tmp_path / "first/POSCAR").read_text().splitlines()[5].split()
    assert dict(zip(order, first["LDAUU"], strict=True)) == {"Ca": 0, "Ti": 3, "O": 0}
    assert sorted(first["MAGMOM"]) == [0.6] * 10 + [1.0] * 2
    assert (first["ENCUT"], first["EDIFF"], second["EDIFF"]) == (700, 1e-3, 1e-6)
    assert (first["ISIF"], second["SIGMA"]) == (3, 0.01)
    assert "ISIF" not in second


def test_a_meta_gga_takes_the_place_of_the_gga(ca3ti2o7, standin, tmp_path):
    standin()
    fast = {"PREC": "Normal", "ALGO": "Normal", "NSW": 5, "KSPACING": 0.5, "METAGGA": None}
    fine = {"PREC": "Normal", "ALGO": "All", "NSW": 5, "KSPACING": 0.3}
    this = tier(stages=[fast, fine], incar={"METAGGA": "R2SCAN", "LASPH": True, "BPARAM": 11.95, "LIBXC1_P1": 0.5})
    check_calculator(this, ["Ca", "Ti", "O"])
    first = written(ca3ti2o7, parse_options(this), 0, tmp_path / "first")
    second = written(ca3ti2o7, parse_options(this), 1, tmp_path / "second")
    assert (first["GGA"], first.get("METAGGA")) == ("Pe", None)
    assert (second.get("GGA"), second["METAGGA"].upper(), second["BPARAM"]) == (None, "R2SCAN", 11.95)


def test_common_keys_that_count_somewhere_may_be_given(standin):
    standin()
    check_calculator(tier(incar={"NELM": 100, "NCORE": 4, "ENCUT": 600, "GGA": "PS"}), ["Ca"])
    stages = [{"KSPACING": 0.5, "NSW": 9}, {"NSW": 9}]
    check_calculator(tier(stages=stages, incar={"KSPACING": 0.3}), ["Ca"])
    check_calculator(tier().model_copy(update={"relax_cell": False, "pressure": 10.0}), ["Ca"])


def test_fields_of_the_tier_that_mean_something():
    single = parse_options(tier().model_copy(update={"max_steps": 0}))
    assert [stage["NSW"] for stage in single.stages] == [0]
    fixed = parse_options(tier().model_copy(update={"relax_cell": False}))
    assert {stage["ISIF"] for stage in fixed.stages} == {2}


def test_written_defaults_are_part_of_the_search():
    search = load_config(formula="Ca3Ti2O7", tiers=["emt", "vasp"])
    resolved = with_vasp_defaults(search)
    assert resolved.tiers[0] == search.tiers[0]
    assert len(resolved.tiers[1].calculator_kwargs["stages"]) == 5
    assert with_vasp_defaults(resolved) == resolved
    other = load_config(
        formula="Ca3Ti2O7", tiers=["emt", {"calculator": "vasp", "calculator_kwargs": {"encut_factor": 1}}]
    )
    assert with_vasp_defaults(other).search_id != resolved.search_id


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": [{"NSW": 3, "KSPACNG": 0.3}]}, r"stages\.0: VASP does not know KSPACNG"),
        ({"incar": {"ENCT": 500}}, r"stages\.0: VASP does not know ENCT"),
        ({"stages": [{"NSW": 3, "KSPACING": 0.3}, {"NSW": 3}]}, r"stages\.1\.KSPACING: None gives no k-points"),
        ({"stages": [{"NSW": "many", "KSPACING": 0.3}]}, r"stages\.0\.NSW: 'many' is no number of steps"),
        ({"stages": []}, r"calculator_kwargs\.stages: Tuple should have at least 1 item"),
        ({"stages": ["fast"]}, r"calculator_kwargs\.stages\.0: Input should be a valid dictionary"),
        ({"incar": {"PSTRESS": 100}}, r"stages\.0\.PSTRESS: .* give the field pressure of the tier, in GPa"),
        ({"incar": {"EDIFF": 1e-6}}, r"incar\.EDIFF: stages 1, 2, 3, 4, 5 have their own EDIFF"),
        ({"incar": {"ALGO": "All"}}, r"incar\.ALGO: stages 1, 2 have their own ALGO, which wins; write ALGO into"),
        ({"stages": [{"KSPACING": 0.3, "NSW": 2}], "incar": {"NSW": 9}}, r"incar\.NSW: stage 1 has its own NSW"),
        ({"incar": {"MAGMOM": [5, 5]}}, r"stages\.0\.MAGMOM: \[5, 5\] is no table of elements"),
        ({"incar": {"LDAU": True, "LDAUU": [4, 0]}}, r"stages\.0\.LDAUU: \[4, 0\] is no table of elements"),
        ({"incar": {"LDAU": True}}, r"stages\.0\.LDAUU: is missing, but LDAU is on"),
        ({"incar": {"METAGGA": "SCAN", "GGA": "PS"}}, r"stages\.0\.GGA: PS and METAGGA SCAN exclude each other"),
        ({"force": 1}, r"calculator_kwargs\.force: vasp does not know it; use stages, incar"),
        ({"encut_factor": -1}, r"calculator_kwargs\.encut_factor: Input should be greater than 0"),
    ],
)
def test_bad_options_are_refused_by_name(options, message, standin):
    standin()
    with pytest.raises(ConfigError, match=message):
        check_calculator(tier(**options), ["Ca", "Ti", "O"])


def test_what_a_machine_lacks_is_named(standin, monkeypatch):
    import atomate2
    import pymatgen.core

    standin()
    check_calculator(tier(), ["Ca", "Ti", "O"])
    assert engines()["vasp"] == "available"
    with pytest.raises(ConfigError, match=r"no POTCAR Sr_sv of Sr in set PBE_54 under PMG_VASP_PSP_DIR"):
        check_calculator(tier(), ["Sr", "Ti", "O"])
    check_calculator(tier(potcars={"Sr": "Ca_sv"}), ["Sr", "Ti", "O"])
    monkeypatch.setattr(atomate2.SETTINGS, "VASP_CMD", "mpirun_of_mine -n 4 vasp_std")
    with pytest.raises(
        ConfigError, match=r"VASP_CMD \('mpirun_of_mine -n 4 vasp_std'\), and 'mpirun_of_mine' is no pro"
    ):
        check_calculator(tier(), ["Ca"])
    monkeypatch.setattr(atomate2.SETTINGS, "VASP_CMD", "env -i vasp_of_mine --short")
    with pytest.raises(ConfigError, match=r"'vasp_of_mine' is no program here"):
        check_calculator(tier(), ["Ca"])
    monkeypatch.setattr(atomate2.SETTINGS, "VASP_CMD", "env apptainer exec vasp.sif vasp_of_mine")
    check_calculator(tier(), ["Ca"])  # within a container, nobody knows
    monkeypatch.setattr(atomate2.SETTINGS, "VASP_CMD", "env true")
    monkeypatch.setitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR", "/no/such/folder")
    assert "PMG_VASP_PSP_DIR, the folder of POTCARs (/no/such/folder is none)" in engines()["vasp"]
    monkeypatch.delitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR")
    with pytest.raises(ConfigError, match="PMG_VASP_PSP_DIR, the folder of POTCARs"):
        check_calculator(tier(), ["Ca"])
    assert "PMG_VASP_PSP_DIR" in engines()["vasp"]
    monkeypatch.setenv("FUSE_FLOWS_VASP_ELSEWHERE", "true")
    settings.cache_clear()
    check_calculator(tier(), ["Ca"])


def test_an_unknown_tier_is_refused():
    with pytest.raises(ConfigError, match=r"'vaps' is unknown; use one of .*, vasp, "):
        check_calculator(TierConfig(calculator="vaps"), ["Ca"])


def test_handlers_are_fresh_and_leave_stages_alone():
    from atomate2.vasp.run import DEFAULT_HANDLERS
    from custodian.vasp.handlers import FrozenJobErrorHandler, KspacingMetalHandler, UnconvergedErrorHandler

    from fuse_flows.relax.vasp.handlers import DeadlineHandler, ElectronicErrorHandler, stage_handlers

    first, second = stage_handlers(60.0), stage_handlers(60.0, 100.0, 10.0)
    assert not {id(handler) for handler in first} & {id(handler) for handler in (*second, *DEFAULT_HANDLERS)}
    kinds = [type(handler) for handler in first]
    assert set(kinds) == {type(h) for h in DEFAULT_HANDLERS} - {KspacingMetalHandler, UnconvergedErrorHandler} | {
        ElectronicErrorHandler
    }
    assert next(handler for handler in first if isinstance(handler, FrozenJobErrorHandler)).timeout == 60.0
    deadline = second[-1]
    assert isinstance(deadline, DeadlineHandler)
    assert DeadlineHandler.from_dict(deadline.as_dict()).wall_time == 100.0
