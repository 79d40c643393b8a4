"""Proposals are reproducible, keep the composition, and tell how they were made."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from fuse_flows.config import MoveName, SearchConfig
from fuse_flows.search.judge import Evaluation, start
from fuse_flows.search.propose import propose as propose_step
from fuse_flows.search.propose import propose_initial, rattled
from fuse_flows.search.visited import Minimum, VisitedMinima
from fuse_flows.structures.symmetry import unsheared

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def config(**changes):
    return SearchConfig(formula="MgO", max_atoms=16, **changes)


def state_at(structure, search):
    evaluation = Evaluation("parent", 0, 0, "CONVERGED", -6.0, len(structure), structure.as_dict())
    return start(search, [evaluation])


def propose(*args, **more):
    """Return the proposal of a step that makes one."""
    (proposal,) = propose_step(*args, **more)
    return proposal


def is_rocksalt_composition(structure):
    amounts = structure.composition.as_dict()
    return amounts["Mg"] == amounts["O"] == len(structure) / 2


def test_initial_structures_do_not_depend_on_one_another():
    search = config(seed=4)
    alone = propose_initial(search, 7)
    series = [propose_initial(search, index) for index in range(9)]
    assert series[7] == alone
    assert len({proposal.candidate_id for proposal in series}) == 9
    assert len({tuple(np.round(proposal.structure.lattice.abc, 6)) for proposal in series}) > 3


def test_initial_structures_respect_their_own_limit():
    search = config(generator={"initial_max_atoms": 4})
    sizes = {len(propose_initial(search, index).structure) for index in range(20)}
    assert sizes == {2, 4}


@pytest.mark.parametrize("name", list(MoveName))
def test_each_move_keeps_the_composition_and_is_reproducible(name):
    search = config(moves={"weights": {name: 1}}, seed=3)
    state = state_at(ROCKSALT, search)
    proposal = propose(state, search)
    assert proposal == propose(state, search)
    if proposal.structure is None:
        assert proposal.failures[0][0] == name
        assert proposal.reason
        return
    assert proposal.move == name
    assert proposal.parent_id == "parent"
    assert proposal.step == 1
    assert is_rocksalt_composition(proposal.structure)
    assert len(proposal.structure) <= 16


def test_melted_weights_count_while_the_search_is_melted():
    weights = {"weights": {MoveName.SWAP_ATOMS: 1}, "melted_weights": {MoveName.NEW_STRUCTURE_MAXIMUM_SIZE: 1}}
    search = config(moves=weights)
    state = state_at(ROCKSALT, search).model_copy(update={"melted": True})
    assert propose(state, search).move == MoveName.NEW_STRUCTURE_MAXIMUM_SIZE


@pytest.mark.parametrize(("wanted", "n_atoms"), [("primitive", 2), ("conventional", 8)])
def test_cells_are_standardised_before_the_rattle(wanted, n_atoms):
    """A parent that is repeated becomes the standard cell again, and the rattle is what deviates from it."""
    search = config(symmetry={"standardise": wanted}, moves={"weights": {MoveName.DOUBLE_CELL: 1}})
    found = []
    for seed in range(30):
        one = search.model_copy(update={"seed": seed})
        proposal = propose(state_at(ROCKSALT, one), one)
        assert proposal == propose(state_at(ROCKSALT, one), one)
        assert proposal.cell == wanted
        assert is_rocksalt_composition(proposal.structure)
        found.append(len(proposal.structure))
    assert n_atoms in found
    assert max(found) <= 16
    plain = propose(state_at(ROCKSALT, config()), config())
    assert plain.cell == ""


@pytest.mark.parametrize("wanted", ["primitive", "conventional"])
def test_first_population_in_standard_cells_keeps_its_limit(wanted):
    search = config(symmetry={"standardise": wanted, "reduce": "niggli"}, generator={"initial_max_atoms": 4})
    proposals = [propose_initial(search, index) for index in range(20)]
    assert all(len(proposal.structure) <= 4 and is_rocksalt_composition(proposal.structure) for proposal in proposals)
    assert {proposal.cell.split(",")[0] for proposal in proposals} <= {wanted, "primitive (conventional too large)"}
    assert all(proposal.cell.endswith(", niggli") for proposal in proposals)


def test_impossible_moves_are_replaced_and_recorded():
    copper = Structure(Lattice.cubic(2.6), ["Cu"], [[0, 0, 0]])
    weights = {MoveName.SWAP_ATOMS: 1e6, MoveName.PERMUTE_ALL_ATOMS: 1e6, MoveName.NEW_STRUCTURE_MAXIMUM_SIZE: 1e-6}
    search = SearchConfig(formula="Cu", max_atoms=8, moves={"weights": weights})
    proposal = propose(state_at(copper, search), search)
    assert proposal.move == MoveName.NEW_STRUCTURE_MAXIMUM_SIZE
    assert {name for name, _ in proposal.failures} == {MoveName.SWAP_ATOMS, MoveName.PERMUTE_ALL_ATOMS}
    assert all(reason for _, reason in proposal.failures)


def test_no_possible_move_is_recorded_and_not_raised():
    copper = Structure(Lattice.cubic(2.6), ["Cu"], [[0, 0, 0]])
    search = SearchConfig(formula="Cu", max_atoms=8, moves={"weights": {MoveName.SWAP_ATOMS: 1}})
    proposal = propose(state_at(copper, search), search)
    assert proposal.structure is None
    assert proposal.reason == "no move is possible"


def test_without_any_success_the_assembler_goes_on():
    search = config()
    state = start(search, [Evaluation("bad", 0, 0, "TOO_CLOSE")])
    proposal = propose(state, search)
    assert (proposal.source, proposal.move, proposal.step) == ("random", None, 1)
    assert proposal.structure is not None


def test_impossible_assembly_is_recorded_and_not_raised():
    search = config(checks={"min_distance": 9.0}, generator={"attempts": 30})
    proposal = propose_initial(search, 0)
    assert proposal.structure is None
    assert "no acceptable random structure" in proposal.reason


def test_rattle_moves_every_atom_by_the_deviation():
    supercell = ROCKSALT * (3, 3, 3)
    moved = rattled(supercell, 0.05, np.random.default_rng(1))
    shifts = moved.frac_coords - supercell.frac_coords
    shifts = supercell.lattice.get_cartesian_coords(shifts - np.round(shifts))
    assert moved.species == supercell.species
    assert shifts.std() == pytest.approx(0.05, rel=0.1)
    assert (np.abs(shifts).max(axis=1) > 0).all()
    assert rattled(supercell, 0, np.random.default_rng(1)) is supercell


def visited_by(search, *structures):
    minima = [Minimum.from_structure(str(k), structure, -6.0) for k, structure in enumerate(structures)]
    return VisitedMinima(search.duplicates, minima)


def test_proposal_that_is_a_visited_minimum_is_drawn_again():
    """A repeated cell made by doubling is the crystal itself; every visited proposal leads on to another one."""
    doubling = {MoveName.DOUBLE_CELL: 1e3, MoveName.NEW_STRUCTURE_MAXIMUM_SIZE: 1}
    redrawn = 0
    for seed in range(12):
        search = config(moves={"weights": doubling}, seed=seed, rattle=0, duplicates={"redraws": 5})
        state = state_at(ROCKSALT, search)
        visited = visited_by(search, ROCKSALT)
        unseen, proposal = propose(state, search), propose(state, search, visited=visited)
        if visited.recognise(unseen.structure) is None:
            assert proposal == unseen
            continue
        redrawn += 1
        failures = [failure for failure in proposal.failures if failure[1] == "visited minimum"]
        assert failures[0] == (MoveName.DOUBLE_CELL, "visited minimum")
        assert visited.recognise(proposal.structure) is None or len(failures) == search.duplicates.redraws
        assert proposal == propose(state, search, visited=visited)
    assert redrawn >= 3


@pytest.mark.parametrize("redraws", [0, 3])
def test_redraws_are_bounded(redraws):
    """Where every proposal has been visited, the last one is relaxed all the same."""
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    weights = {MoveName.DOUBLE_CELL: 1}
    search = SearchConfig(formula="Cu", max_atoms=8, moves={"weights": weights}, duplicates={"redraws": redraws})
    state = state_at(copper, search)
    assert propose(state, search).structure is not None
    everything = visited_by(search, copper)
    everything.recognise = lambda structure: structure
    proposal = propose(state, search, visited=everything)
    assert proposal.structure is not None
    assert proposal.failures == ((MoveName.DOUBLE_CELL, "visited minimum"),) * redraws


@pytest.mark.parametrize("name", list(MoveName))
def test_cell_that_was_sheared_beyond_use_is_taken_in_short_edges(name):
    sheared = Structure(
        Lattice([[1, 0, 0], [40, 1, 0], [900, -70, 1]] @ ROCKSALT.lattice.matrix),
        ROCKSALT.species,
        ROCKSALT.frac_coords @ np.linalg.inv([[1, 0, 0], [40, 1, 0], [900, -70, 1]]),
    )
    search = config(moves={"weights": {name: 1}}, rattle=0)
    proposal = propose(state_at(sheared, search), search)
    assert proposal.reason or proposal.structure.volume < 1000
    if proposal.structure is not None:
        assert max(proposal.structure.lattice.abc) < 100


def test_oblique_cells_that_can_be_used_stay():
    oblique = Structure(Lattice.from_parameters(4, 5, 6, 35, 60, 60), ["Mg", "O"], [[0, 0, 0], [0.5] * 3])
    assert unsheared(oblique) is oblique
