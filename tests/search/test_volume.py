"""What is learned about the volume: low energies count, the state stays small, and no structure locks itself out."""

import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import MoveName, make_config
from fuse_flows.search.judge import Evaluation, judge, start
from fuse_flows.search.propose import propose
from fuse_flows.search.state import SearchState, VolumeSample
from fuse_flows.search.volume import MOST_SAMPLES, learned_volumes, volume_window
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.volumes import estimated_volume

CONFIG = make_config({"formula": "MgO", "max_atoms": 8})
ESTIMATE = estimated_volume(FormulaUnit.from_config(CONFIG))
ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def evaluation(energy, volume, index=0, outcome="CONVERGED"):
    return Evaluation(str(index), 0, index, outcome, energy, 2, volume_per_atom=volume)


def samples(*pairs):
    return [VolumeSample(energy_per_atom=energy, volume_per_atom=volume) for energy, volume in pairs]


def test_before_anything_is_known_the_elements_decide():
    window = volume_window(CONFIG)
    assert window.target == pytest.approx(ESTIMATE)
    assert (window.low, window.high) == pytest.approx((0.5 * ESTIMATE, 2.5 * ESTIMATE))


def test_a_pool_moves_the_target_until_candidates_have_relaxed():
    pool = {"structures": "cifs", "digest": "0", "volume": 2 * ESTIMATE}
    config = make_config(CONFIG.model_dump() | {"pool": pool})
    assert 1.5 * ESTIMATE < volume_window(config).target < 2 * ESTIMATE
    assert volume_window(config, samples((-6.0, ESTIMATE))).target == pytest.approx(ESTIMATE)


def test_low_energies_count_most():
    low, high = 0.8 * ESTIMATE, 1.6 * ESTIMATE
    target = volume_window(CONFIG, samples((-6.0, low), (-5.0, high))).target
    assert low < target < ESTIMATE
    assert volume_window(CONFIG, samples((-6.0, high), (-5.0, low))).target > ESTIMATE


def test_window_is_never_narrower_than_configured_and_opens_with_the_spread():
    alike = volume_window(CONFIG, samples(*((-6.0 + 0.01 * i, ESTIMATE) for i in range(5))))
    assert (alike.low / alike.target, alike.high / alike.target) == pytest.approx((0.5, 2.5))
    spread = volume_window(CONFIG, samples((-6.0, ESTIMATE / 2), (-5.99, 2 * ESTIMATE)))
    assert spread.low / spread.target < 0.5
    assert spread.high / spread.target > 2.5


def test_failures_and_copies_teach_nothing():
    failed = evaluation(None, 99.0, outcome="EXPLODED")
    known = learned_volumes((), [evaluation(-6.0, 9.5), failed, evaluation(-5.0, None)], CONFIG)
    assert known == samples((-6.0, 9.5))
    assert learned_volumes(known, [evaluation(-5.9999, 9.51)], CONFIG) == known
    assert len(learned_volumes(known, [evaluation(-5.9999, 11.0), evaluation(-5.9, 9.5)], CONFIG)) == 3


def test_only_the_lowest_are_kept_in_any_order():
    rng = np.random.default_rng(0)
    found = [
        evaluation(float(e), float(v)) for e, v in zip(rng.uniform(-6, -5, 40), rng.uniform(8, 16, 40), strict=True)
    ]
    known = learned_volumes((), found, CONFIG)
    assert known == learned_volumes((), found[::-1], CONFIG)
    assert len(known) == MOST_SAMPLES
    assert [s.energy_per_atom for s in known] == sorted(s.energy_per_atom for s in known)
    assert known[0].energy_per_atom == pytest.approx(min(e.energy_per_atom for e in found), abs=1e-4)


def test_learning_can_be_turned_off():
    config = make_config({"formula": "MgO", "max_atoms": 8, "volume": {"learn": False}})
    assert learned_volumes((), [evaluation(-6.0, 20.0)], config) == []
    assert volume_window(config, samples((-6.0, 20.0))).target == pytest.approx(ESTIMATE)


def test_the_state_learns_from_the_population_and_from_each_step():
    begun = start(CONFIG, [evaluation(-5.5, 12.0), evaluation(-6.0, 9.4, 1)])
    assert begun.volumes == samples((-6.0, 9.4), (-5.5, 12.0))
    assert SearchState.model_validate(json.loads(begun.model_dump_json())) == begun


def test_a_step_teaches_the_state():
    state = start(CONFIG, [Evaluation("parent", 0, 0, "CONVERGED", -6.0, 8, ROCKSALT.as_dict(), volume_per_atom=9.33)])
    (made,) = propose(state, CONFIG)
    result = Evaluation(made.candidate_id, 1, 0, "CONVERGED", -5.9, 8, ROCKSALT.as_dict(), volume_per_atom=11.0)
    assert judge(state, [(made, result)], CONFIG).state.volumes == samples((-6.0, 9.33), (-5.9, 11.0))


def test_new_structures_follow_what_was_learned():
    config = make_config(
        {
            "formula": "MgO",
            "max_atoms": 8,
            "rattle": 0,
            "volume": {"scale": True},
            "moves": {"weights": {MoveName.NEW_STRUCTURE_MAXIMUM_SIZE: 1}},
        }
    )
    volumes = {}
    for loose in (1.0, 2.0):
        known = samples((-6.0, loose * ESTIMATE), (-5.99, loose * ESTIMATE * 1.01))
        parent = Evaluation("parent", 0, 0, "CONVERGED", -6.0, 8, ROCKSALT.as_dict())
        state = start(config, [parent]).model_copy(update={"volumes": known})
        made = [propose(state.model_copy(update={"step": step}), config)[0].structure for step in range(12)]
        volumes[loose] = np.median([structure.volume / len(structure) for structure in made])
    assert volumes[2.0] > 1.2 * volumes[1.0]


def test_a_structure_out_of_the_window_can_still_be_moved():
    loose = ROCKSALT.copy()
    loose.scale_lattice(ROCKSALT.volume * 3.2)
    config = make_config(
        {
            "formula": "MgO",
            "max_atoms": 16,
            "moves": {"weights": {MoveName.DOUBLE_CELL: 1}},
            "checks": {"min_density": 0},
        }
    )
    state = start(config, [Evaluation("parent", 0, 0, "CONVERGED", -6.0, 8, loose.as_dict())])
    assert loose.volume / len(loose) > volume_window(config).high
    assert propose(state, config)[0].structure is not None
