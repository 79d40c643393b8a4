import json

import numpy as np
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from fuse_flows.cli.app import app
from fuse_flows.potentials.labels import LabelledCells
from fuse_flows.potentials.library import load_library

PAIRS = (
    ("Mg", "O", 4.21),
    ("Ca", "O", 4.81),
    ("Sr", "O", 5.16),
    ("Na", "Cl", 5.64),
    ("K", "Cl", 6.29),
    ("Cu", "Zn", 5.9),
)


def lines(path):
    with path.open("w") as file:
        for number, (one, two, a) in enumerate(PAIRS):
            s = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [one, two], [[0, 0, 0], [0.5, 0.5, 0.5]])
            record = {
                "id": number,
                "lattice": s.lattice.matrix.tolist(),
                "species": [site.specie.symbol for site in s],
                "frac_coords": s.frac_coords.tolist(),
            }
            file.write(json.dumps(record) + "\n")
    return path


def test_derive_writes_a_library_twice_the_same(tmp_path):
    data = lines(tmp_path / "data.jsonl")
    libraries = []
    for name in ("one", "two"):
        words = ["spp", "derive", data, "-o", tmp_path / name, "--iterations", 3, "--all", "--licence", "ours"]
        done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        assert done.exit_code == 0
        libraries.append(load_library(tmp_path / f"{name}.npz"))
    one, two = libraries
    assert one.symbols == ("Ca", "Cl", "Cu", "K", "Mg", "Na", "O", "Sr", "Zn")
    assert one.provenance["licence"] == "ours"
    assert one.crystals_of("Mg", "O", anions=True) == 1
    assert one.crystals_of("Mg", "Cl", anions=True) == 0
    np.testing.assert_allclose(one.coefficients, two.coefficients, atol=1e-6)
    _, values = one.tables(["Mg", "Cl"])
    assert np.isfinite(list(values.values())).all()


def test_derive_follows_labels(tmp_path):
    data, rng, rows = lines(tmp_path / "data.jsonl"), np.random.default_rng(0), []
    for number in range(4):
        cell, frac = np.eye(3) * 4.5, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) + rng.normal(size=(2, 3)) * 0.02
        forces = rng.normal(size=(1, 3)) * np.array([[1.0], [-1.0]])
        rows.append((number, ["Mg", "O"], cell, frac, -1.0, forces, np.eye(3)))
    LabelledCells.of(rows, about="made up").save(tmp_path / "labels.npz")
    libraries = []
    for name, more in (("without", []), ("with", ["--labels", tmp_path / "labels.npz"])):
        words = ["spp", "derive", data, "-o", tmp_path / name, "--iterations", 3, "--all", *more]
        done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        assert done.exit_code == 0
        libraries.append(load_library(tmp_path / f"{name}.npz"))
    without, followed = libraries
    assert "labels" not in without.provenance
    assert (followed.provenance["labels"], followed.provenance["labelled_cells"]) == ("made up", 4)
    assert np.isfinite(followed.coefficients).all()
    assert np.abs(followed.coefficients - without.coefficients).max() > 0.1


def test_show_prints_pairs_and_attribution():
    done = CliRunner().invoke(app, ["spp", "show", "Sr", "Ti", "O"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "O-Ti" in done.stdout
    assert "CC-BY-4.0" in done.stdout
