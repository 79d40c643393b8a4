"""Every export, read back by the library it is for, gives the same structures and energies."""

import re

import ase.db
import ase.io
import numpy as np
import pytest
from monty.serialization import loadfn
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from fuse_flows.analysis.formats import StructureFormat, atoms_of, file_stem, structure_of, write_structures
from fuse_flows.errors import ConfigError

pytestmark = pytest.mark.mongo


@pytest.fixture(name="best")
def _best(search):
    return search.best(None)


def same_atoms(atoms, structure, tolerance):
    assert atoms.get_chemical_symbols() == [site.specie.symbol for site in structure]
    assert atoms.pbc.all()
    np.testing.assert_allclose(atoms.cell.array, structure.lattice.matrix, atol=tolerance)
    np.testing.assert_allclose(atoms.positions, structure.cart_coords, atol=tolerance)


def distances(structure):
    """Return all distances, sorted, by kinds of atoms: what no choice of axes or origin changes."""
    kinds = sorted((site.specie.symbol, k) for k, site in enumerate(structure))
    return structure.distance_matrix[np.ix_(*[[k for _, k in kinds]] * 2)]


def test_cif(best, tmp_path):
    paths = write_structures(tmp_path / "cif", best, StructureFormat.CIF)
    assert [path.stem for path in paths] == [file_stem(rank, doc) for rank, doc in enumerate(best, start=1)]
    for path, doc in zip(paths, best, strict=True):
        expected = structure_of(doc)
        for read in (Structure.from_file(path), Structure.from_ase_atoms(ase.io.read(path))):
            assert read.composition == expected.composition
            np.testing.assert_allclose(read.lattice.parameters, expected.lattice.parameters, atol=1e-9)
            np.testing.assert_allclose(distances(read), distances(expected), atol=1e-6)


def test_poscar(best, tmp_path):
    paths = write_structures(tmp_path / "poscar", best, StructureFormat.POSCAR)
    for path, doc in zip(paths, best, strict=True):
        expected = structure_of(doc).get_sorted_structure()
        assert doc["candidate_id"] in path.read_text().splitlines()[0]
        same_atoms(ase.io.read(path, format="vasp"), expected, 1e-9)
        read = Structure.from_str(path.read_text(), fmt="poscar")
        assert read.species == expected.species
        np.testing.assert_allclose(read.lattice.matrix, expected.lattice.matrix, atol=1e-12)
        np.testing.assert_allclose(read.frac_coords, expected.frac_coords, atol=1e-12)


def test_extended_xyz(best, tmp_path):
    (path,) = write_structures(tmp_path / "all.extxyz", best, StructureFormat.EXTXYZ)
    for atoms, doc in zip(ase.io.read(path, ":"), best, strict=True):
        same_atoms(atoms, structure_of(doc), 1e-7)
        assert atoms.get_potential_energy() == doc["energy"]
        assert atoms.info["candidate"] == f"{doc['search_id']}/{doc['candidate_id']}"


def test_ase_database(best, tmp_path):
    (path,) = write_structures(tmp_path / "all.db", best, StructureFormat.ASE)
    database = ase.db.connect(path)
    for row, doc in zip(database.select(sort="id"), best, strict=True):
        same_atoms(row.toatoms(), structure_of(doc), 1e-12)
        assert row.energy == doc["energy"]
    chosen = list(database.select(f"energy_per_atom<{best[1]['energy_per_atom']}"))
    assert [row.candidate for row in chosen] == [f"{best[0]['search_id']}/{best[0]['candidate_id']}"]
    assert len(list(database.select("Cu=3", step=0))) <= len(best)


def test_entries_of_pymatgen(best, tmp_path):
    (path,) = write_structures(tmp_path / "all.json", best, StructureFormat.JSON)
    entries = loadfn(path)
    assert all(isinstance(entry, ComputedStructureEntry) for entry in entries)
    assert [entry.entry_id for entry in entries] == [doc["candidate_id"] for doc in best]
    assert [entry.energy for entry in entries] == [doc["energy"] for doc in best]
    assert [entry.structure for entry in entries] == [structure_of(doc) for doc in best]
    diagram = PhaseDiagram([*entries, *(PDEntry(Composition(element), 1.0) for element in ("Cu", "Au"))])
    above = [diagram.get_e_above_hull(entry) for entry in entries]
    expected = [doc["energy_per_atom"] - best[0]["energy_per_atom"] for doc in best]
    np.testing.assert_allclose(above, expected, atol=1e-9)


@pytest.mark.parametrize("identifier", ["1234567890123456", "12e4567890123456", "0000000000000000", "true"])
def test_identifiers_that_look_like_numbers_stay_text(best, tmp_path, identifier):
    doc = best[0] | {"candidate_id": identifier}
    expected = f"{doc['search_id']}/{identifier}"
    write_structures(tmp_path / "all.extxyz", [doc], StructureFormat.EXTXYZ)
    assert ase.io.read(tmp_path / "all.extxyz").info["candidate"] == expected
    write_structures(tmp_path / "all.db", [doc], StructureFormat.ASE)
    assert ase.db.connect(tmp_path / "all.db").get(id=1).candidate == expected
    write_structures(tmp_path / "all.json", [doc], StructureFormat.JSON)
    assert loadfn(tmp_path / "all.json")[0].entry_id == identifier


def test_names_of_files_stay_in_their_folder(best):
    stem = file_stem(1, best[0] | {"candidate_id": "../../x y\n", "space_group_number": None})
    assert re.fullmatch(r"01_Cu3Au_None_[\w.-]*", stem)
    assert "/" not in stem


@pytest.mark.parametrize("file_format", StructureFormat)
def test_nothing_is_overwritten(best, tmp_path, file_format):
    target = tmp_path / f"x{file_format.suffix}"
    write_structures(target, best[:1], file_format)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"output: .* exists; name another one"):
        write_structures(target, best, file_format)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_atoms_know_their_energy(best):
    assert atoms_of(best[0]).get_potential_energy() == best[0]["energy"]
