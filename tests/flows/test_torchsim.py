"""A search whose tier is a model of torch-sim: on the LaunchPad, and the same again from the same seed."""

import pytest

from fuse_flows.config import load_config
from fuse_flows.flows.checks import check_search
from fuse_flows.flows.local import submit, work
from fuse_flows.store.queries import candidates

pytestmark = pytest.mark.mongo
pytest.importorskip("torch_sim")


def run(connection, **changes):
    kwargs = {"model": "lennard_jones", "sigma": 1.9, "epsilon": 0.5, "cutoff": 5.0}
    values = {
        "formula": "MgO",
        "max_atoms": 6,
        "seed": 3,
        "generator": {"initial_structures": 4},
        "stop": {"max_structures": 10},
        "tiers": [{"calculator": "torchsim", "calculator_kwargs": kwargs, "max_steps": 60, "fmax": 0.2, "smax": 2}],
    }
    search = load_config(**values | changes)
    check_search(search)
    submit(connection, search)
    work(connection, search.search_id)
    found = sorted(candidates(connection, search.search_id), key=lambda doc: (doc["step"], doc["index"]))
    return [
        (doc["candidate_id"], doc["energy_per_atom"], doc["outcome"], doc["move"], doc["accepted"]) for doc in found
    ]


def test_the_same_seed_is_the_same_search(connection_factory):
    first = run(connection_factory())
    assert len(first) == 10
    assert [outcome for _, _, outcome, *_ in first].count("CONVERGED") > 5
    assert run(connection_factory(), execution={"structures_per_job": 3, "jobs_per_segment": 2}) == first
    energies = [energy for _, energy, *_ in first]
    assert [energy for _, energy, *_ in run(connection_factory(), seed=4)] != energies
