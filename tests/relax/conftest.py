from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

FACES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


@pytest.fixture
def perovskite():
    def make(a=3.905):
        coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        return Structure(Lattice.cubic(a), ["Sr", "Ti", "O", "O", "O"], coords)

    return make


@pytest.fixture
def copper():
    def make(a=3.6, rattle=0.1):
        structure = Structure(Lattice.cubic(a), ["Cu"] * 4, FACES)
        return structure.perturb(rattle, seed=1) if rattle else structure

    return make


@pytest.fixture
def rocksalt():
    def make(a=4.21, rattle=0.1):
        coords = [*FACES, *([x + 0.5, y, z] for x, y, z in FACES)]
        structure = Structure(Lattice.cubic(a), ["Mg"] * 4 + ["O"] * 4, coords)
        return structure.perturb(rattle, seed=1) if rattle else structure

    return make
