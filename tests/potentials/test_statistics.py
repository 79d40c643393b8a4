import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from fuse_flows.potentials.crystals import CrystalSet
from fuse_flows.potentials.statistics import BIN_WIDTH, channel, channel_pairs, distance_statistics


def crystal_set(*structures):
    sizes = [len(s) for s in structures]
    return CrystalSet(
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        numbers=np.concatenate([s.atomic_numbers for s in structures]).astype(np.int64),
        frac=np.concatenate([s.frac_coords for s in structures]),
        cells=np.stack([s.lattice.matrix for s in structures]),
        formulas=tuple(s.composition.reduced_formula for s in structures),
        names=tuple(str(i) for i in range(len(structures))),
    )


def test_channels_number_every_pair_once():
    pairs = channel_pairs(5)
    numbers = [channel(b, a, s, 5) for s in (0, 1) for a, b in pairs]
    assert numbers == list(range(30))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_counts_agree_with_pymatgen_in_skewed_cells(seed):
    rng = np.random.default_rng(seed)
    lattice = Lattice(rng.normal(size=(3, 3)) * 1.5 + 3.5 * np.eye(3))
    if lattice.volume < 10:
        return
    structure = Structure(lattice, ["Ti", "O", "O"], rng.random((3, 3)) * 3 - 1)
    statistics = distance_statistics(crystal_set(structure), ("O", "Ti"), cutoff=6.0)
    centres, _, _, distances = structure.get_neighbor_list(6.0)
    seen = np.bincount((distances / BIN_WIDTH).astype(int), minlength=120)[:120] / 3
    np.testing.assert_allclose(statistics.observed.sum(axis=0), seen, atol=1e-9)
    assert statistics.observed[3:].sum() == 0  # all of it is "with anions"
    assert len(centres) == len(distances)


def test_expected_numbers_are_those_of_independent_atoms():
    rng = np.random.default_rng(0)
    gas = [Structure(Lattice.cubic(14), ["Cu"] * 60 + ["Zn"] * 20, rng.random((80, 3))) for _ in range(4)]
    statistics = distance_statistics(crystal_set(*gas), ("Cu", "Zn"), cutoff=7.0)
    for one, two in ((0, 0), (0, 1), (1, 1)):
        k = channel(one, two, 1, 2)
        ratio = statistics.observed[k].sum() / statistics.expected[k].sum()
        # The atom itself is no neighbour: 59 or 19 others are left.
        others = {(0, 0): 59 / 60, (0, 1): 1.0, (1, 1): 19 / 20}[one, two]
        np.testing.assert_allclose(ratio, others, rtol=0.06)
    assert statistics.crystals[channel(0, 1, 1, 2)] == 4
    np.testing.assert_allclose(statistics.weights[channel(0, 1, 1, 2)], 1.0)


def test_supercells_tell_the_same():
    structure = Structure(Lattice.orthorhombic(3, 4, 5), ["Na", "Cl"], [[0, 0, 0], [0.4, 0.5, 0.6]])
    one = distance_statistics(crystal_set(structure), ("Cl", "Na"))
    many = distance_statistics(crystal_set(structure * (2, 1, 2)), ("Cl", "Na"))
    np.testing.assert_allclose(one.expected, many.expected)
    # Sums of runs of bins: a distance at the edge of a bin may fall to either side.
    np.testing.assert_allclose(one.observed.sum(axis=1), many.observed.sum(axis=1), rtol=1e-3)
