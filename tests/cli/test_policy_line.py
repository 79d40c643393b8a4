"""`status` tells in one line what a search has learnt about its moves."""

from fuse_flows.cli import status
from fuse_flows.cli.console import console
from fuse_flows.config import MoveName, SearchConfig
from fuse_flows.schemas.step import SearchDoc
from fuse_flows.search.judge import Evaluation, start


def shown(**changes):
    search = SearchConfig(formula="MgO", **changes)
    state = start(search, [Evaluation("first", 0, 0, "CONVERGED", -6.0, 2, {})])
    if state.policy is not None:
        learnt = state.policy.model_copy(update={"preferences": {MoveName.DOUBLE_CELL: (0.0, 50.0)}})
        state = state.model_copy(update={"policy": learnt})
    values = {"search_id": search.search_id, "formula": "MgO", "status": "running", "n_structures": 1}
    document = SearchDoc(**values, max_structures=200, states=[state], config=search.model_dump(mode="json"))
    with console.capture() as captured:
        status.print_search(document, None)
    return [line for line in captured.get().splitlines() if "policy" in line]


def test_learnt_chances_by_number_of_the_move():
    weights = {MoveName.SWAP_ATOMS: 1, MoveName.DOUBLE_CELL: 1, MoveName.TRIPLE_CELL: 1, MoveName.NEW_CELL_SHAPE: 0}
    (line,) = shown(move_policy="reinforce", reinforce={"epsilon": 0.3}, moves={"weights": weights})
    assert line == "  policy      learnt, move 1:10% 11:80% 12:10%"


def test_nothing_is_said_where_nothing_is_learnt():
    assert shown() == shown(move_policy="uniform") == []
