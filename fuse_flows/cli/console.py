"""The console all commands print to."""

from __future__ import annotations

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

# A pipe or a log file has no width of its own; tables shall not be folded there.
_WIDTH_WITHOUT_TERMINAL = 160

console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)


def table(*columns: str) -> Table:
    """Return an empty table whose cells stay on one line where the terminal allows it."""
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid
