"""Copies of a minimum are found in every disguise, other polymorphs are not, and borders of bins hide nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.config import DuplicatesConfig
from fuse_flows.search.visited import Minimum, VisitedMinima, clusters_of

CONFIG = DuplicatesConfig()
A = 4.21
ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(A), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
# all of the volume per atom of rocksalt, so that nothing but the arrangement tells them apart
CSCL = Structure(Lattice.cubic(A / 4 ** (1 / 3)), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ZINCBLENDE = Structure.from_spacegroup("F-43m", Lattice.cubic(A), ["Mg", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]])
_EDGE = (A**3 / 4 * 2 / (np.sqrt(3) / 2 * np.sqrt(8 / 3))) ** (1 / 3)
WURTZITE = Structure.from_spacegroup(
    "P6_3mc", Lattice.hexagonal(_EDGE, _EDGE * np.sqrt(8 / 3)), ["Mg", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]]
)
POLYMORPHS = {"rocksalt": ROCKSALT, "cscl": CSCL, "zincblende": ZINCBLENDE, "wurtzite": WURTZITE}


def minimum(structure, energy=-6.0, name="m"):
    return Minimum.from_structure(name, structure, energy)


def disguised(structure, seed):
    """The same crystal: supercell, rotated, translated, atoms permuted, rattled by 0.01 A, strained by 0.1 %."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(3, dtype=int) + np.tril(rng.integers(-1, 2, (3, 3)), -1)
    matrix[rng.integers(3)] *= rng.integers(1, 4)
    big = structure * matrix
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(big))
    coords = (big.cart_coords + rng.normal(scale=0.01, size=(len(big), 3)) + rng.uniform(size=3)) @ rotation
    lattice = big.lattice.matrix @ rotation
    strain = 1 + 1e-3 * rng.uniform(-1, 1)
    species = [big.species[k] for k in order]
    return Structure(lattice * strain, species, coords[order] * strain, coords_are_cartesian=True, to_unit_cell=True)


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(sorted(POLYMORPHS)), seed=st.integers(0, 10**6))
def test_disguises_are_copies(name, seed):
    visited = VisitedMinima(CONFIG, [minimum(other, name=other_name) for other_name, other in POLYMORPHS.items()])
    copy = minimum(disguised(POLYMORPHS[name], seed), -6.0 + 4e-4)
    assert visited.find(copy).candidate_id == name
    assert visited.cluster_of(copy) == name
    assert len(visited) == 4


def test_primitive_and_conventional_cells_are_copies():
    members = [minimum(ROCKSALT, name="a"), minimum(ROCKSALT.get_primitive_structure(), name="b")]
    assert clusters_of(CONFIG, members) == {"a": "a", "b": "a"}


def test_polymorphs_of_one_volume_and_energy_are_not():
    members = [minimum(structure, name=name) for name, structure in POLYMORPHS.items()]
    assert len({round(member.volume_per_atom, 6) for member in members}) == 1
    assert clusters_of(CONFIG, members) == {name: name for name in POLYMORPHS}


def test_other_occupation_of_the_same_sites_is_no_copy():
    layered = ROCKSALT.copy()
    heights = layered.frac_coords[:, 2]
    for k, height in enumerate(heights):
        layered[k] = "Mg" if height < 0.25 else "O"
    assert clusters_of(CONFIG, [minimum(ROCKSALT, name="a"), minimum(layered, name="b")]) == {"a": "a", "b": "b"}


def test_enantiomorphs_are_copies():
    right = Structure.from_spacegroup(
        "P3_121", Lattice.hexagonal(4.914, 5.405), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.4524]]
    )
    left = Structure(right.lattice, right.species, right.frac_coords * [1, 1, -1])
    mirrored = Structure(
        Lattice(right.lattice.matrix * [1, 1, -1]),
        right.species,
        right.cart_coords * [1, 1, -1],
        coords_are_cartesian=True,
    )
    assert len(right) == 9
    assert {structure.get_space_group_info()[1] for structure in (left, mirrored)} == {154}
    assert right.get_space_group_info()[1] == 152
    visited = VisitedMinima(CONFIG, [minimum(right, name="right")])
    assert visited.find(minimum(left)).candidate_id == visited.find(minimum(mirrored)).candidate_id == "right"


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("border", [-6.0, -6.0005, -5.9991])
def test_borders_of_energy_bins_hide_nothing(side, border):
    visited = VisitedMinima(CONFIG, [minimum(ROCKSALT, border)])
    assert visited.find(minimum(ROCKSALT, border + side * 0.99e-3))
    assert visited.find(minimum(ROCKSALT, border + side * 1.01e-3)) is None


@settings(deadline=None, max_examples=40)
@given(scale=st.floats(0.8, 1.3), share=st.floats(-0.99, 0.99))
def test_borders_of_volume_bins_hide_nothing(scale, share):
    def sized(factor):
        return Structure(Lattice(ROCKSALT.lattice.matrix * factor ** (1 / 3)), ROCKSALT.species, ROCKSALT.frac_coords)

    visited = VisitedMinima(CONFIG, [minimum(sized(scale))])
    within = scale * (1 + CONFIG.volume_tolerance) ** share
    beyond = scale * (1 + CONFIG.volume_tolerance) ** np.copysign(1 + abs(share), share)
    assert visited.find(minimum(sized(within)))
    assert visited.recognise(sized(within))
    assert visited.find(minimum(sized(beyond + np.copysign(1e-3, share)))) is None
    assert visited.recognise(sized(beyond + np.copysign(1e-3, share))) is None


def test_the_cluster_next_in_energy_counts():
    visited = VisitedMinima(CONFIG)
    energies = {"a": -6.0, "b": -5.9985, "c": -5.9991, "d": -5.9994}
    assert [visited.cluster_of(minimum(ROCKSALT, energy, name)) for name, energy in energies.items()] == list("abba")


def test_unrelaxed_copies_are_recognised_with_tight_tolerances():
    visited = VisitedMinima(CONFIG, [minimum(structure, name=name) for name, structure in POLYMORPHS.items()])
    for name, structure in POLYMORPHS.items():
        assert visited.recognise(disguised(structure, 7)).candidate_id == name
    distorted = ROCKSALT.copy()
    distorted.translate_sites([0], [0.3 / A, 0, 0])
    assert visited.recognise(distorted) is None
    assert VisitedMinima(CONFIG, [minimum(distorted)]).find(minimum(distorted))
    sheared = Structure(Lattice.from_parameters(A, A, A, 90, 90, 84), ROCKSALT.species, ROCKSALT.frac_coords)
    assert visited.recognise(sheared) is None
    assert VisitedMinima(CONFIG).recognise(ROCKSALT) is None


@settings(deadline=None, max_examples=25)
@given(split=st.integers(0, 12), seed=st.integers(0, 10**6))
def test_minima_from_before_answer_like_those_in_one_place(split, seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(sorted(POLYMORPHS), size=12)
    minima = [minimum(POLYMORPHS[name], -6.0 + 4e-4 * rng.integers(-4, 5), str(k)) for k, name in enumerate(names)]
    whole = VisitedMinima(CONFIG, minima)
    parted = VisitedMinima(CONFIG, minima[split:], before=VisitedMinima(CONFIG, minima[:split]))
    assert len(parted) == len(whole) == 12
    for name, structure in POLYMORPHS.items():
        asked = minimum(structure, -6.0 + 4e-4 * rng.integers(-4, 5), name)
        assert parted.find(asked) is whole.find(asked)
        assert parted.recognise(structure) is whole.recognise(structure)


def test_minima_from_before_are_never_added_to():
    before = VisitedMinima(CONFIG, [minimum(ROCKSALT, name="a")])
    visited = VisitedMinima(CONFIG, before=before)
    assert visited.cluster_of(minimum(CSCL, name="b")) == "b"
    assert visited.cluster_of(minimum(ROCKSALT, name="c")) == "a"
    assert (len(visited), len(before)) == (2, 1)
