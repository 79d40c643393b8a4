"""Space groups as arrays: orbits of the primitive cell that spglib knows as well."""

import numpy as np
import pytest
import spglib

pytest.importorskip("pyxtal")

from fuse_flows.generators.space.groups import N_GROUPS, space_group


def test_every_general_orbit_has_its_space_group():
    rng = np.random.default_rng(3)
    for number in range(1, N_GROUPS + 1):
        group = space_group(number)
        general = group.positions[-1]
        coords = np.concatenate([general.rotations @ x + general.translations for x in rng.random((2, 3))])
        lattice = group.primitive @ _lattice(group.system)
        kinds = np.repeat([1, 2], general.multiplicity)
        found = spglib.get_symmetry_dataset((lattice, coords % 1.0, kinds), symprec=1e-4)
        assert found.number == number or len(found.rotations) > general.multiplicity, number


def test_multiplicities_are_those_of_the_primitive_cell():
    assert [p.multiplicity for p in space_group(225).positions[:3]] == [1, 1, 2]
    assert [p.letter for p in space_group(225).positions[:3]] == ["a", "b", "c"]
    assert space_group(225).centrings == 4
    assert space_group(166).centrings == 3


@pytest.mark.parametrize("number", [2, 12, 47, 166, 225])
def test_positions_without_freedom_do_not_depend_on_coordinates(number):
    for position in space_group(number).positions:
        assert (position.freedom == 0) == (not position.rotations.any())


def _lattice(system):
    a, b, c = 7.1, 8.3, 9.7
    match system:
        case "triclinic":
            return np.array([[a, 0, 0], [0.7, b, 0], [1.3, -0.9, c]])
        case "monoclinic":
            return np.array([[a, 0, 0], [0, b, 0], [-1.7, 0, c]])
        case "orthorhombic":
            return np.diag([a, b, c])
        case "tetragonal":
            return np.diag([a, a, c])
        case "hexagonal":
            return np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    return np.diag([a, a, a])
