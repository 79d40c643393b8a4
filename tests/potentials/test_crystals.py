import json
import lzma

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.errors import ConfigError
from fuse_flows.potentials.crystals import formula_key, has_anions, read_crystals, split_of

PARTS = ("train", "tune", "test")


def rocksalt(one, two, a=4.2):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [one, two], [[0, 0, 0], [0.5, 0.5, 0.5]])


def record(structure, name="x", **more):
    return {
        "id": name,
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
        **more,
    }


def write(path, records, opener=open):
    with opener(path, "wt") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)
    return path


def test_formulas_do_not_depend_on_order_or_multiplicity():
    symbols = ["Ti"] * 2 + ["O"] * 6 + ["Sr"] * 2
    key = formula_key(symbols)
    assert formula_key(reversed(symbols)) == formula_key(["Sr", "Ti", "O", "O", "O"]) == key == "O3 Sr1 Ti1"


def test_split_holds_a_tenth_for_choosing_and_a_tenth_for_testing():
    parts = [split_of(["Sr"] * a + ["Ti"] * b + ["O"] * 31) for a in range(1, 41) for b in range(1, 41)]
    assert parts.count("tune") / len(parts) == pytest.approx(0.1, abs=0.03)
    assert parts.count("test") / len(parts) == pytest.approx(0.1, abs=0.03)


def test_split_of_known_compositions_stays():
    # A change of this changes what "held out" means for every library derived before.
    assert [split_of(s) for s in (["Mg", "O"], ["Na", "Cl"], ["Cu"], ["O", "O", "Ti"], ["Fe"])] == [
        "train", "train", "train", "train", "train",
    ]  # fmt: skip


def test_anions():
    assert has_anions(["Fe", "O"])
    assert not has_anions(["Fe", "Co", "As", "H", "C"])


@pytest.mark.parametrize("opener", [open, lzma.open])
def test_reads_lines_compressed_or_not(tmp_path, opener):
    path = write(tmp_path / "data", [record(rocksalt("Mg", "O"), "a"), record(rocksalt("Na", "Cl"), "b")], opener)
    crystals = read_crystals(path, parts=PARTS)
    assert crystals.names == ("a", "b")
    assert crystals.formulas == ("Mg1 O1", "Cl1 Na1")
    assert crystals.symbols(1) == ["Na"] * 4 + ["Cl"] * 4
    np.testing.assert_allclose(crystals.cells[0], 4.2 * np.eye(3))
    assert len(crystals.take([1])) == 1
    assert crystals.take([1]).symbols(0) == crystals.symbols(1)


def test_reads_a_folder_and_leaves_disorder_out(tmp_path):
    rocksalt("Mg", "O").to(tmp_path / "b.cif")
    rocksalt("Na", "Cl").to(tmp_path / "a.cif")
    Structure(Lattice.cubic(3), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]]).to(tmp_path / "c.cif")
    crystals = read_crystals(tmp_path, parts=PARTS)
    assert crystals.names == ("a", "b")
    assert crystals.sizes.tolist() == [2, 2]


def test_filters(tmp_path):
    records = [
        record(rocksalt("Mg", "O"), "near", min_dist=0.7),
        record(rocksalt("Mg", "O"), "good", min_dist=2.1),
        record(rocksalt("Mg", "O") * (2, 2, 2), "large"),
        record(rocksalt("Mg", "O"), "second"),
    ]
    path = write(tmp_path / "data", records)
    assert read_crystals(path, parts=PARTS, max_atoms=10).names == ("good", "second")
    assert read_crystals(path, parts=PARTS, max_atoms=10, limit=1).names == ("good",)
    crystals = read_crystals(path, parts=PARTS, max_atoms=10)
    assert crystals.composition_weights().tolist() == [0.5, 0.5]


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no file or folder"):
        read_crystals(tmp_path / "nothing")
    (tmp_path / "bad").write_text('{"lattice": 1}\n')
    with pytest.raises(ConfigError, match=r"line 1 of .*bad"):
        read_crystals(tmp_path / "bad")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="no ordered crystal"):
        read_crystals(tmp_path / "empty")
