"""What every potential must do, whoever wrote it: the same questions to each adapter.

A new adapter is one more entry of ``ADAPTERS``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.errors import FuseFlowsError
from fuse_flows.relax.base import Relaxer
from fuse_flows.relax.calculators import check_calculator, make_calculator
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.spp_tier import spp_options, spp_tables
from fuse_flows.relax.tiers import build_relaxer, single_point


@dataclass(frozen=True)
class Adapter:
    """One potential, a crystal for it, and how well its numbers can be differentiated."""

    calculator: str
    crystal: tuple[str, float, tuple[str, ...]]
    kwargs: dict[str, Any] = field(default_factory=dict)
    unknown: str | None = None
    step: float = 1e-4
    tolerance: float = 1e-5

    @property
    def tier(self) -> TierConfig:
        """A tier that makes few steps."""
        return TierConfig(calculator=self.calculator, calculator_kwargs=self.kwargs, max_steps=8)

    def structure(self, rattle: float = 0.1) -> Structure:
        """Eight atoms, or four, rattled and strained; the lattice is a transposed view, as pymatgen leaves it."""
        group, a, elements = self.crystal
        coords = [[0, 0, 0], [0.5, 0.5, 0.5]][: len(elements)]
        crystal = Structure.from_spacegroup(group, Lattice.cubic(a), list(elements), coords)
        crystal.apply_strain([0.01, -0.02, 0.03])
        return crystal.perturb(rattle, seed=3) if rattle else crystal


ADAPTERS = {
    "chgnet": Adapter("chgnet", ("Fm-3m", 4.25, ("Mg", "O")), unknown="Cm", step=0.01, tolerance=5e-3),
    "emt": Adapter("emt", ("Fm-3m", 3.65, ("Cu",)), unknown="U"),
    "lj": Adapter("lj", ("Fm-3m", 1.65, ("Ar",)), {"sigma": 1.0, "epsilon": 0.5, "rc": 4.0, "smooth": True}),
    "buckingham": Adapter("buckingham", ("Fm-3m", 5.1, ("Sr", "O")), unknown="U"),
    "ewald": Adapter("buckingham", ("Fm-3m", 5.1, ("Sr", "O")), {"coulomb": "ewald"}, unknown="U"),
    "spp": Adapter("spp", ("Fm-3m", 4.3, ("Mg", "O")), unknown="Cm"),
    "torchsim": Adapter(  # a cut-off between two shells, where the energy jumps
        "torchsim",
        ("Fm-3m", 5.2, ("Ar",)),
        {"model": "lennard_jones", "sigma": 3.4, "epsilon": 0.2, "cutoff": 4.4},
    ),
    "path": Adapter(
        "ase.calculators.morse:MorsePotential",
        ("Fm-3m", 3.7, ("Ar",)),
        {"r0": 2.6, "rcut1": 1.6, "rcut2": 2.2, "rho0": 4.0},
    ),
}


PACKAGES = {"chgnet": "chgnet", "torchsim": "torch_sim"}


@pytest.fixture(
    name="adapter",
    params=[pytest.param(name, marks=pytest.mark.chgnet if name == "chgnet" else ()) for name in ADAPTERS],
)
def _adapter(request):
    needs_package(request.param)
    return ADAPTERS[request.param]


def needs_package(name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])


def atoms_of(adapter, structure):
    """Atoms with the calculator of an adapter."""
    atoms = structure.to_ase_atoms()
    if adapter.calculator == "spp":
        from fuse_flows.potentials.calculator import PairCalculator

        atoms.calc = PairCalculator(spp_tables(spp_options(adapter.tier), set(atoms.get_chemical_symbols())))
    else:
        atoms.calc = make_calculator(adapter.tier)
    return atoms


def same(one, two):
    assert (one.outcome, one.energy, one.steps) == (two.outcome, two.energy, two.steps)
    assert (one.structure.lattice.matrix == two.structure.lattice.matrix).all()
    assert (one.structure.frac_coords == two.structure.frac_coords).all()


def test_it_is_a_relaxer_with_a_name_and_a_version(adapter):
    relaxer = build_relaxer(adapter.tier)
    assert isinstance(relaxer, Relaxer)
    assert relaxer.name == adapter.calculator
    assert relaxer.version


def test_forces_and_stress_are_derivatives_of_the_energy(adapter):
    atoms = atoms_of(adapter, adapter.structure())
    rng = np.random.default_rng(5)
    moves = rng.normal(size=atoms.positions.shape)
    strain = rng.normal(size=(3, 3))
    strain = 0.1 * (strain + strain.T)
    cell, positions, h = atoms.cell.array.copy(), atoms.positions.copy(), adapter.step

    def slope(moves, strain):
        energies = []
        for sign in (1, -1):
            stretch = np.eye(3) + sign * h * strain
            atoms.set_cell(cell @ stretch)
            atoms.positions = (positions + sign * h * moves) @ stretch
            energies.append(atoms.get_potential_energy())
        atoms.set_cell(cell)
        atoms.positions = positions
        return (energies[0] - energies[1]) / (2 * h)

    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    scale = np.linalg.norm(forces) * np.linalg.norm(moves)
    assert slope(moves, 0 * strain) == pytest.approx(-(forces * moves).sum(), abs=adapter.tolerance * scale)
    work = atoms.get_volume() * stress
    scale = np.linalg.norm(work) * np.linalg.norm(strain)
    assert slope(0 * moves, strain) == pytest.approx((work * strain).sum(), abs=adapter.tolerance * scale)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-3)


def test_relaxer_and_calculator_agree(adapter):
    structure = adapter.structure()
    atoms, result = atoms_of(adapter, structure), single_point(structure, adapter.tier)
    assert result.outcome is Outcome.NOT_CONVERGED
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    assert result.fmax == pytest.approx(np.linalg.norm(atoms.get_forces(), axis=1).max(), rel=1e-3, abs=1e-4)


def test_a_relaxation_goes_downhill_and_keeps_the_input(adapter):
    structure = adapter.structure()
    kept = structure.copy()
    result = build_relaxer(adapter.tier).relax(structure)
    assert result.outcome in {Outcome.CONVERGED, Outcome.NOT_CONVERGED}
    assert result.energy < single_point(structure, adapter.tier).energy
    assert result.steps <= 8
    assert structure == kept


def test_energy_is_extensive(adapter):
    structure = adapter.structure()
    once = single_point(structure, adapter.tier).energy_per_atom
    assert single_point(structure * (2, 1, 1), adapter.tier).energy_per_atom == pytest.approx(once, abs=2e-5)


def test_order_and_images_of_atoms_do_not_matter(adapter):
    structure = adapter.structure()
    order = np.random.default_rng(0).permutation(len(structure))
    other = Structure(
        structure.lattice,
        [structure.species[k] for k in order],
        structure.frac_coords[order] + np.array([0.3, 1.2, -2.1]),
    )
    one, two = (single_point(each, adapter.tier) for each in (structure, other))
    assert two.energy == pytest.approx(one.energy, abs=1e-4)
    assert two.fmax == pytest.approx(one.fmax, abs=1e-3)
    assert two.smax == pytest.approx(one.smax, abs=1e-2)


def test_one_atom_cell(adapter):
    primitive = Structure(Lattice.rhombohedral(2.7, 65), [adapter.crystal[2][0]], [[0.1, 0.2, 0.3]])
    result = build_relaxer(adapter.tier).relax(primitive)
    first = single_point(primitive, adapter.tier)
    assert first.fmax == pytest.approx(0, abs=1e-3)
    assert np.isfinite(first.energy)
    assert result.outcome in {Outcome.CONVERGED, Outcome.NOT_CONVERGED, Outcome.EXPLODED}  # an ion alone collapses
    assert result.energy is None or result.energy <= first.energy + 1e-6


def test_isolated_atom(adapter):
    """An atom without neighbours has no meaning for a potential that cannot see beyond its cut-off."""
    alone = Structure(Lattice.cubic(40.0), [adapter.crystal[2][0]], [[0, 0, 0]])
    result = build_relaxer(adapter.tier).relax(alone)
    if adapter.calculator in {"emt", "ase.calculators.morse:MorsePotential"}:  # do not tell how far they see
        assert result.outcome in {Outcome.CONVERGED, Outcome.ISOLATED_ATOMS}
    else:
        assert result.outcome is Outcome.ISOLATED_ATOMS
        assert result.energy is None


def test_an_element_it_does_not_know(adapter):
    if adapter.unknown is None:
        pytest.skip("every element is alike to it")
    structure = adapter.structure()
    structure.replace(0, adapter.unknown)
    with pytest.raises(FuseFlowsError, match=adapter.unknown):
        check_calculator(adapter.tier, {site.specie.symbol for site in structure})
    result = build_relaxer(adapter.tier).relax(structure)
    assert result.outcome is Outcome.ENGINE_ERROR
    assert result.energy is None
    assert result.reason


FLAT = {
    "hardly any volume": Lattice([[4, 0, 0], [0, 4, 0], [2, 2, 1e-3]]),
    "no volume": Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 0]]),
    "a sheet": Lattice([[20, 0, 0], [0, 20, 0], [0, 0, 1.5]]),
    "a needle": Lattice([[1.5, 0, 0], [0, 1.5, 0], [0, 0, 40]]),
    "very oblique": Lattice([[4, 0, 0], [39, 4, 0], [1, 2, 4]]),
    "left-handed": Lattice([[0, 4, 0], [4, 0, 0], [0, 0, 4]]),
    "not a number": Lattice([[4, 0, 0], [0, np.nan, 0], [0, 0, 4]]),
}


@pytest.mark.parametrize("shape", FLAT)
def test_it_never_raises_whatever_the_cell(adapter, shape):
    elements = [adapter.crystal[2][k % len(adapter.crystal[2])] for k in range(2)]
    result = build_relaxer(adapter.tier).relax(Structure(FLAT[shape], elements, [[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert isinstance(result.outcome, Outcome)
    assert (result.energy is None) == (not result.outcome.has_energy)
    assert result.outcome.is_success or result.reason
    assert result.energy is None or np.isfinite(result.energy)
    if "volume" in shape or "number" in shape:
        assert result.energy is None


def test_it_never_raises_whatever_the_atoms(adapter):
    element = adapter.crystal[2][0]
    relaxer = build_relaxer(adapter.tier)
    cubic = Lattice.cubic(3.2)
    refused = {
        Outcome.TOO_CLOSE: Structure(cubic, [element] * 2, [[0, 0, 0], [0, 0, 0]]),
        Outcome.ENGINE_ERROR: Structure(cubic, [{element: 0.5}], [[0, 0, 0]]),
    }
    for outcome, structure in refused.items():
        result = relaxer.relax(structure)
        assert result.outcome is outcome
        assert result.energy is None
    lost = relaxer.relax(Structure(cubic, [element] * 2, [[0, 0, 0], [np.nan, 0.5, 0.5]]))
    assert lost.energy is None
    assert not lost.outcome.is_success


def test_a_batch_equals_one_by_one(adapter):
    relaxer = build_relaxer(adapter.tier)
    close = Structure(Lattice.cubic(4.2), [adapter.crystal[2][0]] * 2, [[0, 0, 0], [0.02, 0, 0]])
    structures = [adapter.structure(), close, adapter.structure(0.2), adapter.structure(0.0)]
    results = relaxer.relax_batch(structures)
    assert results[1].outcome is Outcome.TOO_CLOSE
    for structure, result in zip(structures, results, strict=True):
        same(relaxer.relax(structure), result)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name not in {"chgnet", "path"}])
def test_threads_and_processes_equal_one_by_one(name):
    needs_package(name)
    relaxer = build_relaxer(ADAPTERS[name].tier)
    structures = [ADAPTERS[name].structure(rattle) for rattle in (0.0, 0.1, 0.2)]
    for structure, result in zip(structures, relaxer.relax_batch(structures, 2), strict=True):
        same(relaxer.relax(structure), result)
