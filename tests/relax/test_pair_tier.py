from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.errors import ConfigError
from fuse_flows.potentials.calculator import PairCalculator
from fuse_flows.potentials.evaluator import evaluate
from fuse_flows.potentials.tables import PairTables, taper
from fuse_flows.relax.ase_tier import AseRelaxer
from fuse_flows.relax.base import Relaxer
from fuse_flows.relax.buckingham import BuckinghamCalculator
from fuse_flows.relax.pair_tier import PairRelaxer
from fuse_flows.relax.result import Outcome
from fuse_flows.relax.rigid_ions import CHARGES, PAIRS, pair_tables
from fuse_flows.relax.tiers import build_relaxer, single_point

TIGHT = TierConfig(calculator="buckingham", fmax=0.002, smax=0.02)


@pytest.fixture(scope="module")
def tables():
    return pair_tables(["Sr", "Ti", "O"])


@pytest.fixture
def crystals(perovskite):
    structures = []
    for seed, size in enumerate([(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 2, 1), (1, 1, 2), (2, 2, 2)]):
        structure = perovskite(4.0) * size
        structures.append(structure.perturb(0.15, seed=seed))
    return structures


def test_it_is_a_relaxer(tables):
    assert isinstance(PairRelaxer(TIGHT, tables), Relaxer)
    assert isinstance(build_relaxer(TIGHT), PairRelaxer)


def test_it_ends_where_ase_ends(perovskite):
    structure = perovskite(4.15).perturb(0.1, seed=1)
    ours = build_relaxer(TIGHT).relax(structure)
    theirs = AseRelaxer(TIGHT.model_copy(update={"optimizer": "BFGS"})).relax(structure)
    assert ours.outcome is theirs.outcome is Outcome.CONVERGED
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-4)
    assert ours.structure.volume == pytest.approx(theirs.structure.volume, rel=1e-3)


def test_the_numbers_belong_to_the_structure(tables, crystals):
    for result in PairRelaxer(TIGHT, tables).relax_batch(crystals):
        assert result.outcome is Outcome.CONVERGED
        structure = result.structure
        symbols = [site.specie.symbol for site in structure]
        numbers = evaluate(tables, symbols, structure.lattice.matrix, structure.cart_coords)
        assert numbers.energy == pytest.approx(result.energy, abs=1e-8)
        assert np.linalg.norm(numbers.forces, axis=1).max() == pytest.approx(result.fmax, abs=1e-6)
        assert np.abs(numbers.stress).max() * 160.2176634 == pytest.approx(result.smax, abs=1e-5)
        assert result.fmax <= TIGHT.fmax
        assert result.smax <= TIGHT.smax


def test_batches_have_the_results_of_single_structures(tables, crystals):
    relaxer = PairRelaxer(TIGHT, tables)
    alone = [relaxer.relax(structure) for structure in crystals]
    for threads in (1, 2, 4):
        for one, other in zip(alone, relaxer.relax_batch(crystals, threads=threads), strict=True):
            assert one.energy == other.energy
            assert one.steps == other.steps
            np.testing.assert_array_equal(one.structure.lattice.matrix, other.structure.lattice.matrix)
            np.testing.assert_array_equal(one.structure.frac_coords, other.structure.frac_coords)
    assert relaxer.relax_batch([], threads=2) == []


def test_gnorm_is_another_test_of_convergence(tables, crystals):
    rough = PairRelaxer(TIGHT, tables, gnorm=0.1)
    for structure in crystals:
        result, fine = rough.relax(structure), PairRelaxer(TIGHT, tables).relax(structure)
        numbers = evaluate(
            tables,
            [site.specie.symbol for site in result.structure],
            result.structure.lattice.matrix,
            result.structure.cart_coords,
        )
        virial = (numbers.stress * result.structure.volume)[np.triu_indices(3)]
        everything = np.concatenate([numbers.forces.ravel(), virial])
        assert np.sqrt((everything**2).mean()) <= 0.1 + 1e-9
        assert result.steps < fine.steps


def test_fixed_cells_stay(tables, crystals):
    result = PairRelaxer(TIGHT.model_copy(update={"relax_cell": False}), tables).relax(crystals[1])
    assert result.outcome is Outcome.CONVERGED
    np.testing.assert_array_equal(result.structure.lattice.matrix, crystals[1].lattice.matrix)
    assert result.fmax <= TIGHT.fmax


def test_out_of_steps_keeps_the_energy(tables, crystals):
    result = PairRelaxer(TIGHT.model_copy(update={"max_steps": 3}), tables).relax(crystals[0])
    assert result.outcome is Outcome.NOT_CONVERGED
    assert result.steps == 3
    assert "after 3 steps" in result.reason
    assert result.energy is not None


def test_out_of_time(tables, crystals):
    result = PairRelaxer(TIGHT.model_copy(update={"time_limit": 1e-9}), tables).relax(crystals[0])
    assert result.outcome is Outcome.TIMED_OUT
    assert result.energy is None
    assert result.structure == crystals[0]


def test_single_points_do_not_move(perovskite):
    structure = perovskite(4.1)
    result = single_point(structure, TIGHT)
    assert result.outcome is Outcome.NOT_CONVERGED
    assert result.steps == 0
    np.testing.assert_allclose(result.structure.frac_coords, structure.frac_coords, atol=1e-14)
    atoms = structure.to_ase_atoms()
    atoms.calc = BuckinghamCalculator()
    assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)


def bad_structures():
    cubic = Lattice.cubic(4.0)
    return {
        "coincident": (Structure(cubic, ["Sr", "O"], [[0, 0, 0], [0, 0, 0]]), Outcome.TOO_CLOSE, "contact of 0.00 A"),
        "contact": (Structure(cubic, ["Sr", "O"], [[0, 0, 0], [0.1, 0, 0]]), Outcome.TOO_CLOSE, "contact of 0.40 A"),
        "image": (Structure(Lattice.orthorhombic(5, 5, 0.5), ["O"], [[0, 0, 0]]), Outcome.TOO_CLOSE, "0.50 A"),
        "no volume": (
            Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 1e-9]]), ["O"], [[0, 0, 0]]),
            Outcome.TOO_CLOSE,
            "contact of 0.00 A",
        ),
        "isolated": (
            Structure(Lattice.cubic(60), ["Sr", "O", "O"], [[0, 0, 0], [0.04, 0, 0], [0.5, 0.5, 0.5]]),
            Outcome.ISOLATED_ATOMS,
            "1 atoms without a neighbour within 10 A",
        ),
        "one atom, isolated": (Structure(Lattice.cubic(30), ["O"], [[0, 0, 0]]), Outcome.ISOLATED_ATOMS, "1 atoms"),
        "unknown": (Structure(cubic, ["Xe"], [[0, 0, 0]]), Outcome.ENGINE_ERROR, "Xe"),
        "disordered": (Structure(cubic, [{"Sr": 0.5, "Ti": 0.5}], [[0, 0, 0]]), Outcome.ENGINE_ERROR, "partly"),
    }


@pytest.mark.parametrize("name", bad_structures())
def test_bad_structures_are_outcomes(name):
    structure, outcome, reason = bad_structures()[name]
    result = build_relaxer(TIGHT).relax(structure)
    assert result.outcome is outcome
    assert reason in result.reason
    assert result.energy is None
    assert result.structure == structure


def repulsive(r, strength):
    return taper(r, strength / r)


def test_a_gas_explodes():
    r = np.linspace(0.5, 11, 500)
    relaxer = PairRelaxer(TIGHT, PairTables.from_values(r, {("O", "O"): repulsive(r, 30.0)}))
    result = relaxer.relax(Structure(Lattice.cubic(3.0), ["O"], [[0, 0, 0]]))
    assert result.outcome is Outcome.EXPLODED
    assert "volume changed" in result.reason
    assert result.energy is None
    assert result.structure.volume <= 27 * TIGHT.max_volume_change


def test_a_collapse_is_too_close_or_exploded():
    r = np.linspace(0.5, 11, 500)
    relaxer = PairRelaxer(TIGHT, PairTables.from_values(r, {("O", "O"): repulsive(r, -30.0)}))
    result = relaxer.relax(Structure(Lattice.cubic(3.0), ["O", "O"], [[0, 0, 0], [0.5, 0.45, 0.4]]))
    assert result.outcome in {Outcome.TOO_CLOSE, Outcome.EXPLODED}
    assert result.energy is None


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_random_cells_end_in_a_value(tables, seed):
    rng = np.random.default_rng(seed)
    lattice = Lattice(rng.normal(0, 1, (3, 3)) * rng.uniform(2, 8, 3)[:, None])
    structure = Structure(lattice, ["Sr", "Ti", "O", "O", "O"], rng.uniform(-1, 2, (5, 3)))
    result = PairRelaxer(TIGHT.model_copy(update={"max_steps": 40}), tables).relax(structure)
    if result.outcome in {Outcome.CONVERGED, Outcome.NOT_CONVERGED}:
        assert np.isfinite(result.energy)
        assert result.structure.is_valid(TIGHT.min_distance)
        assert 0.2 <= result.structure.volume / structure.volume <= 5.0
    else:
        assert result.energy is None
        assert result.reason


def test_sources_are_asked_once_for_each_set_of_elements(crystals):
    asked = []

    def source(symbols):
        asked.append(symbols)
        return pair_tables(symbols)

    relaxer = PairRelaxer(TIGHT, source)
    relaxer.relax_batch(crystals, threads=2)
    assert asked == [("O", "Sr", "Ti")]


def test_tables_agree_with_the_analytic_potentials():
    elements = sorted(CHARGES)
    tables, analytic = pair_tables(elements), BuckinghamCalculator()
    r = np.linspace(0.9, 9.99, 700)
    for one, two in itertools.combinations_with_replacement(elements, 2):
        exact = []
        for distance in r:
            atoms = Atoms([one, two], positions=[[0, 0, 0], [distance, 0, 0]], cell=40 * np.eye(3), pbc=True)
            atoms.calc = analytic
            exact.append(atoms.get_potential_energy())
        own = tables.self_energies[tables.kinds((one, two))].sum()
        np.testing.assert_allclose(tables.evaluate(one, two, r)[0] + own, exact, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_crystals_agree_with_the_analytic_calculator(seed):
    rng = np.random.default_rng(seed)
    cell = 4.2 * np.eye(3) + rng.normal(0.0, 0.3, (3, 3))
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = Atoms("SrTiO3", scaled_positions=coords, cell=cell, pbc=True)
    atoms.rattle(0.1, seed=seed)
    copy = atoms.copy()
    atoms.calc, copy.calc = BuckinghamCalculator(), PairCalculator(pair_tables(["Sr", "Ti", "O"]))
    assert copy.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(copy.get_forces(), atoms.get_forces(), atol=1e-6)
    np.testing.assert_allclose(copy.get_stress(), atoms.get_stress(), atol=1e-7)


def test_charges_that_lack_are_named():
    with pytest.raises(ConfigError, match="no charge for Mg"):
        pair_tables(["Mg", "O"])
    assert pair_tables(["Mg", "O"], charges={"Mg": 2, "O": -2}, pairs={"O-O": PAIRS["O-O"]}).symbols == ("Mg", "O")
