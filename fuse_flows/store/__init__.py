"""MongoDB: the embedded server, the LaunchPad and JobStore of a search, their indexes, repairs and queries.

>>> from fuse_flows.store import Search  # doctest: +SKIP
>>> Search("SrTiO3").best(3)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuse_flows.store.search import Search

__all__ = ["Search"]


def __getattr__(name: str) -> Any:
    """Load :class:`Search` when it is asked for: workers, which import this package, need no pandas."""
    if name == "Search":
        from fuse_flows.store.search import Search

        return Search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
