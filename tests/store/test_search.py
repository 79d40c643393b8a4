"""A search as a user looks at it: filters, minima, structures, history."""

import pytest
from pymatgen.core import Structure

from fuse_flows.errors import ConfigError, DatabaseError
from fuse_flows.relax.result import Outcome
from fuse_flows.store import Search
from fuse_flows.store.queries import candidates
from fuse_flows.store.searches import search_document
from fuse_flows.store.selection import outcome_of, space_group_number

pytestmark = pytest.mark.mongo


def test_found_by_id_beginning_or_formula(search):
    assert {Search(text).search_id for text in ("Cu3Au", search.search_id, search.search_id[:9])} == {search.search_id}
    assert search.formula == "Cu3Au"
    assert search.config.search_id == search.search_id
    with pytest.raises(DatabaseError, match="neither a search nor"):
        Search("CaO")


def test_candidates_as_rows_and_as_documents(search):
    documents = search.candidates(documents=True)
    frame = search.candidates()
    assert documents == candidates(search.connection, search.search_id)
    assert frame["candidate_id"].tolist() == [doc["candidate_id"] for doc in documents]
    assert frame["number"].tolist() == list(range(1, len(documents) + 1))
    assert frame["energy_per_atom"].notna().tolist() == [doc["energy_per_atom"] is not None for doc in documents]


def test_filters(search):
    documents = search.candidates(documents=True)
    energies = [doc["energy_per_atom"] for doc in documents if doc["energy_per_atom"] is not None]
    assert 0 < len(energies) < len(documents)
    limit = sorted(energies)[len(energies) // 2] - min(energies)

    def expected(condition):
        return [number for number, doc in enumerate(documents, start=1) if condition(doc)]

    near = expected(lambda doc: doc["energy_per_atom"] is not None and doc["energy_per_atom"] <= min(energies) + limit)
    assert 0 < len(near) < len(energies)
    assert search.candidates(within=limit)["number"].tolist() == near
    assert search.candidates(outcome="not-converged")["number"].tolist() == expected(
        lambda doc: doc["outcome"] == "NOT_CONVERGED"
    )
    group = documents[near[0] - 1]["space_group_number"]
    of_group = expected(lambda doc: doc["space_group_number"] == group)
    for spelling in (group, str(group), documents[near[0] - 1]["space_group"]):
        assert search.candidates(space_group=spelling)["number"].tolist() == of_group
        found = search.candidates(documents=True, space_group=spelling, within=limit)
        assert [doc["candidate_id"] for doc in found] == [
            documents[k - 1]["candidate_id"] for k in near if k in of_group
        ]
    assert search.candidates(walker=1, step={"$gt": 0})["walker"].unique().tolist() == [1]


def test_best_and_unique(search):
    every = search.best(None)
    energies = [doc["energy_per_atom"] for doc in every]
    assert energies == sorted(energies)
    assert [doc["candidate_id"] for doc in search.best(3)] == [doc["candidate_id"] for doc in every[:3]]
    minima = search.unique()
    assert len(minima) < len(every)
    assert sum(doc["copies"] for doc in minima) == len(every)
    assert search.unique(2) == minima[:2]
    assert search.unique(within=0.0) == minima[:1]
    group = minima[-1]["space_group_number"]
    assert search.unique(space_group=group) == [doc for doc in minima if doc["space_group_number"] == group]
    assert search.unique(1, space_group=group)[0]["space_group_number"] == group


def test_structure(search):
    best = search.best(1)[0]
    assert search.structure(best["candidate_id"]) == Structure.from_dict(best["structure"])
    assert search.structure(best["candidate_id"][:8]) == search.structure(best["candidate_id"])
    before = search.structure(best["candidate_id"], before=True)
    assert before == Structure.from_dict(best["structure_before"]) != search.structure(best["candidate_id"])
    for unknown in ("zz", ""):
        with pytest.raises(DatabaseError, match="is no candidate"):
            search.structure(unknown)


def test_history(search):
    history = search.history()
    for _, walk in history.groupby("walker"):
        lowest = walk["lowest"].dropna()
        assert lowest.is_monotonic_decreasing
        assert lowest.iloc[-1] == walk["energy_per_atom"].min()
        new = walk[walk["is_new_lowest"]]
        assert new["energy_per_atom"].tolist() == new["lowest"].tolist() == sorted(set(lowest), reverse=True)


def test_moves_are_those_the_walkers_counted(search):
    moves = search.moves()
    counted = dict.fromkeys(moves.index, (0, 0, 0))
    for state in search_document(search.connection, search.search_id).states:
        for name, move in state.moves.items():
            here = (move.proposed, move.accepted, sum(move.failed.values()))
            counted[name] = tuple(a + b for a, b in zip(counted[name], here, strict=True))
    assert {row.Index: (row.proposed, row.accepted, row.failed) for row in moves.itertuples()} == counted
    assert moves["number"].tolist() == list(range(1, 15))
    assert moves["proposed"].sum() > 0 < moves["accepted"].sum()


def test_tiers(search):
    tiers = search.tiers()
    documents = search.candidates(documents=True)
    assert len(tiers) == sum(len(doc["tiers"]) for doc in documents)
    assert tiers["seconds"].sum() == pytest.approx(sum(doc["seconds"] for doc in documents))
    assert set(tiers["tier"]) == {1, 2}


def test_span(search):
    first, last = search.span()
    assert first < last


@pytest.mark.parametrize(
    ("text", "number"), [(225, 225), ("225", 225), ("Fm-3m", 225), ("P6_3/mmc", 194), ("P63/mmc", 194)]
)
def test_space_groups(text, number):
    assert space_group_number(text) == number


@pytest.mark.parametrize("text", ["0", 231, "-1", "Fm-4m", "", "x"])
def test_no_space_group(text):
    with pytest.raises(ConfigError, match=r"space_group: .* is no space group; give"):
        space_group_number(text)


def test_outcomes():
    assert outcome_of("too-close") is Outcome.TOO_CLOSE
    with pytest.raises(ConfigError, match="outcome: 'lost' does not exist; choose one of CONVERGED"):
        outcome_of("lost")
