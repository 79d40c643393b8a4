"""Engines whose energies contradict their stress, as plane waves up to a fixed energy do: the stress is followed."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.units import GPa
from pymatgen.core import Lattice, Structure

from fuse_flows.config import TierConfig
from fuse_flows.relax.ase_tier import to_atoms
from fuse_flows.relax.cell import Numbers
from fuse_flows.relax.course import Course
from fuse_flows.relax.descent import BASIS_NOISE
from fuse_flows.relax.result import Outcome

PULAY = 1.0 * GPa
"""The energy falls with the volume more than the stress says, eV/A^3; MgO at 700 eV."""


def relaxed(structure, tier, noise):
    """Return the course of a relaxation with such an engine, at its end."""
    course = Course(tier, None, to_atoms(structure), began=0.0, noise=noise)
    while course.seek():
        atoms = course.crystal.atoms.copy()
        atoms.calc = EMT()
        energy = atoms.get_potential_energy() - PULAY * atoms.get_volume()
        course.take(Numbers(energy, atoms.get_forces(), atoms.get_stress(voigt=False)))
    return course.end


@pytest.mark.parametrize(("strain", "factor"), [(0.99, 1), (1.0, 10), (1.01, 1)])
def test_the_stress_is_followed_where_energies_contradict_it(strain, factor):
    cell = Lattice(3.6 * strain * np.array([[1, 0.004, 0], [0.004, 1, 0.002], [0, 0.002, 1]]))
    copper = Structure(cell, ["Cu"] * 4, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0.003, 0.5, 0.5]])
    tier = TierConfig(calculator="emt", max_steps=60, time_limit=1e12, smax=0.2, fmax=0.02)
    blind, seeing = relaxed(copper, tier, None), relaxed(copper, tier, BASIS_NOISE)
    assert seeing.verdict.outcome is Outcome.CONVERGED
    assert seeing.steps <= 10
    assert factor * seeing.steps <= blind.steps  # whoever believes the energies creeps where they rise
