from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest
from ase.units import GPa
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax import calculators, tiers
from fuse_flows.relax.calculators import cutoff, make_calculator
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.tiers import build_relaxer, relax_through

pytestmark = pytest.mark.chgnet
pytest.importorskip("chgnet")

TIER = TierConfig()


def stock(structure, capsys):
    from chgnet.model.dynamics import CHGNetCalculator

    atoms = structure.to_ase_atoms()
    atoms.calc = CHGNetCalculator(use_device="cpu")
    values = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
    capsys.readouterr()
    return values


@pytest.mark.parametrize("which", ["rocksalt", "perovskite", "one atom"])
def test_one_gradient_equals_the_stock_calculator(which, rocksalt, perovskite, capsys):
    if which == "one atom":
        structure = Structure(Lattice.from_parameters(2.9, 3.1, 3.3, 80, 95, 100), ["Mg"], [[0, 0, 0]])
    else:
        structure = rocksalt() if which == "rocksalt" else perovskite(3.8).perturb(0.15, seed=2)
    atoms = structure.to_ase_atoms()
    atoms.calc = make_calculator(TIER)
    energy, forces, stress = stock(structure, capsys)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-4)
    np.testing.assert_allclose(atoms.get_stress(voigt=False) / GPa, stress / GPa, atol=1e-4)


def test_left_handed_cell_has_the_same_stress(rocksalt):
    structure = rocksalt().apply_strain([0.02, 0.0, -0.01])
    mirrored = Structure(
        Lattice(structure.lattice.matrix[[1, 0, 2]]), structure.species, structure.frac_coords[:, [1, 0, 2]]
    )
    values = []
    for one in (structure, mirrored):
        atoms = one.to_ase_atoms()
        atoms.calc = make_calculator(TIER)
        values.append(atoms.get_stress())
    np.testing.assert_allclose(values[0], values[1], atol=1e-5)


def test_rocksalt_relaxes_silently(rocksalt, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = build_relaxer(TIER).relax(rocksalt(4.35))
    assert result.outcome is Outcome.CONVERGED
    assert result.structure.volume == pytest.approx(4.26**3, rel=0.01)
    assert result.energy_per_atom == pytest.approx(-6.314, abs=0.01)
    assert result.fmax <= TIER.fmax
    assert result.smax <= TIER.smax
    assert (result.engine, result.engine_version) == ("chgnet", version("chgnet"))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert list(tmp_path.iterdir()) == []


def test_one_atom_cell():
    result = build_relaxer(TIER).relax(Structure(Lattice.rhombohedral(2.3, 60), ["Mg"], [[0, 0, 0]]))
    assert result.outcome is Outcome.CONVERGED
    assert result.energy_per_atom == pytest.approx(-1.5, abs=0.2)


def test_isolated_atoms_by_the_cutoff_of_the_model():
    assert cutoff(make_calculator(TIER)) == pytest.approx(6.0)
    structure = Structure(Lattice.orthorhombic(4, 4, 30), ["Mg", "O", "Mg"], [[0, 0, 0], [0.5, 0.5, 0], [0, 0, 0.5]])
    assert build_relaxer(TIER).relax(structure).outcome is not Outcome.ISOLATED_ATOMS
    structure = Structure(Lattice.orthorhombic(14, 14, 14), ["Mg", "O", "Mg"], [[0, 0, 0], [0.1, 0, 0], [0.5, 0, 0.5]])
    result = build_relaxer(TIER).relax(structure)
    assert result.outcome is Outcome.ISOLATED_ATOMS
    assert "1 atoms" in result.reason


def test_model_is_loaded_once(monkeypatch, rocksalt):
    from chgnet.model import CHGNet

    from fuse_flows.relax.chgnet import load_model

    for cached in (load_model, calculators._make, tiers._build):
        cached.cache_clear()
    loads = []
    original = CHGNet.load
    monkeypatch.setattr(CHGNet, "load", lambda **kwargs: loads.append(kwargs) or original(**kwargs))
    first = load_model("0.3.0", "cpu")
    pair = [TierConfig(max_steps=1), TierConfig(max_steps=2, calculator="CHGNet")]
    relax_through(rocksalt(), pair)
    assert make_calculator(pair[0]).model is make_calculator(pair[1]).model is first
    assert len(loads) == 1


def test_same_input_same_output_bitwise(rocksalt):
    tier = TierConfig(max_steps=5)
    first, second = (build_relaxer(tier).relax(rocksalt()) for _ in range(2))
    assert first.energy == second.energy
    assert (first.structure.frac_coords == second.structure.frac_coords).all()
