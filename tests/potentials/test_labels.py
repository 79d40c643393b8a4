from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fuse_flows.errors import ConfigError
from fuse_flows.potentials import splines
from fuse_flows.potentials.correction import NormalEquations, correct
from fuse_flows.potentials.derivation import InversionSettings
from fuse_flows.potentials.evaluator import evaluate
from fuse_flows.potentials.labelled import LabelSettings, joined, labelled
from fuse_flows.potentials.labels import LabelledCells, load_labels
from fuse_flows.potentials.relatives import relatives_of
from fuse_flows.potentials.restoring import RestoringSettings
from fuse_flows.potentials.sharing import shared_parts
from fuse_flows.potentials.statistics import channel
from fuse_flows.potentials.tables import PairTables, taper

SYMBOLS = ("Cl", "K", "Na")
PAIRS = (("Cl", "Cl"), ("Cl", "Na"), ("Na", "Na"))


def morse(pair, r):
    """Wells at the usual distances of alkali halides, eV."""
    depth, place = (0.4, 2.8) if pair == ("Cl", "Na") else (0.05, 4.2)
    return depth * ((1 - np.exp(-1.5 * (r - place))) ** 2 - 1)


def wells():
    """The same as tables."""
    r = np.linspace(0.5, 11, 421)
    return PairTables.from_values(r, {pair: taper(r, morse(pair, r)) for pair in PAIRS})


def random_cells(count, seed=0):
    """Cells of Na2Cl2 with the forces and virials of the wells."""
    tables, rng, rows = wells(), np.random.default_rng(seed), []
    while len(rows) < count:
        cell, frac = np.eye(3) * 5.2 + rng.normal(size=(3, 3)) * 0.3, rng.random((4, 3))
        numbers = evaluate(tables, ["Na", "Na", "Cl", "Cl"], cell, frac @ cell)
        if numbers.shortest > 2.0:
            virial = numbers.stress * abs(np.linalg.det(cell))
            rows.append((len(rows), ["Na", "Na", "Cl", "Cl"], cell, frac, numbers.energy, numbers.forces, virial))
    return LabelledCells.of(rows, about="wells")


def test_a_file_keeps_cells_to_its_precision(tmp_path):
    cells = random_cells(5)
    again = load_labels(cells.save(tmp_path / "labels.npz"))
    assert again.about == "wells"
    np.testing.assert_array_equal(again.offsets, cells.offsets)
    np.testing.assert_array_equal(again.numbers, cells.numbers)
    np.testing.assert_allclose(again.cells, cells.cells, rtol=1e-6)
    np.testing.assert_allclose((again.frac - cells.frac + 0.5) % 1.0, 0.5, atol=1 / 65536)
    np.testing.assert_allclose(again.forces, cells.forces, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(again.virials, cells.virials, rtol=1e-3, atol=1e-6)


def test_a_file_that_is_none_is_named(tmp_path):
    file = tmp_path / "labels.npz"
    for write in (lambda: None, lambda: file.write_text("no"), lambda: np.savez(file, sizes=np.ones(2))):
        write()
        with pytest.raises(ConfigError, match=r"labels\.npz holds no labelled cells"):
            load_labels(file)


def test_the_potentials_behind_the_labels_solve_the_equations():
    problem = labelled(random_cells(6), SYMBOLS, LabelSettings())
    true = np.zeros((12, splines.COEFFICIENTS))
    r = np.linspace(0.5, 11, 800)
    for one, two in PAIRS:
        true[channel(SYMBOLS.index(one), SYMBOLS.index(two), 0, 3)] = splines.fit(r, morse((one, two), r))
    normal = NormalEquations(problem, threads=1)
    assert normal(true, 1.0)[0] < 0.001 * normal(np.zeros_like(true), 1.0)[0]


def test_a_fit_follows_cells_it_has_not_seen():
    seen, unseen = (labelled(random_cells(n, seed), SYMBOLS, LabelSettings()) for n, seed in ((60, 1), (20, 2)))
    first = np.zeros((12, splines.COEFFICIENTS))
    settings = RestoringSettings(ridge=1e-3, stiffness=1e-2, iterations=40)
    followed = correct(first, seen, settings, threads=1)
    normal = NormalEquations(unseen, threads=1)
    assert normal(followed, 1.0)[0] < 0.3 * normal(first, 1.0)[0]


def test_cells_of_unknown_elements_do_not_count():
    problem = labelled(random_cells(3), ("Cl", "K"), LabelSettings())
    assert not problem.force_scales.any()
    assert not problem.virial_scales.any()
    both = joined(
        labelled(random_cells(3), SYMBOLS, LabelSettings()), labelled(random_cells(2), SYMBOLS, LabelSettings())
    )
    assert len(both.cells) == 5
    assert both.offsets.tolist() == [0, 4, 8, 12, 16, 20]


@pytest.fixture(scope="module")
def parts():
    return shared_parts(relatives_of(SYMBOLS, InversionSettings()), (0, 2, 3), (1.0, 2.0, 3.0, 4.0))


def test_sharing_and_its_transpose_belong_together(parts):
    rng = np.random.default_rng(0)
    unknown, gradient = rng.normal(size=(4, 12, 73)), rng.normal(size=(12, 73))
    one = float((parts.apply(unknown) * gradient).sum())
    assert one == pytest.approx(float((parts.transposed(gradient) * unknown).sum()))


def test_shared_corrections_have_the_covariance_of_the_kinship():
    relatives = relatives_of(SYMBOLS, InversionSettings())
    relatives = replace(relatives, radii=np.full(3, 1.4))  # no stretching
    parts = shared_parts(relatives, (2,), (0.0, 1.0))
    unit, places = np.zeros((12, 73)), (channel(0, 1, 0, 3), channel(0, 2, 0, 3))
    unit[places[0], 20] = 1.0
    answer = parts.apply(parts.transposed(unit))[:, 20]
    assert answer[places[1]] > 0.1 * answer[places[0]] > 0  # what K-Cl learns, Na-Cl learns in part
    assert answer[channel(0, 2, 1, 3)] == 0.0  # not that of other surroundings


def test_a_pair_without_data_learns_from_its_relatives():
    problem = labelled(random_cells(60, 1), SYMBOLS, LabelSettings())
    settings = RestoringSettings(ridge=1e-2, stiffness=1e-2, iterations=40)
    parts = shared_parts(relatives_of(SYMBOLS, InversionSettings()), (2,), (1.0, 1.0))
    first = np.zeros((12, splines.COEFFICIENTS))
    followed = correct(first, problem, settings, parts=parts, threads=1)
    r = np.linspace(2.6, 4.5, 100)
    learnt = splines.values_at(followed[channel(SYMBOLS.index("Cl"), SYMBOLS.index("K"), 0, 3)], r)
    assert learnt[0] > learnt.min() + 0.05
    assert 2.7 < r[learnt.argmin()] < 4.2
