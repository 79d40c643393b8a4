"""Relaxations with the real GPAW, on the smallest cells that mean something."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError
from fuse_flows.relax.base import PartwiseRelaxer
from fuse_flows.relax.calculators import check_calculator, engines
from fuse_flows.relax.gpaw.process import Engine, EngineDiedError
from fuse_flows.relax.gpaw.tier import GpawRelaxer
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.tiers import build_relaxer, single_point
from fuse_flows.settings import settings

pytestmark = [
    pytest.mark.gpaw,
    pytest.mark.skipif(find_spec("gpaw") is None, reason="GPAW is not installed; run scripts/install_gpaw.sh"),
]
#: So few k-points and plane waves that a call takes a tenth of a second; the numbers mean little.
COARSE = {"ecut": 300, "kspacing": 2.5, "convergence": {"energy": 1e-3, "density": 1e-3}}


def tier(*stages, **changes):
    options = {"stages": list(stages), **changes.pop("options", {})}
    return TierConfig(calculator="gpaw", calculator_kwargs=options, **changes)


def test_magnesium_oxide(mgo, tmp_path):
    """PBE: 4.24 to 4.26 A (GPAW 26.7, 700 eV, 4x4x4: 4.246). Two stages; the energy is that of a new calculation."""
    coarse = {"kspacing": 0.85, "convergence": {"energy": 1e-4, "density": 1e-4}, "fmax": 0.2, "smax": 4}
    relaxing = tier(coarse, {"kspacing": 0.65}, fmax=0.03, smax=0.5, max_steps=15)
    part = GpawRelaxer(relaxing).advance(mgo(4.30), None, tmp_path)
    result, stages = part.result, part.document["stages"]
    assert result.outcome is Outcome.CONVERGED
    assert (4 * result.structure.volume) ** (1 / 3) == pytest.approx(4.246, abs=0.01)
    assert result.smax <= 0.5
    assert (result.engine, result.engine_version) == ("gpaw", part.document["version"])
    assert [entry["stage"] for entry in stages] == [1, 2]
    assert [entry["parameters"]["kpts"]["size"] for entry in stages] == [[3, 3, 3], [4, 4, 4]]
    assert [entry["energy"] for entry in stages] == [None, result.energy]
    assert stages[1]["calls"] >= 1
    again = single_point(result.structure, relaxing)
    assert again.steps == 0
    assert again.energy == pytest.approx(result.energy, abs=1e-5)
    assert list(tmp_path.glob("gpaw_*/gpaw.txt"))


def test_stress_is_the_derivative_of_the_energy(mgo, tmp_path):
    """With 900 eV the basis hardly depends on the cell any more; the cell is too large by 10 GPa."""
    energies, volumes, stress = [], [], None
    with Engine(tmp_path) as engine:
        for a in (4.37, 4.40, 4.43):
            parameters = {
                "mode": {"name": "pw", "ecut": 900},
                "xc": "PBE",
                "kpts": {"size": [2, 2, 2], "gamma": True},
                "convergence": {"energy": 1e-5, "density": 1e-5},
            }
            engine.ask({"do": "begin", "parameters": parameters})
            crystal = mgo(a)
            answer = engine.ask(
                {
                    "do": "compute",
                    "numbers": [12, 8],
                    "cell": crystal.lattice.matrix.tolist(),
                    "positions": crystal.cart_coords.tolist(),
                    "magmoms": [0, 0],
                    "stress": True,
                }
            )
            energies.append(answer["energy"])
            volumes.append(crystal.volume)
            stress = np.array(answer["stress"]) if a == 4.40 else stress
    slope = (energies[2] - energies[0]) / (volumes[2] - volumes[0])
    assert np.trace(stress) / 3 == pytest.approx(slope, abs=0.5 * 0.00624)  # 0.5 GPa
    assert abs(slope) > 5 * 0.00624


def test_forces_are_followed(tmp_path):
    """Two atoms of hydrogen in a box: the bond comes to its PBE length of 0.75 A; the cell stays."""
    structure = Structure(Lattice.cubic(5), ["H", "H"], [[0, 0, 0], [0, 0, 0.8 / 5]])
    result = (
        GpawRelaxer(tier({"ecut": 350, "kspacing": 5}, relax_cell=False, fmax=0.05))
        .advance(structure, None, tmp_path)
        .result
    )
    assert result.outcome is Outcome.CONVERGED
    assert result.structure.get_distance(0, 1) == pytest.approx(0.75, abs=0.02)
    assert result.structure.lattice == structure.lattice


def test_steps_used_up(mgo, tmp_path):
    """Accepted below the limits only; the energy is there in both cases, and belongs to the geometry."""
    ends = {}
    for limit in (0.5, 1000.0):
        used_up = tier(COARSE, max_steps=1, smax=0.001, options={"stress_limit": limit})
        ends[limit] = GpawRelaxer(used_up).advance(mgo(4.6), None, tmp_path).result
    energies = [result.energy for result in ends.values()]
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)
    assert energies[1] == pytest.approx(single_point(ends[1000.0].structure, used_up).energy, abs=1e-4)
    assert [result.outcome for result in ends.values()] == [Outcome.NOT_CONVERGED, Outcome.ACCEPTED]


def test_electrons_that_do_not_converge(mgo, tmp_path):
    """The second try mends it, which is told; without one it is the outcome, and the geometry is kept."""
    impatient = COARSE | {"maxiter": 3}
    options = {"stress_limit": 1000.0}
    mended = GpawRelaxer(tier(impatient, max_steps=1, options=options)).advance(mgo(4.4), None, tmp_path).result
    assert mended.outcome in {Outcome.ACCEPTED, Outcome.CONVERGED}
    assert mended.corrections
    assert all(text.startswith("stage 1: electrons not converged") for text in mended.corrections)
    failed = GpawRelaxer(tier(impatient, options={"rescue": {}})).advance(mgo(4.4), None, tmp_path).result
    assert (failed.outcome, failed.energy) == (Outcome.ELECTRONIC_FAILURE, None)
    assert failed.structure.volume == pytest.approx(mgo(4.4).volume)


def test_time_is_over_and_another_job_goes_on(mgo, tmp_path):
    """One stage a job; a job without time keeps the geometry; the end is that of one go."""
    relaxing = tier(COARSE | {"max_steps": 1}, COARSE | {"kspacing": 2.0}, max_steps=1, options={"stress_limit": 1000})
    relaxer = build_relaxer(relaxing)
    assert isinstance(relaxer, PartwiseRelaxer)
    whole = relaxer.advance(mgo(4.4), None, tmp_path)
    first = relaxer.advance(mgo(4.4), None, tmp_path, one_stage=True)
    assert (first.result, first.progress["stage"]) == (None, 1)
    idle = relaxer.advance(mgo(4.4), first.progress, tmp_path, seconds_left=1.0)  # less than queue.wall_buffer
    assert idle.result is None
    assert {**idle.progress, "interruptions": 0, "seconds": 0} == {**first.progress, "seconds": 0}
    last = relaxer.advance(mgo(4.4), idle.progress, tmp_path)
    assert last.result.outcome is whole.result.outcome
    assert last.result.energy == pytest.approx(whole.result.energy, abs=1e-6)
    assert last.result.steps == whole.result.steps
    tired = TierConfig.model_validate(relaxing.model_dump() | {"queue": {"max_requeues": 0}})
    over = GpawRelaxer(tired).advance(mgo(4.4), first.progress, tmp_path, seconds_left=1.0).result
    assert (over.outcome, over.energy) == (Outcome.TIMED_OUT, None)
    assert over.structure.volume == pytest.approx(Structure.from_dict(first.progress["structure"]).volume)


def test_a_calculation_is_cut_off_when_its_time_is_over(mgo, tmp_path):
    """GPAW is in the middle of a step; its process is ended and the job hands over what it has."""
    relaxing = tier({"ecut": 900, "kspacing": 0.2}, queue={"wall_buffer": 0})
    part = GpawRelaxer(relaxing).advance(mgo(4.4), None, tmp_path, seconds_left=8.0)
    assert part.result is None
    assert (part.progress["interruptions"], part.progress["stage"]) == (1, 0)


def test_a_crash_costs_one_structure(mgo, tmp_path, monkeypatch):
    """GPAW is killed in the middle; the next structure gets a new process."""
    started = []

    class Watched(Engine):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self.pid)

    monkeypatch.setattr("fuse_flows.relax.gpaw.staged.Engine", Watched)
    relaxer = GpawRelaxer(tier(COARSE, max_steps=1, options={"stress_limit": 1000}))

    def kill(folder):
        while not (started and list(folder.glob("gpaw_*/gpaw.txt"))):
            time.sleep(0.01)
        os.kill(started[0], signal.SIGKILL)

    (tmp_path / "first").mkdir()
    killer = threading.Thread(target=kill, args=[tmp_path / "first"])
    killer.start()
    slow = GpawRelaxer(tier({"ecut": 900, "kspacing": 0.2}))
    crashed = slow.advance(mgo(4.4), None, tmp_path / "first").result
    killer.join()
    assert crashed.outcome is Outcome.ENGINE_ERROR
    assert "GPAW was killed by signal 9" in crashed.reason
    assert relaxer.advance(mgo(4.4), None, tmp_path).result.outcome is Outcome.ACCEPTED
    assert len(started) == 2


def test_a_refusal_of_gpaw_is_the_reason(tmp_path):
    """Atoms on top of each other, past a guard that is switched off."""
    structure = Structure(Lattice.cubic(4), ["H", "H"], [[0, 0, 0], [0, 0, 0.001]])
    result = GpawRelaxer(tier(COARSE, min_distance=1e-6)).advance(structure, None, tmp_path).result
    assert result.outcome in {Outcome.ENGINE_ERROR, Outcome.EXPLODED}
    assert result.reason


def test_checks_ask_gpaw(monkeypatch):
    check_calculator(tier(COARSE), ["Ca", "Ti", "O"])
    check_calculator(tier(COARSE, options={"setups": {"Fe": ":d,4.0"}, "magmoms": {"Fe": 5}}), ["Fe", "O"])
    with pytest.raises(ConfigError, match="no PAW data of Pu for PBE"):
        check_calculator(tier(COARSE), ["Pu", "O"])
    with pytest.raises(ConfigError, match="no PAW data of Mg, O for PBEsol"):
        check_calculator(tier(COARSE, options={"xc": "PBEsol"}), ["Mg", "O"])
    assert engines()["gpaw"].startswith("available (2")
    monkeypatch.setenv("FUSE_FLOWS_GPAW_COMMAND", "false")
    settings.cache_clear()
    assert "cannot be started by 'false'" in engines()["gpaw"]


def test_a_launcher_that_prints(tmp_path):
    """As mpiexec does; only answers count. What GPAW cannot do is an answer, its end is none."""
    launcher = ["sh", "-c", 'echo "launcher: 1 rank"; exec "$0" "$@"', sys.executable]
    with Engine(tmp_path, launcher) as engine:
        assert engine.version
        assert engine.ask({"do": "compute"})["failure"] == "error"
        assert engine.ask({"do": "hello"})["ranks"] == 1
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDiedError, match="signal 9"):
            engine.ask({"do": "hello"})
