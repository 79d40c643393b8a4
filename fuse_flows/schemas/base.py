"""What all documents share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A document of our own: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


def to_mongo(document: BaseModel) -> dict[str, Any]:
    """Return a document as plain values that BSON and JSON both hold.

    Parameters
    ----------
    document
        Any pydantic document.

    Returns
    -------
    dict
        Without class markers, so that queries see fields and nothing else.
    """
    return document.model_dump(mode="json")
