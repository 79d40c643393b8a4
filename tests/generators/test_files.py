"""A user's folder: what serves is taken, what does not is counted with its reason, and no file is touched."""

import hashlib

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from fuse_flows.config import TierConfig, load_config
from fuse_flows.errors import ConfigError
from fuse_flows.generators import files
from fuse_flows.generators.files import SkipReason, read_folder, read_pool
from fuse_flows.generators.pool import PoolMember, dump_members, load_members, pool_digest
from fuse_flows.generators.twins import TwinFinder
from fuse_flows.search.propose import propose_initial

MGO_PRIMITIVE = [("Mg", 0, 0, 0), ("O", 0.5, 0.5, 0.5)]


def cif(path, a, atoms, *, angles=(90, 90, 90), occupancies=None):
    """Write a CIF in P1; without occupancies there is no such column."""
    columns = ["type_symbol", "label", "fract_x", "fract_y", "fract_z"] + (["occupancy"] if occupancies else [])
    lengths = [a] * 3 if np.isscalar(a) else a
    lines = ["data_test"]
    lines += [f"_cell_length_{axis} {value}" for axis, value in zip("abc", lengths, strict=True)]
    lines += [f"_cell_angle_{name} {value}" for name, value in zip(("alpha", "beta", "gamma"), angles, strict=True)]
    lines += ["_symmetry_space_group_name_H-M 'P 1'", "loop_", "_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_"]
    lines += [f"_atom_site_{column}" for column in columns]
    for number, (element, *coords) in enumerate(atoms):
        last = [occupancies[number]] if occupancies else []
        lines.append(" ".join(map(str, [element, f"{element}{number}", *coords, *last])))
    path.write_text("\n".join(lines) + "\n")


def config(folder=None, formula="MgO", max_atoms=8, **changes):
    return load_config(
        formula=formula, max_atoms=max_atoms, pool={"structures": None if folder is None else str(folder)}, **changes
    )


def contents(folder):
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = tmp_path / "structures"
    folder.mkdir()
    return folder


def test_every_reason_is_counted_and_no_file_is_touched(folder):
    cif(folder / "a_good.cif", 2.65, MGO_PRIMITIVE)
    cif(folder / "b_copy.cif", 2.66, [("O", 0.25, 0.25, 0.25), ("Mg", 0.75, 0.75, 0.75)])
    cif(folder / "c_partial.cif", 2.65, MGO_PRIMITIVE, occupancies=[1.0, 0.9])
    cif(folder / "d_other_elements.cif", 2.65, [("Ca", 0, 0, 0), ("O", 0.5, 0.5, 0.5)])
    cif(folder / "e_other_counts.cif", 3.0, [*MGO_PRIMITIVE, ("O", 0.5, 0, 0)])
    cif(folder / "f_close.cif", 2.65, [("Mg", 0, 0, 0), ("O", 0.3, 0, 0)])
    cif(folder / "g_own_image.cif", (0.9, 9.0, 9.0), [("Mg", 0, 0, 0), ("O", 0.5, 0.5, 0.5)])
    (folder / "h_broken.cif").write_text("data_x\n_cell_length_a oops\n")
    (folder / "i_empty.cif").write_text("")
    (folder / "notes.txt").write_text("not a structure")
    large = Structure(Lattice.cubic(2.65), ["Mg", "O"], [[0, 0, 0], [0.5] * 3]) * (5, 1, 1)
    large.to(str(folder / "j_large.cif"), fmt="cif")
    (folder / "deeper").mkdir()
    (folder / ".hidden.cif").write_text("data_x")
    before = contents(folder)

    pool = read_folder(folder, config())
    assert [member.name for member in pool.members] == ["a_good.cif"]
    assert pool.skipped == {
        SkipReason.DUPLICATE: 1,
        SkipReason.PARTIAL_OCCUPANCY: 1,
        SkipReason.WRONG_COMPOSITION: 2,
        SkipReason.TOO_LARGE: 1,
        SkipReason.TOO_CLOSE: 2,
        SkipReason.UNREADABLE: 2,
        SkipReason.UNKNOWN_FORMAT: 1,
    }
    assert pool.n_files == 11
    assert "accepted 1 structures from 11 files" in str(pool)
    assert "contact too short 2" in str(pool)
    assert contents(folder) == before


def test_images_of_the_same_atom_and_images_across_the_cell_count_as_contacts(folder):
    cif(folder / "one_atom.cif", 0.95, [("Cu", 0.3, 0.2, 0.1)])
    cif(folder / "across.cif", 6.0, [("Cu", 0.01, 0, 0), ("Cu", 0.97, 0, 0)])
    assert read_folder(folder, config(formula="Cu")).skipped == {SkipReason.TOO_CLOSE: 2}


def test_cell_of_one_atom_serves(folder):
    cif(folder / "simple.cif", 2.4, [("Cu", 0.3, 0.2, 0.1)], occupancies=[1])
    (member,) = read_folder(folder, config(formula="Cu")).members
    structure = member.to_structure()
    assert (len(structure), structure.lattice.a) == (1, pytest.approx(2.4))


def test_full_occupancy_column_and_none_are_the_same(folder):
    cif(folder / "with.cif", 2.65, MGO_PRIMITIVE, occupancies=[1, 1.0])
    first = read_folder(folder, config()).members
    cif(folder / "with.cif", 2.65, MGO_PRIMITIVE)
    assert read_folder(folder, config()).members == first


def test_charges_are_left_behind(folder):
    cif(folder / "charged.cif", 2.65, [("Mg2+", 0, 0, 0), ("O2-", 0.5, 0.5, 0.5)])
    (member,) = read_folder(folder, config()).members
    assert [site.specie.symbol for site in member.to_structure()] == ["Mg", "O"]
    assert not hasattr(member.to_structure()[0].specie, "oxi_state")


def test_poscar_and_extended_xyz_with_several_frames(folder):
    wide = Structure(Lattice.cubic(2.65), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])
    Poscar(wide).write_file(folder / "POSCAR_1")
    Poscar(wide.copy().apply_strain(0.2)).write_file(folder / "wide.vasp")
    frames = [
        f'2\nLattice="{a} 0 0 0 {a} 0 0 0 {a}" Properties=species:S:1:pos:R:3 pbc="T T T"\nMg 0 0 0\nO {a / 2} 0 0\n'
        for a in (4.0, 4.8)
    ]
    (folder / "two.xyz").write_text("".join(frames))
    (folder / "molecule.xyz").write_text("2\nno cell\nMg 0 0 0\nO 0 0 2\n")
    pool = read_folder(folder, config())
    assert [member.name for member in pool.members] == ["POSCAR_1", "two.xyz#1", "two.xyz#2", "wide.vasp"]
    assert pool.skipped == {SkipReason.UNREADABLE: 1}


def test_copies_are_found_in_other_cells_but_other_crystals_and_volumes_are_kept():
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    blende = Structure.from_spacegroup("F-43m", Lattice.cubic(4.6), ["Mg", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    cesium_chloride = Structure(Lattice.cubic(2.65), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])
    twins = TwinFinder()
    assert [twins.has_twin(s) for s in (rocksalt, blende, cesium_chloride)] == [False] * 3
    moved = rocksalt.copy().translate_sites(range(8), [0.11, 0.2, 0.3])
    copies = [rocksalt, moved, rocksalt.get_primitive_structure(), cesium_chloride * (2, 1, 1), blende * (1, 1, 2)]
    assert all(twins.has_twin(s) for s in copies)
    assert not twins.has_twin(rocksalt.copy().apply_strain(0.05))


def test_random_structures_are_their_own_twins_only():
    search = config(formula="SrTiO3", max_atoms=15)
    made = [propose_initial(search, index).structure for index in range(12)]
    made = [structure for structure in made if structure is not None]
    assert len(made) > 6
    twins = TwinFinder()
    assert sum(twins.has_twin(structure) for structure in made) < len(made) / 2
    assert all(twins.has_twin(structure) for structure in made)


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_bad_folder_names_the_field(tmp_path, kind):
    folder = tmp_path / "there"
    if kind == "file":
        folder.write_text("x")
    if kind == "empty":
        folder.mkdir()
    with pytest.raises(ConfigError, match=r"^pool\.structures: .*there") as caught:
        read_pool(config(folder))
    assert "\n" not in str(caught.value)


def test_too_much_for_one_job_is_refused(folder, monkeypatch):
    cif(folder / "a.cif", 2.65, MGO_PRIMITIVE)
    monkeypatch.setattr(files, "MAX_BYTES", 50)
    with pytest.raises(ConfigError, match=r"^pool\.structures: .*bring fewer files"):
        read_pool(config(folder))


def test_search_id_follows_from_the_structures_and_not_from_the_folder(folder, tmp_path):
    cif(folder / "a.cif", 2.65, MGO_PRIMITIVE)
    with pytest.raises(ConfigError, match=r"^pool\.structures: has not been read"):
        _ = config(folder).search_id
    known, pool = read_pool(config(folder))
    assert len(pool.members) == 1

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cif(elsewhere / "renamed.cif", 2.65, MGO_PRIMITIVE)
    assert read_pool(config(elsewhere))[0].search_id == known.search_id
    cif(elsewhere / "renamed.cif", 2.70, MGO_PRIMITIVE)
    assert read_pool(config(elsewhere))[0].search_id != known.search_id
    with pytest.raises(ConfigError, match=r"^pool\.structures: .*no longer holds"):
        read_pool(
            load_config(formula="MgO", max_atoms=8, pool=known.pool.model_dump() | {"structures": str(elsewhere)})
        )

    without = config().search_id
    ids = {known.search_id, without}
    for change in (
        {"rank": "single"},
        {"rank": "relax"},
        {"rank": "single", "rank_tier": TierConfig(calculator="lj")},
        {"draw": "ranked"},
    ):
        ids.add(known.model_copy(update={"pool": known.pool.model_copy(update=change)}).search_id)
    assert len(ids) == 6
    assert load_config(formula="MgO", max_atoms=8, pool={"draw": "ranked"}).search_id == without


def test_folder_of_which_nothing_serves_is_a_search_without_a_pool(folder):
    (folder / "a.cif").write_text("")
    search, pool = read_pool(config(folder))
    assert search == config()
    assert pool.skipped == {SkipReason.UNREADABLE: 1}


def test_reading_again_gives_the_same_pool(folder):
    for number, a in enumerate((2.65, 3.0, 3.4)):
        cif(folder / f"{number}.cif", a, [("Mg", -1e-12, 1.0, 0), ("O", 1 / 3, 0.5, 2 / 3)])
    first, second = (read_folder(folder, config()).members for _ in range(2))
    assert first == second
    assert len(first) == 3
    assert pool_digest(first) == pool_digest(load_members(dump_members(first)))
    assert all(0 <= x < 1 for member in first for row in member.frac_coords for x in row)
    assert pool_digest(first) != pool_digest(first[::-1])


def test_member_keeps_the_structure():
    rng = np.random.default_rng(5)
    structure = Structure(Lattice.from_parameters(3, 4, 5, 70, 80, 95), ["Mg", "O"], rng.random((2, 3)) * 3 - 1)
    member = PoolMember.from_structure("x", structure)
    again = member.to_structure()
    assert np.allclose(again.lattice.matrix, structure.lattice.matrix, atol=1e-8)
    shift = again.frac_coords - structure.frac_coords
    assert np.allclose(shift, np.round(shift), atol=1e-8)
    assert PoolMember.from_structure("x", again) == member
