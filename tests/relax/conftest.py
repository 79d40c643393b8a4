from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture
def perovskite():
    def make(a=3.905):
        coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        return Structure(Lattice.cubic(a), ["Sr", "Ti", "O", "O", "O"], coords)

    return make


@pytest.fixture
def copper():
    def make(a=3.6, rattle=0.1):
        structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Cu"], [[0, 0, 0]])
        return structure.perturb(rattle, seed=1) if rattle else structure

    return make


@pytest.fixture
def rocksalt():
    def make(a=4.21, rattle=0.1):
        structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        return structure.perturb(rattle, seed=1) if rattle else structure

    return make
