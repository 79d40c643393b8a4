"""Relaxing together, screening and second passes leave the search the same however it is cut into jobs."""

import pytest

from fuse_flows.config import load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.relax.result import Outcome
from fuse_flows.settings import settings
from fuse_flows.store.queries import candidates
from fuse_flows.store.searches import search_document

pytestmark = pytest.mark.mongo

ROUGH = {"calculator": "emt", "max_steps": 12, "fmax": 0.3, "smax": 3, "max_energy_above_best": 0.03}
FINE = {"calculator": "emt", "max_steps": 60, "fmax": 0.05, "smax": 0.5, "stop_above_best": 0.02, "second_pass": 0.01}
POOLED = {"structures_per_job": 3, "steps_per_job": 4, "parallel_proposals": False}


def config(**execution):
    return load_config(
        formula="Cu3Au",
        max_atoms=8,
        seed=5,
        generator={"initial_structures": 6},
        stop={"max_structures": 30},
        proposals_per_step=3,
        tiers=[ROUGH, FINE],
        execution=execution,
    )


def run(connection, search):
    assert submit(connection, search) == "submitted"
    work(connection, search.search_id)
    found = sorted(candidates(connection, search.search_id), key=lambda d: (d["step"], d["index"]))
    for document in found:
        for tier in document["tiers"]:
            del tier["seconds"], tier["cpu_seconds"]
    return [(d["candidate_id"], d["outcome"], d["energy_per_atom"], d["structure"], d["tiers"]) for d in found]


def test_processes_and_cuts_change_nothing(connection_factory, monkeypatch):
    apart, together = connection_factory(), connection_factory()
    found = run(apart, config())
    outcomes = [outcome for _, outcome, *_ in found]
    assert outcomes[:6].count(Outcome.SCREENED_OUT) == 0
    assert outcomes.count(Outcome.SCREENED_OUT) > 2
    assert outcomes.count(Outcome.CONVERGED) > 10
    for _, outcome, energy, _, tiers in found:
        if outcome == Outcome.SCREENED_OUT:
            assert energy is None
            assert tiers[-1]["energy_per_atom"] is not None
            assert "above the best" in tiers[-1]["reason"]
    state = search_document(apart, config().search_id).states[0]
    assert state.references[-1] == pytest.approx(state.best.energy_per_atom, abs=1e-5)
    assert len(state.references) == 2

    monkeypatch.setenv("FUSE_FLOWS_RELAX_WORKERS", "2")
    settings.cache_clear()
    try:
        assert config(**POOLED).search_id == config().search_id
        assert run(together, config(**POOLED)) == found
    finally:
        settings.cache_clear()
