"""Staged relaxations with the stand-in, under atomate2 and custodian: outcomes, corrections, interruptions."""

import json
from pathlib import Path

import pytest
from ase.units import GPa
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError
from fuse_flows.relax.base import PartwiseRelaxer
from fuse_flows.relax.tiers import build_relaxer, single_point

FAST = {"PREC": "Fast", "ALGO": "Fast", "EDIFF": 1e-4, "EDIFFG": 0.05, "IBRION": 2, "NSW": 20, "KSPACING": 0.5}
FINE = {"PREC": "Normal", "EDIFF": 1e-5, "EDIFFG": -0.03, "IBRION": 1, "NSW": 30, "KSPACING": 0.3}
POLLING = {"polling_time_step": 0.1, "monitor_freq": 3}


def tier(stages=(FAST, FINE), queue=None, **changes):
    options = {"stages": list(stages)} | {key: changes.pop(key) for key in list(changes) if key in OPTIONS}
    queue = {"custodian": POLLING, **(queue or {})}
    return TierConfig(calculator="vasp", calculator_kwargs=options, queue=queue, **changes)


OPTIONS = {"force_limit", "frozen_seconds", "max_errors", "keep_steps"}


@pytest.fixture(name="mgo", scope="module")
def _mgo():
    lattice = Lattice([[0.1, 2.2, 2.2], [2.2, 0.0, 2.2], [2.2, 2.2, 0.0]])
    return Structure(lattice, ["O", "Mg"], [[0.02, 0, 0], [0.5, 0.5, 0.47]])


def advance(structure, this, **limits):
    relaxer = build_relaxer(this)
    assert isinstance(relaxer, PartwiseRelaxer)
    return relaxer.advance(structure, None, Path.cwd(), **limits)


def test_converged(mgo, standin):
    log = standin()
    part = advance(mgo, tier())
    result, document = part.result, part.document
    assert (result.outcome, result.reason, result.corrections) == ("CONVERGED", "", ())
    assert result.fmax < 0.03
    assert result.structure.composition == mgo.composition
    assert "magmom" not in result.structure.site_properties
    assert [run["stage"] for run in log()] == [1, 2]
    # the document is atomate2's, and the energy that of the last stage
    from emmet.core.tasks import TaskDoc

    read = TaskDoc.model_validate(document)
    assert (read.state.value, read.task_label) == ("successful", "staged relaxation")
    assert [calculation.task_name for calculation in read.calcs_reversed] == ["relax2", "relax1"]
    assert [calculation.input.incar["PREC"] for calculation in read.calcs_reversed] == ["Normal", "Fast"]
    assert result.energy == read.output.energy == read.calcs_reversed[0].output.energy
    assert [len(calculation.output.ionic_steps) for calculation in read.calcs_reversed] == [1, 1]
    assert result.engine_version == read.vasp_version == "0.0.standin"
    assert result.steps > 4


def test_steps_are_used_up(mgo, standin):
    """Five steps are not enough: whether the structure is accepted depends on the largest norm of a force alone."""
    standin()
    few = (FAST | {"NSW": 3}, FINE | {"NSW": 2, "EDIFFG": -1e-6})
    refused = build_relaxer(tier(few, force_limit=1e-5)).relax(mgo)
    assert (refused.outcome, refused.steps) == ("NOT_CONVERGED", 5)
    assert refused.reason == f"force {refused.fmax:.3g} eV/A after 5 steps"
    accepted = build_relaxer(tier(few, force_limit=100.0)).relax(mgo)
    assert (accepted.outcome, accepted.steps, accepted.energy) == ("ACCEPTED", 5, refused.energy)
    assert accepted.reason.endswith("below the limit of 100")
    assert accepted.corrections == ()  # custodian did not take it for an error


def test_single_point(mgo, standin):
    log = standin()
    result = single_point(mgo, tier())
    assert (result.outcome, result.steps) == ("CONVERGED", 1)
    assert result.structure.volume == pytest.approx(mgo.volume)
    assert len(log()) == 1


def test_pressure(mgo, standin):
    """VASP gets it in kB and adds p V to some of its energies; ours is that without, the enthalpy has p V once."""
    standin()
    stages = (FAST | {"EDIFFG": 1e-3, "NSW": 40}, FINE | {"EDIFFG": 1e-8, "NSW": 60})
    found = {p: advance(mgo, tier(stages, pressure=p)) for p in (0.0, 20.0)}
    result, free = found[20.0].result, found[0.0].result
    assert (result.outcome, free.outcome, result.pressure) == ("CONVERGED", "CONVERGED", 20.0)
    incars = [calculation["input"]["incar"] for calculation in found[20.0].document["calcs_reversed"]]
    assert [incar["PSTRESS"] for incar in incars] == [200.0, 200.0]
    assert "PSTRESS" not in found[0.0].document["calcs_reversed"][0]["input"]["incar"]
    assert result.structure.volume < 0.99 * free.structure.volume
    assert result.smax < 0.5  # counted from 20 GPa
    work = 20.0 * GPa * result.structure.volume
    assert result.enthalpy == pytest.approx(result.energy + work, abs=1e-9)
    of_vasp = found[20.0].document["output"]["energy"]  # p V is in it
    assert of_vasp == pytest.approx(result.enthalpy, abs=1e-6)
    as_it_is = single_point(result.structure, tier())
    assert result.energy == pytest.approx(as_it_is.energy, abs=1e-6)
    assert single_point(result.structure, tier(pressure=20.0)).enthalpy == pytest.approx(result.enthalpy, abs=1e-6)
    # -dE/dV is the pressure
    energies, volumes = [], []
    for factor in (0.995, 1.005):
        scaled = result.structure.copy()
        scaled.scale_lattice(factor * result.structure.volume)
        energies.append(single_point(scaled, tier()).energy)
        volumes.append(scaled.volume)
    assert -(energies[1] - energies[0]) / (volumes[1] - volumes[0]) / GPa == pytest.approx(20.0, abs=0.5)


@pytest.mark.parametrize("fault", ["zbrent:1@2", "brmix:1@1", "nelm:1@2"])
def test_corrected(mgo, standin, fault):
    log = standin(fault)
    part = advance(mgo, tier())
    stage = int(fault[-1])
    assert part.result.outcome == "CONVERGED"
    assert {run["fault"] for run in log()} == {fault.partition(":")[0], ""}
    (correction,) = set(part.result.corrections)
    errors = {"zbrent": "zbrent", "brmix": "brmix", "nelm": "Unconverged"}
    assert correction == f"stage {stage}: {errors[fault.partition(':')[0]]}"
    assert [correction["errors"] for entry in part.document["custodian"] for correction in entry["corrections"]]
    assert len(log()) == 3


@pytest.mark.parametrize(
    ("fault", "outcome", "reason"),
    [
        ("nelm@2", "ELECTRONIC_FAILURE", "custodian gave up after 2 corrections: Unconverged"),
        ("kill@2", "ENGINE_ERROR", "VASP did not end properly (VasprunXMLValidator)"),
        ("truncated@1", "ENGINE_ERROR", "VASP did not end properly (VasprunXMLValidator)"),
    ],
)
def test_failed(mgo, standin, fault, outcome, reason):
    log = standin(fault)
    part = advance(mgo, tier(max_errors=2))
    result, stage = part.result, int(fault[-1])
    assert (result.outcome, result.reason, result.energy) == (outcome, reason, None)
    assert {run["stage"] for run in log()} == set(range(1, stage + 1))
    assert result.structure.composition == mgo.composition
    assert (part.document is None) == (stage == 1)  # of the stages before


def test_vasp_that_does_not_begin_is_no_fault_of_the_structure(mgo, standin, monkeypatch):
    import atomate2

    standin()
    command = "python3 -c \"import sys; sys.exit('libmkl_rt.so: cannot open shared object file')\""
    monkeypatch.setattr(atomate2.SETTINGS, "VASP_CMD", command)
    with pytest.raises(ConfigError, match=r"vasp did not begin, .* \(libmkl_rt.so: cannot open .*\); mend VASP_CMD"):
        build_relaxer(tier()).relax(mgo)


def test_frozen_output(mgo, standin):
    """Killed, and run again with another algorithm, as custodian says; frozen again, it is given up."""
    standin("frozen:1@1")
    result = build_relaxer(tier([FAST], frozen_seconds=8)).relax(mgo)
    assert (result.outcome, result.corrections) == ("CONVERGED", ("stage 1: Frozen job",))


def test_guards_count(mgo, standin):
    log = standin()
    result = build_relaxer(tier(min_distance=2.5)).relax(mgo)
    assert result.outcome == "TOO_CLOSE"
    log_of_large = build_relaxer(tier(max_volume_change=1.001)).relax(mgo)
    assert log_of_large.outcome == "EXPLODED"
    assert [run["stage"] for run in log()] == [1]


def test_stage_after_stage(mgo, standin):
    log = standin()
    whole = build_relaxer(tier()).relax(mgo)
    this = tier(queue={"job": "stage"})
    first = advance(mgo, this, one_stage=True)
    assert first.result is None
    stored = json.loads(json.dumps(first.progress))
    second = build_relaxer(this).advance(mgo, stored, Path.cwd(), one_stage=True)
    assert second.progress is None
    assert (second.result.outcome, second.result.energy, second.result.steps) == (
        "CONVERGED",
        whole.energy,
        whole.steps,
    )
    assert [len(part.document["calcs_reversed"]) for part in (first, second)] == [1, 1]
    assert second.document["calcs_reversed"][0]["task_name"] == "relax2"
    assert [run["stage"] for run in log()] == [1, 2, 1, 2]


def test_time_is_over(mgo, standin):
    """VASP is asked to end, the geometry so far is kept, and another job goes on from it, with the steps left."""
    standin("slow")
    this = tier([FINE | {"EDIFFG": -1e-7, "NSW": 12}], queue={"wall_buffer": 1.0, "max_requeues": 1})
    first = advance(mgo, this, seconds_left=2.5)
    assert first.result is None
    assert 0 < first.progress["steps_of_stage"] < 12
    assert first.progress["interruptions"] == 1
    assert first.progress["stage"] == 0
    kept = Structure.from_dict(first.progress["structure"])
    assert kept.volume != pytest.approx(mgo.volume, rel=1e-6)
    standin("")
    second = build_relaxer(this).advance(mgo, first.progress, Path.cwd())
    assert second.result.outcome in {"ACCEPTED", "NOT_CONVERGED"}
    assert second.result.steps == 12
    assert second.document["calcs_reversed"][0]["input"]["incar"]["NSW"] == 12 - first.progress["steps_of_stage"]
    given_up = build_relaxer(this).advance(mgo, first.progress, Path.cwd(), seconds_left=0.5)
    assert (given_up.result.outcome, given_up.result.energy) == ("TIMED_OUT", None)
    assert given_up.result.reason == "time was over in 2 jobs, in stage 1"


def test_maker_makes_a_job_of_atomate2(mgo, standin, tmp_path):
    from atomate2.vasp.powerups import update_user_incar_settings
    from jobflow import JobStore, run_locally
    from maggma.stores import MemoryStore

    from fuse_flows.relax.vasp.maker import StagedRelaxMaker

    standin()
    maker = StagedRelaxMaker(tier=tier([FAST]).model_dump(), run_vasp_kwargs={"custodian_kwargs": POLLING})
    maker = update_user_incar_settings(maker, {"SIGMA": 0.03})
    job = maker.make(mgo)
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    responses = run_locally(job, store=store, root_dir=tmp_path, ensure_success=True, log=False)
    document = responses[job.uuid][1].output
    assert (document.state.value, document.input.incar["SIGMA"]) == ("successful", 0.03)
    assert store.query_one({"output.task_label": "staged relaxation"})["uuid"] == job.uuid


def test_a_stage_without_steps_left_is_over_even_if_it_was_interrupted(mgo):
    """Otherwise jobs that have time for one step each would never come to the next stage."""
    from fuse_flows.relax.vasp.options import parse_options
    from fuse_flows.relax.vasp.stage import StageEnd
    from fuse_flows.relax.vasp.staged import VaspProgress, _advanced

    options = parse_options(tier([FINE | {"NSW": 4}]))
    end = StageEnd(mgo, interrupted=True, ionic=True, energy=-1.0, steps=3)
    once = _advanced(VaspProgress(), end, options)
    assert (once.stage, once.steps_of_stage, once.steps) == (0, 3, 3)
    twice = _advanced(once, end, options)
    assert (twice.stage, twice.steps_of_stage, twice.ionic) == (1, 0, False)
