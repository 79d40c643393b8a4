"""How large a document may become: MongoDB takes 16 MB at most, and what a job computed must not be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ENOUGH_BYTES = 8_000_000
"""A job that may stop between two steps ends when its candidates take so much."""


def bytes_of(documents: Iterable[Mapping[str, Any]]) -> int:
    """Return what documents take in MongoDB.

    Parameters
    ----------
    documents
        Plain values.

    Returns
    -------
    int
        Bytes of BSON.
    """
    import bson

    return sum(len(bson.encode(document)) for document in documents)
