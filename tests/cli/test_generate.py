"""Generation on the command line: files without a search, recipes, and what is said when nothing comes of it."""

import csv

import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner

from fuse_flows.cli.app import app
from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.flows.local import submit, work

CU3AU = ["generate", "Cu3Au", "--max-atoms", "8", "--energy-model", "emt", "--candidates", "20", "--keep", "5"]


def invoke(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def rows(folder):
    with (folder / "energies.csv").open() as file:
        return list(csv.DictReader(file))


def test_structures_are_written_lowest_first(tmp_path):
    done = invoke(*CU3AU, "--seed", 3, "-o", tmp_path / "a")
    assert done.exit_code == 0, done.output
    table = rows(tmp_path / "a")
    energies = [float(row["predicted_energy_per_atom"]) for row in table]
    assert energies == sorted(energies)
    assert {row["formula_units"] for row in table} == {"1", "2"}
    files = sorted(tmp_path.glob("a/*.cif"))
    assert [file.name for file in files] == [row["file"] for row in table]
    for row, file in zip(table, files, strict=True):
        structure = Structure.from_file(file)
        assert structure.reduced_formula == "Cu3Au"
        assert len(structure) == int(row["n_atoms"])
        assert structure.volume / len(structure) == pytest.approx(float(row["volume_per_atom"]), rel=1e-3)
    for words in ("1 f.u.: ", "2 f.u.: ", "of 20 evaluated; rejected: ", f"wrote {len(table)} CIF files"):
        assert words in done.output

    invoke(*CU3AU, "--seed", 3, "-o", tmp_path / "b")
    invoke(*CU3AU, "--seed", 4, "-o", tmp_path / "c")
    assert rows(tmp_path / "b") == table
    assert rows(tmp_path / "c") != table


def test_ranges_narrow_the_space(tmp_path):
    done = invoke(*CU3AU, "--formula-units", 2, "--space-groups", "1-2", "-o", tmp_path / "out")
    assert "1 f.u." not in done.output
    assert {row["n_atoms"] for row in rows(tmp_path / "out")} == {"8"}


@pytest.mark.usefixtures("plugin_package")
def test_generators_of_other_packages_serve(tmp_path):
    done = invoke("generate", "Cu3Au", "--max-atoms", 4, "--plugin", "strained", "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert len(rows(tmp_path / "out")) == 6


@pytest.mark.usefixtures("plugin_package")
def test_nothing_generated_is_said_and_no_success(tmp_path):
    done = invoke("generate", "Cu3Au", "--max-atoms", 4, "--plugin", "nothing", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "none of 0 candidates is left" in done.output


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--space-groups", "1-300"], "pool.generate.space_groups"),
        (["--space-groups", "a-b"], "space_groups"),
        (["--space-groups", "230"], "pool.generate.space_groups"),
        (["--formula-units", "9"], "pool.generate.formula_units"),
        (["--formula-units", "3-2"], "pool.generate.formula_units"),
        (["--energy-model", "no-such"], "tiers.calculator"),
        (["--optimiser", "magic"], "pool.generate.optimiser"),
        (["--candidates", "0"], "pool.generate.candidates"),
        (["--keep", "1000000"], "pool.generate.keep"),
        (["--energy-model", "gn", "--gn-model", "none.npz"], "pool.generate.model_file"),
        (["--plugin", "no-such"], "pool.generate.plugin"),
    ],
)
def test_bad_input_names_the_field(tmp_path, words, field):
    with pytest.raises(ConfigError) as caught:
        invoke(*CU3AU, *words, "-o", tmp_path / "out")
    assert caught.value.field == field
    assert not (tmp_path / "out").exists()


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "mine.cif").write_text("")
    with pytest.raises(ConfigError, match=r"^output: .* holds CIF files already"):
        invoke(*CU3AU, "-o", tmp_path)
    assert not (tmp_path / "energies.csv").exists()


def test_config_show_knows_recipes(tmp_path):
    done = invoke("config", "show", "MgO", "--recipe", "mlgen-spp", "--final", "lj", "--energy-model", "spp")
    (tmp_path / "search.yaml").write_text(done.output)
    config = load_config(tmp_path / "search.yaml")
    assert [tier.calculator for tier in config.tiers] == ["spp", "lj"]
    assert (config.pool.generate.energy_model, config.pool.rank) == ("spp", "relax")


@pytest.mark.mongo
@pytest.mark.usefixtures("plugin_package")
def test_status_and_results_say_that_the_assembler_took_over(connection):
    config = load_config(
        formula="Cu3Au",
        max_atoms=4,
        pool={"generate": {"plugin": "nothing"}},
        generator={"initial_structures": 2},
        stop={"max_structures": 2},
        tiers=[{"calculator": "emt", "max_steps": 5}],
    )
    submit(connection, config)
    work(connection, config.search_id)
    for words in (["status", config.search_id], ["results", config.search_id]):
        output = invoke(*words).output
        assert "nothing was generated, so the random assembler made the first population: none of 0" in output
    assert "1 f.u.: 0 kept of 0 evaluated; none of 0 candidates is left" in invoke("status", config.search_id).output
