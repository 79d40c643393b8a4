from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture
def mgo():
    """Return a function that makes primitive cells of rocksalt MgO."""

    def make(a):
        h = a / 2
        return Structure(Lattice([[0, h, h], [h, 0, h], [h, h, 0]]), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])

    return make
