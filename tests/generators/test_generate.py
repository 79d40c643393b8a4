"""Generation as a whole, with pair potentials as the model."""

import json

import numpy as np
import pytest

pytest.importorskip("pyxtal")

from fuse_flows.config import GenerationConfig
from fuse_flows.errors import ConfigError
from fuse_flows.generators.base import Cell, EnergyModel
from fuse_flows.generators.filters import CONTACT
from fuse_flows.generators.generate import NO_ENERGY, Generation, generate
from fuse_flows.generators.pair_model import PairEnergyModel
from fuse_flows.generators.pool import median_volume, pool_digest
from fuse_flows.generators.twins import TwinFinder
from fuse_flows.potentials.evaluator import evaluate

COUNTS = {"Co": 1, "As": 2}
MODEL = PairEnergyModel()


def settings(**changes):
    return GenerationConfig(**{"candidates": 60, "batch_size": 20, "keep": 15, **changes})


@pytest.mark.parametrize("optimiser", ["random", "pso", "tpe", "lineages"])
def test_it_keeps_the_lowest_different_structures(optimiser):
    seen = []
    made = generate(COUNTS, 2, settings(optimiser=optimiser, candidates=300), MODEL, 1, lambda *pair: seen.append(pair))
    assert made.evaluated == 300
    assert seen[-1] == (300, 300)
    energies = [member.energy_per_atom for member in made.members]
    assert energies == sorted(energies)
    assert len({member.name for member in made.members}) == len(made.members) == len(made.space_groups) == 15
    assert all(member.name.startswith("Z2-") for member in made.members)
    assert made.attempted >= made.evaluated + made.rejected[CONTACT]
    assert {"ask", "separate", "decode", "filter", "model", "tell", "select"} == set(made.seconds)
    for member in made.members:
        structure = member.to_structure()
        assert structure.composition.as_dict() == {"Co": 2, "As": 4}
    exact = MODEL.energies([_cell(member) for member in made.members])
    assert exact == pytest.approx(energies, abs=1e-5)


def _cell(member):
    return Cell(np.array(member.lattice), np.array(member.numbers), np.array(member.frac_coords))


def test_few_of_the_kept_structures_match():
    made = generate(COUNTS, 2, settings(candidates=200, keep=30), MODEL, 3)
    twins = TwinFinder()
    assert sum(twins.has_twin(member.to_structure()) for member in made.members) <= 6


@pytest.mark.parametrize("optimiser", ["random", "pso", "tpe", "lineages"])
def test_the_same_seed_makes_the_same(optimiser):
    one, two, other = (generate(COUNTS, 2, settings(optimiser=optimiser), MODEL, seed) for seed in (1, 1, 2))
    assert pool_digest(one.members) == pool_digest(two.members)
    assert one.rejected == two.rejected
    assert pool_digest(one.members) != pool_digest(other.members)


@pytest.mark.parametrize("optimiser", ["random", "pso", "tpe", "lineages"])
def test_stopped_and_continued_is_the_same(optimiser):
    chosen = settings(optimiser=optimiser, candidates=100)
    whole = generate(COUNTS, 2, chosen, MODEL, 4)
    first = Generation(COUNTS, 2, chosen, MODEL, 4)
    first.step()
    first.step()
    second = Generation(COUNTS, 2, chosen, MODEL, 4)
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    while not second.finished:
        second.step()
    assert second.result().members == whole.members
    assert second.result().rejected == whole.rejected


def test_without_a_combination_there_is_a_reason():
    made = generate({"Mg": 1, "O": 3}, 1, settings(space_groups=(230, 230)), MODEL, 0)
    assert not made.members
    assert "no Wyckoff combination" in made.reason


def test_when_all_are_refused_there_is_a_reason(monkeypatch):
    monkeypatch.setattr("fuse_flows.generators.generate._FRUITLESS", 2000)
    made = generate(COUNTS, 2, settings(slab=1e-3), MODEL, 0)
    assert not made.members
    assert not made.evaluated
    assert "empty slab" in made.reason


def test_elements_that_the_model_does_not_know_are_named():
    with pytest.raises(ConfigError, match="Rn"):
        generate({"Rn": 1, "O": 2}, 1, settings(), MODEL, 0)


class Blind:
    """A model that knows no energy for every other cell."""

    name, version = "blind", "1"

    def check(self, symbols):
        assert symbols

    def energies(self, cells):
        return np.where(np.arange(len(cells)) % 2 == 0, np.nan, 1.0)


def test_cells_without_energy_are_counted_and_left_out():
    assert isinstance(Blind(), EnergyModel)
    made = generate(COUNTS, 1, settings(), Blind(), 0)
    assert made.rejected[NO_ENERGY] == 30
    assert {member.energy_per_atom for member in made.members} == {1.0}


def test_pair_model_is_the_sum_of_the_evaluator():
    assert isinstance(MODEL, EnergyModel)
    made = generate(COUNTS, 2, settings(), MODEL, 5)
    tables = MODEL._tables(("As", "Co"))
    for member in made.members[:5]:
        structure = member.to_structure()
        symbols = [site.specie.symbol for site in structure]
        energy = evaluate(tables, symbols, structure.lattice.matrix, structure.cart_coords).energy / len(structure)
        assert member.energy_per_atom == pytest.approx(energy, abs=1e-5)
    assert median_volume(made.members) > 5


def test_pair_model_takes_cells_of_any_size():
    small = Cell(np.eye(3) * 3, np.array([27]), np.zeros((1, 3)))
    large = Cell(np.diag([3.0, 3, 6]), np.array([27, 27]), np.array([[0, 0, 0], [0, 0, 0.5]]))
    energies = MODEL.energies([small, large, small])
    assert energies == pytest.approx(np.full(3, energies[0]))
