"""Rooms import only from the rooms below them, and pure rooms stay free of heavy libraries."""

import ast
from pathlib import Path

import pytest

import fuse_flows

PACKAGE = Path(fuse_flows.__file__).parent
# Lowest floor first; a room may import from itself and from every room before it.
FLOORS = (
    ("errors",),
    ("settings",),
    ("config",),
    ("structures",),
    ("potentials",),
    ("generators",),
    ("moves",),
    ("search",),
    ("relax",),
    ("schemas",),
    ("store",),
    ("jobs",),
    ("flows",),
    ("analysis",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
PURE = ("structures", "potentials", "generators", "moves", "search")
# The one file of a pure room that may: it is imported by nothing that is not about the network.
BACKEND = "backend.py"
FOREIGN = {"jobflow", "fireworks", "torch", "torch_sim", "tensorflow", "pymongo", "maggma", "atomate2", "chgnet"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    room = room_of(path)
    if room == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "fuse_flows" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[room], f"{room} imports {name}"
            assert LEVEL[parts[1]] < LEVEL[room] or parts[1] == room, f"{room} imports {name} of its own floor"
        if room in PURE and not (parts[0] == "tensorflow" and path.name == BACKEND):
            assert parts[0] not in FOREIGN, f"{room} imports {name}"


def test_every_room_has_its_floor():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(LEVEL)
