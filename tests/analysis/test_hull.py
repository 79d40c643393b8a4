"""The hull over several searches, and the columns that references add to what is shown of a search."""

import contextlib
import csv
import io
import json

import ase.io
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry
from typer.testing import CliRunner

from fuse_flows.analysis.formats import entry_of
from fuse_flows.analysis.hull import HULL_COLUMNS, best_entries, hull_diagram, hull_figure, hull_rows
from fuse_flows.analysis.report import report_html
from fuse_flows.cli.app import app
from fuse_flows.cli.hull import _tier
from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError, FuseFlowsError
from fuse_flows.flows.local import submit, work
from fuse_flows.relax.gpaw.options import with_gpaw_defaults
from fuse_flows.relax.hull import ReferenceEntries, level_of, level_of_tier, read_references
from fuse_flows.store import Search

pytestmark = pytest.mark.mongo
SITES = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def entries(level="emt", **more):
    """Gold and copper as EMT has them, to the accuracy that matters here, and more if wanted; eV per formula."""
    values = {"Au": 0.0, "Cu": -0.006, **more}
    return tuple(ComputedEntry(name, e, parameters={"level": level}) for name, e in values.items())


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_candidates_with_their_energy_above_the_hull(search):
    references = ReferenceEntries(entries())
    zero = 3 * -0.006 / 4
    frame = search.candidates(hull=references)
    relaxed = frame[frame["energy_per_atom"].notna()]
    assert (relaxed["e_above_hull"] - relaxed["energy_per_atom"]).to_numpy() == pytest.approx(-zero)
    assert frame["e_above_hull"].isna().sum() == frame["energy_per_atom"].isna().sum() > 0
    assert set(frame["hull_level"]) == {"emt"}
    documents = search.candidates(documents=True, hull=references)
    above = {doc["candidate_id"]: doc["e_above_hull"] for doc in documents if doc["e_above_hull"] is not None}
    assert above == dict(zip(relaxed["candidate_id"], relaxed["e_above_hull"], strict=True))
    assert sum(doc["e_above_hull"] is None for doc in documents) == len(frame) - len(relaxed)
    assert "e_above_hull" not in search.candidates()


def test_entries_of_another_level_are_refused_or_marked(search):
    with pytest.raises(ConfigError, match="GGA"):
        search.candidates(hull=ReferenceEntries(entries("GGA")))
    mixed = search.candidates(hull=ReferenceEntries(entries("GGA"), mixed=True))
    assert set(mixed["hull_level"]) == {"emt mixed with GGA"}


def test_command_line_and_report(search, tmp_path):
    file = tmp_path / "hull.json"
    ReferenceEntries(entries()).write(file)
    rows = list(csv.DictReader(io.StringIO(command("results", "Cu3Au", "--csv", "--hull", file).stdout)))
    lowest = search.best(1)[0]["energy_per_atom"]
    assert float(rows[0]["e_above_hull"]) == pytest.approx(lowest + 0.0045)
    shown = command("results", "Cu3Au", "--hull", file).stdout
    assert "above hull" in shown
    assert "hull: energies of emt\n" in shown
    assert f"{lowest + 0.0045:+.4f}" in shown
    page = report_html(search, 0, read_references(file))
    assert "eV/atom above hull (emt)" in page
    assert f"{lowest + 0.0045:+.4f}" in page
    assert "above hull" not in report_html(search, 0)
    ReferenceEntries(entries("GGA")).write(file)
    refused = command("results", "Cu3Au", "--hull", file)
    assert isinstance(refused.exception, FuseFlowsError)
    assert "GGA" in str(refused.exception)
    assert "hull: energies of emt mixed with GGA\n" in command("results", "Cu3Au", "--hull", file, "--mixed").stdout


@pytest.fixture(scope="module", name="two_searches")
def _two_searches(finished_search, tmp_path_factory):
    """Searches of Cu3Au (made by others) and CuAu in one database."""
    connection, search_id = finished_search
    with contextlib.chdir(tmp_path_factory.mktemp("work")):  # where FireWorks leaves its files
        return [Search(search_id, connection), searched("CuAu", connection)]


def searched(formula, connection):
    """Run a search as small as can be."""
    config = load_config(
        formula=formula,
        max_atoms=4,
        generator={"initial_structures": 2},
        stop={"max_structures": 3},
        tiers=[{"calculator": "emt", "fmax": 0.2, "smax": 2, "second_pass": None}],
    )
    submit(connection, config)
    work(connection, config.search_id)
    return Search(config.search_id, connection)


def test_rows_of_several_compositions(two_searches):
    best = {search.formula: search.best(1)[0] for search in two_searches}
    # far above everything, so that the references alone make the hull; far below, so that the searches do
    for copper, gold in ((-5.0, -5.0), (5.0, 5.0)):
        rows = hull_rows(best_entries(two_searches), ReferenceEntries(entries(Cu=copper, Au=gold)))
        assert {row["formula"] for row in rows} == {"Cu3Au", "CuAu"}
        for row in rows:
            doc = best[row["formula"]]
            assert row["candidate_id"] == doc["candidate_id"]
            assert row["above_references"] == pytest.approx(doc["energy_per_atom"] - copper)
            if copper < 0:
                assert row["e_above_hull"] == pytest.approx(row["above_references"])
            assert list(row) == list(HULL_COLUMNS)
        assert min(row["e_above_hull"] for row in rows) == pytest.approx(5 + min(e(best)) if copper < 0 else 0)
    (row,) = hull_rows(best_entries(two_searches[:1]), ReferenceEntries(entries()))
    assert row["decomposition"] == "0.75 Cu + 0.25 Au"


def e(best):
    return [doc["energy_per_atom"] for doc in best.values()]


def test_searches_of_different_levels_are_refused(two_searches):
    other = two_searches[1]
    tier = other.config.tiers[0].model_copy(update={"calculator_kwargs": {"asap_cutoff": True}})
    config = other.config.model_copy(update={"tiers": (tier,)})
    odd = Search(other.search_id, other.connection)
    vars(odd)["config"] = config
    with pytest.raises(ConfigError, match="several levels"):
        best_entries([two_searches[0], odd])


def test_picture_shows_all_phases(two_searches, tmp_path):
    diagram = hull_diagram(best_entries(two_searches), ReferenceEntries(entries(Cu=5.0, Au=5.0)))
    figure = hull_figure(diagram, "a $title$")
    figure.savefig(tmp_path / "hull.png")
    assert (tmp_path / "hull.png").stat().st_size > 10_000
    names = {entry.reduced_formula for entry in diagram.stable_entries}
    assert {"Cu", "Au"} < names <= {"Cu", "Au", "Cu3Au", "CuAu"}
    alone = ReferenceEntries(entries()).diagram("Cu")
    with pytest.raises(ConfigError, match="1 elements"):
        hull_figure(alone)


@pytest.mark.usefixtures("search")
def test_searches_of_elements_are_references(two_searches, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copper, gold = (searched(element, two_searches[0].connection) for element in ("Cu", "Au"))
    lowest = {one.formula: one.best(1)[0]["energy_per_atom"] for one in (copper, gold)}
    asked = command("hull", "Cu3Au", "CuAu", "Cu", "Au", "--json")
    rows = {row["formula"]: row for row in json.loads(asked.stdout)}
    assert {rows[name]["e_above_hull"] for name in ("Cu", "Au")} == {0.0}
    line = (3 * lowest["Cu"] + lowest["Au"]) / 4
    assert rows["Cu3Au"]["above_references"] == pytest.approx(rows["Cu3Au"]["energy_per_atom"] - line)
    refused = command("hull", "Cu3Au", "Cu")  # gold is nowhere
    assert refused.exception.field == "hull"
    ReferenceEntries(entries()[:1]).write(tmp_path / "gold.json")
    (row,) = (
        row
        for row in json.loads(command("hull", "Cu3Au", "Cu", "--hull", "gold.json", "--json").stdout)
        if row["formula"] == "Cu3Au"
    )
    assert row["above_references"] == pytest.approx(row["energy_per_atom"] - 3 * lowest["Cu"] / 4)


@pytest.mark.usefixtures("search", "two_searches")
def test_references_of_a_folder_and_the_table(tmp_path, monkeypatch):
    folder, file = tmp_path / "cifs", tmp_path / "emt.json"
    folder.mkdir()
    for symbol, edge in (("Cu", 3.7), ("Au", 4.15)):
        Structure(Lattice.cubic(edge), [symbol] * 4, SITES).to(folder / f"{symbol}.cif")
    (folder / "notes.txt").write_text("no structure")
    several = [Structure(Lattice.cubic(edge), ["Au"] * 4, SITES).to_ase_atoms() for edge in (4.1, 4.2)]
    ase.io.write(folder / "more.extxyz", several)
    made = command("hull", "--references", folder, "--tier", "emt", "--hull", file)
    assert made.exit_code == 0, made.output
    assert "notes.txt cannot be read" in made.stdout
    assert "more.extxyz#2: Au " in made.stdout
    found = read_references(file)
    energies = {entry.reduced_formula: entry.energy_per_atom for entry in found.entries}
    assert energies["Cu"] == pytest.approx(-0.0070, abs=3e-4)  # EMT: fcc copper at rest
    assert energies["Au"] == pytest.approx(0.0, abs=5e-3)
    assert {level_of(entry) for entry in found.entries} == {"emt"}
    again = command("hull", "--references", folder, "--tier", "emt", "--hull", file)
    assert "4 entries" in again.stdout
    assert "eV/atom" not in again.stdout  # nothing is relaxed twice

    monkeypatch.chdir(tmp_path)
    asked = command("hull", "Cu3Au", "CuAu", "--hull", file, "--json", "--picture", "hull.png")
    assert asked.exit_code == 0, asked.output
    rows = json.loads(asked.stdout)
    expected = hull_rows(best_entries([Search("Cu3Au"), Search("CuAu")]), found)
    assert rows == expected
    assert (tmp_path / "hull.png").stat().st_size > 10_000
    assert "above references" in command("hull", "Cu3Au", "--hull", file).stdout
    lines = command("hull", "Cu3Au", "CuAu", "--hull", file, "--csv").stdout.splitlines()
    assert lines[0] == ",".join(HULL_COLUMNS)
    assert len(lines) == 3


def test_exported_structures_are_references_of_their_level(search, tmp_path):
    file = tmp_path / "own.json"
    assert command("export", "Cu3Au", "-f", "json", "-o", file).exit_code == 0
    found = read_references(file)
    assert found.levels == ("emt",)
    lowest = search.best(1)[0]["energy_per_atom"]
    hull = ReferenceEntries((*found.entries, *entries(Cu=lowest + 1, Au=lowest + 1)))
    assert search.hull_energy(hull) == pytest.approx(lowest)
    under_pressure = entry_of(search.best(1)[0] | {"pressure": 5.0}, search.config.tiers[-1])
    assert level_of(under_pressure) == "unknown"  # its energy is no enthalpy


def test_references_have_the_level_of_a_search_with_default_options():
    search = with_gpaw_defaults(load_config(formula="MgO", tiers=[{"calculator": "spp"}, {"calculator": "gpaw"}]))
    assert level_of_tier(_tier("gpaw", None)) == level_of_tier(search.tiers[-1])


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["hull"], "search"),
        (["hull", "Cu3Au", "--json", "--csv"], "json"),
        (["hull", "Cu3Au", "--hull", "absent.json"], "hull"),
        (["hull", "--references", "absent"], "references"),
    ],
)
def test_what_is_asked_wrongly(words, field):
    error = command(*words).exception
    assert isinstance(error, ConfigError)
    assert error.field == field
