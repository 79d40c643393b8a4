"""Every query of docs/queries.md runs, and says what the package itself says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from fuse_flows.store.tallies import outcome_counts

pytestmark = pytest.mark.mongo
PAGE = (Path(__file__).parents[1] / "docs" / "queries.md").read_text()
QUERIES = dict(re.findall(r"<!-- query: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(name="ask")
def _ask(search, monkeypatch):
    """Run a query of the page and return the lines it prints, split into words."""
    connection = search.connection
    begin = QUERIES["connect"].replace("Cu3Au-0123456789", search.search_id)
    monkeypatch.setattr("fuse_flows.store.connection.connect", lambda: connection)

    def run(name):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(begin + QUERIES[name], {})  # noqa: S102 - the page's own code
        return [line.split() for line in printed.getvalue().splitlines()]

    return run


def test_page_has_ten_queries():
    assert set(QUERIES) == {"connect", "newest", *map(str, range(1, 11))}
    assert PAGE.count("```python") == len(QUERIES)


def test_newest_search(ask, search):
    assert ask("newest") == [[search.search_id]]


@pytest.fixture(name="accepted")
def _accepted(search):
    """Make the lowest candidate one that used up its steps in a VASP tier, below the limit of the forces."""
    lowest = search.best(1)[0]["candidate_id"]

    def say(outcome):
        found = search.connection.outputs.update_one(
            {"metadata.search_id": search.search_id, "output.candidates.candidate_id": lowest},
            {"$set": {"output.candidates.$.outcome": outcome}},
        )
        assert found.modified_count == 1

    say("ACCEPTED")
    yield lowest
    say("CONVERGED")


@pytest.mark.parametrize("name", ["1", "3"])
def test_accepted_candidates_are_found(ask, accepted, name):
    assert ask(name)[0][0] == accepted


def test_accepted_candidates_count(ask, search, accepted):
    assert search.best(1)[0]["candidate_id"] == accepted
    test_within(ask, search)
    test_structure(ask, search)
    test_ancestors(ask, search)
    test_symmetric_and_dense(ask, search)


def test_lowest_energies(ask, search):
    assert [line[0] for line in ask("1")] == [doc["candidate_id"] for doc in search.best(5)]


def test_within(ask, search):
    assert ask("2") == [[str(len(search.candidates(within=0.1)))]]


def test_minima(ask, search):
    found = ask("3")
    clusters = {doc["cluster_id"] for doc in search.best(None)}
    assert len(found) == len(clusters)
    assert sum(int(line[2]) for line in found) == len(search.best(None))
    assert found[0][0] == search.best(1)[0]["candidate_id"]


def test_structure(ask, search):
    ((formula, volume, atoms),) = ask("4")
    best = search.structure(search.best(1)[0]["candidate_id"])
    assert (formula, float(volume), int(atoms)) == ("Cu3Au", best.volume, len(best))


def test_outcomes(ask, search):
    totals = {}
    for number, outcome, *_ in ask("5"):
        totals[outcome] = totals.get(outcome, 0) + int(number)
    assert totals == outcome_counts(search.connection, search.search_id)


def test_moves(ask, search):
    moves = search.moves()
    found = {name: (int(proposed), int(accepted)) for name, proposed, accepted, _ in ask("6")}
    used = moves[moves["proposed"] > 0]
    assert found == {row.Index: (row.proposed, row.accepted) for row in used.itertuples()}


def test_tiers(ask, search):
    steps = search.tiers().groupby("tier")["steps"]
    assert [(int(line[1]), int(line[2])) for line in ask("7")] == list(zip(steps.size(), steps.sum(), strict=True))


def test_ancestors(ask, search):
    chain = ask("8")
    assert float(chain[0][-1]) == search.best(1)[0]["energy_per_atom"]
    assert chain[-1][0] == "0"
    steps = [int(line[0]) for line in chain]
    assert steps == sorted(steps, reverse=True)


def test_symmetric_and_dense(ask, search):
    found = ask("9")
    numbers = [doc["space_group_number"] for doc in search.best(None)]
    assert len(found) == min(5, sum(number >= 75 for number in numbers)) > 0
    densities = [float(line[-2]) for line in found]
    assert densities == sorted(densities, reverse=True)


def test_searches(ask, search):
    ((name, structures, lowest, walkers),) = ask("10")
    assert (name, int(structures), int(walkers)) == (search.search_id, len(search.candidates()), 2)
    assert float(lowest) == search.best(1)[0]["energy_per_atom"]
