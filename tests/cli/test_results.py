"""What the command line shows of a search, and what it writes."""

import csv
import io
import json

import ase.db
import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner

from fuse_flows.cli.app import app
from fuse_flows.errors import FuseFlowsError
from fuse_flows.store import Search

pytestmark = pytest.mark.mongo


def command(*words):
    """Run a command in this process; the command line as a process is tested in test_commands.py."""
    return CliRunner().invoke(app, [str(word) for word in words])


def test_filters_as_json_and_csv(search):
    limit = search.unique()[2]["energy_per_atom"] - search.best(1)[0]["energy_per_atom"] + 1e-9
    near = json.loads(command("results", "Cu3Au", "--within", limit, "--json").stdout)
    assert near == search.unique(within=limit)
    assert len(near) == 3
    group = near[1]["space_group"]
    rows = list(
        csv.DictReader(io.StringIO(command("results", "Cu3Au", "--all", "--space-group", group, "--csv").stdout))
    )
    of_group = search.best(10, space_group=group)
    assert [row["candidate_id"] for row in rows] == [doc["candidate_id"] for doc in of_group]
    above = [1000 * (doc["energy_per_atom"] - near[0]["energy_per_atom"]) for doc in of_group]
    assert [float(row["above_best_mev"]) for row in rows] == pytest.approx(above)


def test_a_table_of_thousands_is_cut_short_and_says_so(search, monkeypatch):
    everything = ["results", "Cu3Au", "--all", "--within", 100]
    n = len(search.best(None))
    assert "more than these" not in command(*everything).stdout
    monkeypatch.setattr("fuse_flows.cli.results.MOST_ROWS", n - 1)
    shown = command(*everything).stdout
    assert f"more than these {n - 1}" in shown
    assert sum(doc["candidate_id"] in shown for doc in search.best(None)) == n - 1
    assert "more than these" not in command(*everything, "--top", n).stdout
    assert len(json.loads(command(*everything, "--json").stdout)) == n


def test_filters_that_leave_nothing(search):
    other = next(number for number in range(3, 231) if not search.best(1, space_group=number))
    assert "passes these filters" in command("results", "Cu3Au", "--space-group", other).stdout


def test_failures_with_their_reason(search):
    failed = search.candidates(outcome="NOT_CONVERGED", documents=True)
    assert failed
    shown = command("results", "Cu3Au", "--outcome", "not-converged", "--top", 100).stdout
    assert all(doc["candidate_id"] in shown and doc["reason"][:20] in shown for doc in failed)
    assert "there is no candidate" in command("results", "Cu3Au", "--outcome", "exploded").stdout


@pytest.mark.usefixtures("search")
def test_successes_of_one_outcome():
    every = json.loads(command("results", "Cu3Au", "--all", "--top", 100, "--json").stdout)
    assert {doc["outcome"] for doc in every} == {"CONVERGED"}
    asked = ("results", "Cu3Au", "--all", "--top", 2, "--json", "--outcome")
    assert json.loads(command(*asked, "converged").stdout) == every[:2]
    assert json.loads(command(*asked, "accepted").stdout) == []


def test_odd_names_are_shown_as_they_are(search):
    odd = [doc["origin"] for doc in search.best(None) if doc["origin"] and "<img" in doc["origin"]]
    assert odd
    assert odd[0] in command("results", "Cu3Au", "--top", 100, "--all").stdout


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["results", "Cu3Au", "--space-group", "Fm-4m"], "space_group"),
        (["results", "Cu3Au", "--outcome", "lost"], "outcome"),
        (["results", "Cu3Au", "--outcome", "exploded", "--within", "0.1"], "outcome"),
        (["results", "Cu3Au", "--json", "--csv"], "json"),
        (["export", "Cu3Au", "-f", "archive", "--top", "3"], "format"),
        (["export", "Cu3Au", "--candidate", "zz"], "candidate"),
        (["export", "Cu3Au", "--candidate", "0", "--top", "3"], "candidate"),
        (["export", "Cu3Au", "-o", "."], "output"),
        (["import", "missing.zip"], "archive"),
        (["report", "CaO"], "search"),
    ],
)
def test_bad_input_names_the_field(tmp_path, words, field):
    (tmp_path / "there").touch()
    done = command(*words)
    assert isinstance(done.exception, FuseFlowsError)
    assert str(done.exception).startswith(f"{field}: ")
    assert "\n" not in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_files(search, tmp_path, connection_factory):
    best = search.unique(2)
    assert command("export", "Cu3Au", "--top", 2, "-o", "cifs").exit_code == 0
    found = sorted((tmp_path / "cifs").glob("*.cif"))
    assert [len(Structure.from_file(path)) for path in found] == [doc["n_atoms"] for doc in best]
    assert command("export", "Cu3Au", "-f", "ase", "--candidate", best[1]["candidate_id"][:10]).exit_code == 0
    assert ase.db.connect(tmp_path / f"{search.search_id}.db").get(id=1).energy == best[1]["energy"]
    assert command("export", "Cu3Au", "-f", "pictures", "-o", "pictures").exit_code == 0
    assert (tmp_path / "pictures" / "energies.svg").stat().st_size > 5000
    assert command("report", "Cu3Au", "-o", "a.html", "--top", 0).exit_code == 0
    assert search.search_id in (tmp_path / "a.html").read_text()

    assert command("export", "Cu3Au", "-f", "archive", "-o", "a.zip").exit_code == 0
    expected = search.unique()
    elsewhere = connection_factory()
    done = command("import", "a.zip")
    assert "documents are new, 0 were there already" in done.stdout
    assert Search("Cu3Au", elsewhere).unique() == expected
    assert json.loads(command("results", "Cu3Au", "--top", 100, "--json").stdout) == expected
