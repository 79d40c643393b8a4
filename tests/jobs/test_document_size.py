"""Documents stay below the 16 MB that MongoDB takes: jobs of many steps end earlier, what cannot fit is refused."""

import bson
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import load_config
from fuse_flows.errors import ConfigError
from fuse_flows.jobs import walk as walking
from fuse_flows.jobs.evaluate import candidate_of, evaluate, evaluation_of
from fuse_flows.relax.result import Outcome, RelaxResult
from fuse_flows.schemas.base import to_mongo
from fuse_flows.schemas.size import ENOUGH_BYTES, bytes_of
from fuse_flows.schemas.step import StepDoc
from fuse_flows.search.judge import start
from fuse_flows.search.propose import Proposal, propose_initial

LARGEST = 16 * 1024**2


def config(**changes):
    values = {
        "formula": "Al",
        "max_atoms": 4,
        "generator": {"initial_structures": 3},
        "stop": {"max_structures": 23},
        "execution": {"steps_per_job": 20},
        "tiers": [{"calculator": "emt", "max_steps": 3, "fmax": 0.2, "smax": 2}],
    }
    return load_config(**values | changes)


def begun(search):
    members = [evaluate(propose_initial(search, index), search) for index in range(3)]
    return start(search, [evaluation_of(member) for member in members])


def without_seconds(candidates):
    hidden = {"seconds", "tiers"}
    return [{key: value for key, value in found.items() if key not in hidden} for found in candidates]


def test_job_of_many_steps_ends_early_and_the_search_is_the_same(monkeypatch):
    search = config()
    first = begun(search)
    state, candidates = walking.walk(search, first)
    assert (state.step, len(candidates)) == (20, 20)
    assert bytes_of(candidates) == sum(len(bson.encode(found)) for found in candidates) < ENOUGH_BYTES
    monkeypatch.setattr(walking, "ENOUGH_BYTES", bytes_of(candidates) // 4)
    parts, after = [], first
    while after.stop_reason is None:
        after, part = walking.walk(search, after)
        parts.append(part)
    assert len(parts) > 3
    assert after == state
    assert without_seconds(found for part in parts for found in part) == without_seconds(candidates)


@pytest.mark.parametrize("max_atoms", [200, 1000])
def test_largest_step_that_is_accepted_fits(max_atoms):
    with pytest.raises(ConfigError, match="proposals_per_step: 1000 structures") as refused:
        config(max_atoms=max_atoms, proposals_per_step=1000, stop={"max_structures": 5000})
    most = int(str(refused.value).split("use ")[1].split(" at most")[0])
    search = config(max_atoms=max_atoms, proposals_per_step=most, stop={"max_structures": 5000})
    coords = np.random.default_rng(1).uniform(size=(max_atoms, 3))
    structure = Structure(Lattice.cubic(2.6 * max_atoms ** (1 / 3)), ["Al"] * max_atoms, coords)
    structure.add_site_property("magmom", [1.234567] * max_atoms)
    proposal = Proposal("0" * 16, walker=0, step=1, index=0, source="random", structure=structure)
    results = [RelaxResult(Outcome.NOT_CONVERGED, structure, engine="emt", energy=-1.0)] * 3
    candidate = candidate_of(proposal, results, search)
    state = begun(config()).model_copy(update={"current_structure": candidate["structure"]})
    step = StepDoc(search_id=search.search_id, step=1, candidates=[candidate] * most, state=state)
    assert LARGEST / 2 < len(bson.encode(to_mongo(step))) < LARGEST


def test_first_populations_that_cannot_fit_are_refused():
    values = {"max_atoms": 500, "generator": {"initial_structures": 200}, "stop": {"max_structures": 300}}
    with pytest.raises(ConfigError, match=r"execution\.structures_per_job: 200 structures of 500 atoms do not fit"):
        config(**values, execution={"structures_per_job": 1000})
    assert config(**values, execution={"structures_per_job": 50}).execution.structures_per_job == 50
    with pytest.raises(ConfigError, match="smaller max_atoms"):
        config(max_atoms=100_000)
