from __future__ import annotations

import itertools

import numpy as np
import pytest

from fuse_flows.potentials.tables import PairTables, taper


@pytest.fixture(scope="session")
def tables():
    """Ca, Ti and O with a Coulomb-like tail: eleven angstrom, every pair different, each atom with its own energy."""
    r = np.linspace(0.5, 11.0, 1051)
    charge = {"Ca": 1.2, "Ti": 2.4, "O": -1.2}
    values = {}
    for one, two in itertools.combinations_with_replacement(sorted(charge), 2):
        repulsion = 300 * np.exp(-r / 0.33) * (1 + 0.3 * (one != two))
        values[one, two] = taper(r, 14.4 * charge[one] * charge[two] * np.exp(-r / 4) / r + repulsion)
    return PairTables.from_values(r, values, {"Ca": -1.0, "Ti": -2.0, "O": 0.5})


@pytest.fixture(scope="session")
def brute_force(tables):
    """Energy as a plain sum over a block of images that is certainly large enough."""

    def energy(symbols, cell, positions):
        heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        frac = positions @ np.linalg.inv(cell)
        spread = np.ptp(frac, axis=0)
        reach = np.ceil(tables.cutoff / heights + spread).astype(int)
        images = np.array(list(itertools.product(*(range(-m, m + 1) for m in reach)))) @ cell
        total = sum(tables.self_energies[tables.kinds(symbols)])
        for i, one in enumerate(symbols):
            for j, two in enumerate(symbols):
                distance = np.linalg.norm(positions[j] - positions[i] + images, axis=1)
                if i == j:
                    distance = distance[distance > 1e-12]
                total += 0.5 * tables.evaluate(one, two, distance)[0].sum()
        return total

    return energy
