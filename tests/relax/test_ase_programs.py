"""Programs behind calculators of ASE, by configuration: abinit, where Debian's package is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError
from fuse_flows.relax.ase_programs import noise_of
from fuse_flows.relax.calculators import check_calculator, make_calculator
from fuse_flows.relax.descent import BASIS_NOISE, NOISE

PSEUDO = Path("/usr/share/abinit/psp/Pseudodojo_nc_sr_04_pbe_standard_psp8")
SETTINGS = {"ecut": 410, "kpts": [4, 4, 4], "xc": "PBE", "pps": "psp8", "toldff": 1e-5, "chksymbreak": 0}
ABINIT = {
    "calculator": "ase.calculators.abinit:Abinit",
    "calculator_kwargs": SETTINGS,
    "queue": {"category": "abinit"},
}
RELAX = """
import json, sys
from pymatgen.core import Structure
from fuse_flows.config import TierConfig
from fuse_flows.relax.tiers import build_relaxer
tier, structure = TierConfig.model_validate_json(sys.argv[1]), Structure.from_str(sys.argv[2], "json")
result = build_relaxer(tier).relax(structure)
print(json.dumps([result.outcome.value, result.structure.volume, result.reason]))
"""


def test_a_program_without_configuration_is_named():
    """ASE reads its configuration once, and the suite's home has none."""
    for name in ("espresso:Espresso", "abinit:Abinit"):
        with pytest.raises(ConfigError, match=r"needs its section in ASE's configuration file \(ASE_CONFIG_PATH\)"):
            make_calculator(TierConfig(calculator=f"ase.calculators.{name}"))


def test_energies_of_plane_waves_may_contradict_the_stress():
    from ase.calculators.castep import Castep
    from ase.calculators.emt import EMT

    assert noise_of(Castep.__new__(Castep)) == BASIS_NOISE  # made in earnest, it asks for its program
    assert noise_of(EMT()) == NOISE


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("abinit") is None, reason="abinit is not installed; apt install abinit")
def test_silicon_with_abinit(tmp_path, monkeypatch):
    """PBE: 5.47 A. In a process of its own, for ASE reads its configuration when it is imported."""
    config = tmp_path / "config.ini"
    config.write_text(f"[abinit]\ncommand = {shutil.which('abinit')}\npp_paths = {PSEUDO}\n")
    monkeypatch.setenv("ASE_CONFIG_PATH", str(config))
    tier = TierConfig.model_validate({**ABINIT, "fmax": 0.05, "smax": 0.3, "max_steps": 15})
    check_calculator(tier, ["Si"])
    half = 5.55 / 2
    cell = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    silicon = Structure(cell, ["Si", "Si"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    command = [sys.executable, "-c", RELAX, tier.model_dump_json(), silicon.to_json()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome, volume, reason = json.loads(done.stdout.splitlines()[-1])
    assert (outcome, reason) == ("CONVERGED", "")
    assert (4 * volume) ** (1 / 3) == pytest.approx(5.47, abs=0.02)
