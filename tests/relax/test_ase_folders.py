"""Calculators of ASE that speak to a program by files: what two processes write must not get mixed up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError
from fuse_flows.relax.calculators import check_calculator, make_calculator
from fuse_flows.relax.processes import Processes
from fuse_flows.relax.tiers import build_relaxer, relax_many
from fuse_flows.settings import settings

PROGRAM = """
import sys, time
from pathlib import Path
length = float(Path("slow.in").read_text())
time.sleep(0.3)  # the other process comes in between
Path("slow.out").write_text(str(length))
"""
MODULE = """
from pathlib import Path
import numpy as np
from ase.calculators.calculator import FileIOCalculator

class Slow(FileIOCalculator):
    name = "slow"
    implemented_properties = ["energy", "forces", "stress"]

    def write_input(self, atoms, properties=None, system_changes=None):
        super().write_input(atoms, properties, system_changes)
        (Path(self.directory) / "slow.in").write_text(str(atoms.cell.lengths()[0]))

    def read_results(self):
        energy = float((Path(self.directory) / "slow.out").read_text())
        self.results = {"energy": energy, "forces": 0 * self.atoms.positions, "stress": np.zeros(6)}
"""


@pytest.fixture(name="slow")
def _slow(tmp_path, monkeypatch):
    name = f"slow_calculator_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = f"{sys.executable} {tmp_path / 'program.py'}"
    return TierConfig(calculator=f"{name}:Slow", calculator_kwargs={"command": command}, second_pass=None)


def test_two_processes_in_one_folder_keep_their_energies(slow, tmp_path, monkeypatch):
    lengths = [3.1, 3.2, 3.3, 3.4]
    cells = [Structure(Lattice.cubic(length), ["Cu"], [[0, 0, 0]]) for length in lengths]
    monkeypatch.setenv("FUSE_FLOWS_RELAX_WORKERS", "2")
    settings.cache_clear()
    own = Processes(2)  # those that other tests have started know neither the folder nor the module
    monkeypatch.setattr("fuse_flows.relax.processes._processes", lambda *_: own)
    results = relax_many(cells, slow, single=True)
    assert [result.reason for result in results] == [""] * 4
    assert [result.energy for result in results] == pytest.approx(lengths)
    assert len(list(tmp_path.glob("slow_*/slow.out"))) == 2
    assert not (tmp_path / "slow.out").exists()


def test_a_folder_that_was_asked_for_is_used(slow):
    kwargs = slow.calculator_kwargs
    assert str(os.getpid()) in str(make_calculator(slow).directory)
    assert make_calculator(slow.model_copy(update={"calculator_kwargs": kwargs | {"directory": "x"}})).directory == "x"


def test_a_program_that_is_not_there_is_no_fault_of_the_structure(slow):
    missing = slow.model_copy(update={"calculator_kwargs": {"command": "no_such_program < slow.in"}})
    with pytest.raises(ConfigError, match=r"Slow is started by 'no_such_program < slow.in', and 'no_such_program' is"):
        build_relaxer(missing)
    none = slow.model_copy(update={"calculator_kwargs": {}})
    with pytest.raises(ConfigError, match=r"Slow cannot be started on this machine .*ASE_CONFIG_PATH"):
        build_relaxer(none)


@pytest.mark.parametrize("name", ["cp2k:CP2K", "castep:Castep", "lammpsrun:LAMMPS", "nwchem:NWChem"])
def test_programs_of_ase_that_are_not_there_are_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^tiers.calculator: ase.calculators.{name} .*(is no|on this) "):
        build_relaxer(TierConfig(calculator=f"ase.calculators.{name}", calculator_kwargs={}))


def test_a_program_that_ends_late_is_named_too(tmp_path, monkeypatch):
    """ASE reads a thousand empty lines before it notices that CP2K has ended, or notices at once: it is a race."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess.Popen, "poll", lambda _: None)
    with pytest.raises(ConfigError, match=r"cp2k:CP2K cannot be made .*READY.* \(is its program on this machine\?\)"):
        build_relaxer(TierConfig(calculator="ase.calculators.cp2k:CP2K", calculator_kwargs={"label": "late"}))


def test_a_misspelt_calculator_of_ase_is_refused_on_submission():
    with pytest.raises(ConfigError, match=r"espresso.*has no attribute 'Espreso'; mend the path"):
        check_calculator(TierConfig(calculator="ase.calculators.espresso:Espreso"), ["Mg"])
    with pytest.raises(ConfigError, match="is no class of ASE calculators"):
        check_calculator(TierConfig(calculator="ase.calculators.espresso:EspressoProfile"), ["Mg"])
