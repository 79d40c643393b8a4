"""A search under pressure on the LaunchPad: documents hold energy and enthalpy, and the enthalpy decides."""

import pytest
from ase.units import GPa
from pymatgen.core import Structure
from rich.console import Console

from fuse_flows.analysis.pictures import quantity
from fuse_flows.analysis.tables import best_rows, candidate_frame
from fuse_flows.cli import results
from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.store import Search
from fuse_flows.store.queries import best_candidates, candidates, latest_state

pytestmark = pytest.mark.mongo
PRESSURE = 80.0


def test_search(connection, monkeypatch):
    search = load_config(
        formula="Cu3Au",
        max_atoms=8,
        seed=5,
        pressure=PRESSURE,
        generator={"initial_structures": 4},
        stop={"max_structures": 9},
        execution={"structures_per_job": 4, "steps_per_job": 5},
        tiers=[{"calculator": "emt", "max_steps": 60, "fmax": 0.1, "smax": 1.0, "second_pass": None}],
    )
    submit(connection, search)
    work(connection, search.search_id)
    found = candidates(connection, search.search_id)
    relaxed = [doc for doc in found if doc["energy_per_atom"] is not None]
    assert len(found) == 9
    assert len(relaxed) > 3
    for doc in relaxed:
        volume = Structure.from_dict(doc["structure"]).volume
        assert doc["pressure"] == doc["tiers"][0]["pressure"] == PRESSURE
        assert doc["enthalpy"] == pytest.approx(doc["energy"] + PRESSURE * GPa * volume)
        assert doc["enthalpy_per_atom"] == pytest.approx(doc["enthalpy"] / doc["n_atoms"])
        assert doc["energy_per_atom"] == pytest.approx(doc["energy"] / doc["n_atoms"])
        assert doc["tiers"][0]["enthalpy_per_atom"] == doc["enthalpy_per_atom"]
        assert doc["tiers"][0]["smax"] <= 1.0
    for doc in found:
        if doc not in relaxed:
            assert (doc["enthalpy"], doc["enthalpy_per_atom"]) == (None, None)
    ranked = sorted(relaxed, key=lambda doc: doc["enthalpy_per_atom"])
    best = best_candidates(connection, search.search_id, None)
    assert [doc["candidate_id"] for doc in best] == [doc["candidate_id"] for doc in ranked]
    state = latest_state(connection, search.search_id)
    assert state["best"]["energy_per_atom"] == pytest.approx(ranked[0]["enthalpy_per_atom"], abs=1e-5)
    assert state["best"]["tier_energies"] == [pytest.approx(ranked[0]["enthalpy_per_atom"])]
    view = connection.database["fuse_candidates"]
    lowest = view.find_one(
        {"search_id": search.search_id, "enthalpy_per_atom": {"$ne": None}}, sort=[("enthalpy_per_atom", 1)]
    )
    assert lowest["candidate_id"] == ranked[0]["candidate_id"]
    # what is shown says so
    frame = Search(search.search_id, connection).candidates(within=1e-6)
    assert frame["candidate_id"].tolist() == [ranked[0]["candidate_id"]]
    assert quantity(candidate_frame(found)) == "enthalpy at 80 GPa"
    rows = best_rows(best)
    assert [row["above_best_mev"] for row in rows] == sorted(row["above_best_mev"] for row in rows)
    console = Console(record=True, width=200)
    monkeypatch.setattr(results, "console", console)
    results._print_best(best, search.search_id, unique=False)
    printed = console.export_text()
    assert "enthalpies at 80 GPa" in printed
    assert f"{ranked[0]['enthalpy_per_atom']:.4f}" in printed
