from itertools import pairwise

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.potentials import splines
from fuse_flows.potentials.correction import NormalEquations, correct
from fuse_flows.potentials.crystals import CrystalSet
from fuse_flows.potentials.restoring import RestoringSettings, displaced, problem_of

SYMBOLS = ("Cl", "Na")


def crystals(copies=1):
    rock = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    cells = [rock.get_primitive_structure(), rock] * copies
    return CrystalSet(
        offsets=np.concatenate([[0], np.cumsum([len(s) for s in cells])]),
        numbers=np.concatenate([s.atomic_numbers for s in cells]).astype(np.int64),
        frac=np.concatenate([s.frac_coords for s in cells]),
        cells=np.stack([s.lattice.matrix for s in cells]),
        formulas=("NaCl",) * len(cells),
        names=tuple(map(str, range(len(cells)))),
    )


@pytest.fixture
def problem():
    return displaced(crystals(), SYMBOLS, RestoringSettings(), np.random.default_rng(0))


def test_gradient_is_that_of_the_loss(problem):
    rng = np.random.default_rng(1)
    start, direction = rng.normal(size=(2, 6, splines.COEFFICIENTS))
    normal = NormalEquations(problem, threads=2)
    _, gradient = normal(start, 1.0)
    step = 1e-3  # the loss is a parabola: central differences are exact
    rise = normal(start + step * direction, 1.0)[0] - normal(start - step * direction, 1.0)[0]
    assert rise / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def test_loss_of_zero_potentials_is_that_of_the_targets(problem):
    loss, _ = NormalEquations(problem, threads=1)(np.zeros((6, splines.COEFFICIENTS)), 1.0)
    owner = np.repeat(np.arange(2), np.diff(problem.offsets))
    forces = (problem.force_scales[owner, None] * problem.forces**2).sum()
    virials = (problem.virial_scales[:, None, None] * problem.virials**2).sum()
    assert loss == pytest.approx(0.5 * (forces + virials))


def test_supercell_has_the_same_virial_per_atom():
    settings = RestoringSettings(mixed_share=0.0)
    base = displaced(crystals(), SYMBOLS, settings, np.random.default_rng(0))
    small, large = crystals().take([0]), crystals().take([1])
    r = np.linspace(0.5, 11, 300)
    potentials = np.tile(splines.fit(r, (2.8 / r) ** 6), (6, 1))
    gradients = []
    for crystal in (small, large):
        still = problem_of(crystal, SYMBOLS, np.zeros((crystal.sizes[0], 3)), np.zeros((1, 3, 3)), settings)
        loss, _ = NormalEquations(still, threads=1)(potentials, 0.0)
        gradients.append(loss / still.virial_scales[0] / crystal.sizes[0] ** 2)
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-6)
    assert base.elements == 2


def test_correction_leads_displaced_rocksalt_back():
    settings = RestoringSettings(iterations=60, ridge=1e-3, stiffness=1e-3, far_share=0.0, mixed_share=0.0)
    learnt = displaced(crystals(100), SYMBOLS, settings, np.random.default_rng(2))
    unseen = displaced(crystals(5), SYMBOLS, settings, np.random.default_rng(3))
    nothing = np.zeros((6, splines.COEFFICIENTS))
    losses = []
    potentials = correct(nothing, learnt, settings, progress=lambda _, loss: losses.append(loss))
    assert losses[0] == pytest.approx(1.0)
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(losses))
    before, after = (NormalEquations(unseen, threads=1)(c, 1.0)[0] for c in (nothing, potentials))
    assert after < 0.1 * before


def test_atoms_that_change_places_ask_for_no_forces():
    settings = RestoringSettings(mixed_share=1.0)
    problem = displaced(crystals(10), SYMBOLS, settings, np.random.default_rng(0))
    assert (problem.force_scales == 0).all()
    assert (problem.virial_scales > 0).all()
    same = displaced(crystals(10), SYMBOLS, RestoringSettings(mixed_share=0.0), np.random.default_rng(0)).kinds
    assert (problem.kinds != same).any()
    bounds = zip(problem.offsets[:-1], problem.offsets[1:], strict=True)
    assert all(sorted(problem.kinds[a:b]) == sorted(same[a:b]) for a, b in bounds)
