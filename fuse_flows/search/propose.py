"""Proposals: the members of the first population, and the next structure of a walker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pymatgen.core import Structure

from fuse_flows.errors import GenerationError, MoveFailed
from fuse_flows.moves.base import MoveContext
from fuse_flows.moves.registry import apply_move
from fuse_flows.search.policy import allowed_moves, probabilities
from fuse_flows.search.pool import DrawnMember, PoolDraw, PoolReader, initial_member, no_pool
from fuse_flows.search.state import candidate_id
from fuse_flows.search.streams import streams
from fuse_flows.search.visited import VISITED_MINIMUM
from fuse_flows.search.volume import volume_window
from fuse_flows.structures.assembly import random_structure
from fuse_flows.structures.blocks import BlockStructure
from fuse_flows.structures.composition import FormulaUnit
from fuse_flows.structures.radii import module_edge
from fuse_flows.structures.symmetry import choose_cell, unsheared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from fuse_flows.config import MoveName, SearchConfig
    from fuse_flows.search.state import SearchState, VolumeSample
    from fuse_flows.search.visited import VisitedMinima

Source = Literal["random", "move", "file", "generated"]


@dataclass(frozen=True)
class Proposal:
    """A structure on its way to the tiers.

    Parameters
    ----------
    candidate_id
        Identifier of the candidate it becomes.
    walker, step, index
        Its place in the search.
    source
        ``random`` (assembler), ``move``, or ``file`` or ``generated`` (pool; moves 13 and 14 may have drawn it).
    structure
        The structure to relax, rattled; None if nothing could be made, for which ``reason`` says why.
    parent_id
        Candidate the move started from.
    move, move_probability
        The move that was really used, and the probability with which it was drawn among those that had not failed.
    failures
        Moves that were tried before, with the reason why they failed.
    reason
        Why there is no structure.
    origin, pool_member
        Name and number of the pool member it is.
    cell
        Which cell of the crystal was taken before the rattle, if one was asked for.
    """

    candidate_id: str
    walker: int
    step: int
    index: int
    source: Source
    structure: Structure | None
    parent_id: str | None = None
    move: MoveName | None = None
    move_probability: float | None = None
    failures: tuple[tuple[MoveName, str], ...] = ()
    reason: str = ""
    origin: str | None = None
    pool_member: int | None = None
    cell: str = ""


def propose_initial(config: SearchConfig, index: int, walker: int = 0, pool: PoolReader = no_pool) -> Proposal:
    """Take one member of the first population from the pool, or assemble it once the pool has come to its end.

    Parameters
    ----------
    config
        The search.
    index
        Number of the member; members do not depend on one another.
    walker
        The walker it belongs to.
    pool
        The pool.

    Returns
    -------
    Proposal
        With a member of the pool, or a random structure of up to ``generator.initial_max_atoms`` atoms.
    """
    limit = config.generator.initial_max_atoms
    member = initial_member(pool, index, walker, config)
    return _fresh_proposal(config, walker, 0, index, max_atoms=limit, draw=lambda _: member)


def propose(
    state: SearchState, config: SearchConfig, pool: PoolReader = no_pool, visited: VisitedMinima | None = None
) -> list[Proposal]:
    """Make the structures of the next step of a walker: ``proposals_per_step`` of them (paper, Section 2.2).

    Parameters
    ----------
    state
        Where the walker stands.
    config
        The search.
    pool
        The pool, for moves 13 and 14; no two proposals draw the same member.
    visited
        The minima visited in the first population and in all steps before this one; None not to look.

    Returns
    -------
    list of Proposal
        For step ``state.step + 1``.
    """
    return list(proposals(state, config, pool, visited))


def proposals(
    state: SearchState, config: SearchConfig, pool: PoolReader = no_pool, visited: VisitedMinima | None = None
) -> Iterator[Proposal]:
    """Make the structures of :func:`propose` one after the other, for who does not need them all.

    As long as no structure has relaxed successfully, there is nothing to move and the pool or the assembler makes the
    proposals.
    """
    walker, step = state.walker, state.step + 1
    fresh = PoolDraw.at(state, config, pool)
    context = move_context(config, state.volumes)
    parent = None
    if state.current is not None and state.current_structure is not None:
        current = unsheared(Structure.from_dict(state.current_structure))
        parent = BlockStructure.from_structure(current, edge=context.edge)
    for index in range(config.proposals_per_step):
        if parent is None:
            made = _fresh_proposal(config, walker, step, index, draw=fresh.draw, samples=state.volumes)
        else:
            made = _moved_proposal(state, parent, context, fresh, visited=visited, index=index)
        if made.pool_member is not None:
            fresh = fresh.without(made.pool_member)
        yield made


def _moved_proposal(
    state: SearchState,
    parent: BlockStructure,
    context: MoveContext,
    fresh: PoolDraw,
    *,
    visited: VisitedMinima | None,
    index: int,
) -> Proposal:
    """Draw a move and make a structure.

    A move that fails is left out and another one drawn. A proposal that is a visited minimum already counts as a
    failed move and is drawn again, by any move, up to ``duplicates.redraws`` times; then what comes is relaxed anyway.
    """
    config, walker, step = context.config, state.walker, state.step + 1
    draw = streams(config.seed, walker, step, index)
    move, chance, moved, failures = _first_possible_move(parent, context, state, draw.propose, fresh, visited=visited)
    chosen = None if moved is None else choose_cell(moved.to_structure(), config.symmetry, config.max_atoms)
    return Proposal(
        candidate_id=candidate_id(state.search_id, walker, step, index),
        walker=walker,
        step=step,
        index=index,
        source=moved.member.source if isinstance(moved, DrawnMember) else "move",
        structure=None if chosen is None else rattled(chosen.structure, config.rattle, draw.rattle),
        parent_id=None if state.current is None else state.current.candidate_id,
        move=move,
        move_probability=chance,
        failures=failures,
        reason="" if moved is not None else "no move is possible",
        **_origin(moved),
        cell="" if chosen is None else chosen.note,
    )


def move_context(config: SearchConfig, samples: Sequence[VolumeSample] = ()) -> MoveContext:
    """Return what the moves of a search have in common.

    Parameters
    ----------
    config
        The search.
    samples
        What the walker has learned about the volume.

    Returns
    -------
    MoveContext
        Formula unit, sub-module edge, volumes and settings.
    """
    formula_unit = FormulaUnit.from_config(config)
    edge, window = module_edge(formula_unit, config.generator), volume_window(config, samples)
    return MoveContext(formula_unit=formula_unit, config=config, edge=edge, window=window)


def rattled(structure: Structure, deviation: float, rng: np.random.Generator) -> Structure:
    """Return a copy with every atom displaced at random.

    Parameters
    ----------
    structure
        The structure.
    deviation
        Standard deviation of the displacement along each axis, A.
    rng
        Random generator.

    Returns
    -------
    Structure
        The rattled copy; symmetric saddle points are left by it.
    """
    if deviation == 0:
        return structure
    coords = structure.cart_coords + rng.normal(scale=deviation, size=(len(structure), 3))
    return Structure(structure.lattice, structure.species, coords, coords_are_cartesian=True, to_unit_cell=True)


def _first_possible_move(
    parent: BlockStructure,
    context: MoveContext,
    state: SearchState,
    rng: np.random.Generator,
    fresh: PoolDraw,
    *,
    visited: VisitedMinima | None = None,
) -> tuple[MoveName | None, float | None, BlockStructure | DrawnMember | None, tuple[tuple[MoveName, str], ...]]:
    """Draw moves, those that fail without replacement, until one makes a structure that has not been visited.

    Moves 13 and 14 may draw it from the pool.
    """
    names = allowed_moves(state, context.config)
    failures: list[tuple[MoveName, str]] = []
    redraws = 0 if visited is None else context.config.duplicates.redraws
    while names:
        chances = probabilities(state, context.config, names)
        drawn = rng.choice(len(names), p=chances)
        name = names[drawn]
        try:
            moved = fresh.for_move(name, len(parent), rng) or apply_move(name, parent, context, rng)
        except MoveFailed as failure:
            failures.append((name, failure.reason))
            names.remove(name)
            continue
        if redraws == 0 or visited is None or visited.recognise(moved.to_structure()) is None:
            return name, float(chances[drawn]), moved, tuple(failures)
        failures.append((name, VISITED_MINIMUM))
        redraws -= 1
    return None, None, None, tuple(failures)


def _origin(made: BlockStructure | DrawnMember | None) -> dict[str, Any]:
    """Return what a proposal tells of the pool member that it is."""
    return {"origin": made.member.name, "pool_member": made.index} if isinstance(made, DrawnMember) else {}


def _fresh_proposal(
    config: SearchConfig,
    walker: int,
    step: int,
    index: int,
    *,
    max_atoms: int | None = None,
    draw: Callable[[np.random.Generator], DrawnMember | None],
    samples: Sequence[VolumeSample] = (),
) -> Proposal:
    """Draw from the pool; else assemble a random structure, or say why that failed."""
    rngs = streams(config.seed, walker, step, index)
    formula_unit = FormulaUnit.from_config(config)
    limit = max_atoms or config.max_atoms
    largest = len(formula_unit.formula_units(limit))
    structure, reason, cell = None, "", ""
    made: BlockStructure | DrawnMember | None = draw(rngs.propose)
    window = volume_window(config, samples)
    try:
        made = made or random_structure(
            formula_unit, max_formula_units=largest, config=config, rng=rngs.propose, window=window
        )
        limit = config.max_atoms if isinstance(made, DrawnMember) else limit
        chosen = choose_cell(made.to_structure(), config.symmetry, limit)
        structure, cell = rattled(chosen.structure, config.rattle, rngs.rattle), chosen.note
    except GenerationError as error:
        reason = str(error)
    return Proposal(
        candidate_id=candidate_id(config.search_id, walker, step, index),
        walker=walker,
        step=step,
        index=index,
        source=made.member.source if isinstance(made, DrawnMember) else "random",
        structure=structure,
        reason=reason,
        **_origin(made),
        cell=cell,
    )
