"""What all jobs of a search share: the decorator, their metadata, and how they read earlier outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from jobflow import CURRENT_JOB, Job, JobConfig, job

from fuse_flows.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_flows.config import SearchConfig

_NAMESPACE = UUID("5f0f1a52-6d0c-5a5e-9c1e-0d2f6b6f7a11")


def search_job(function: Callable[..., Any]) -> Callable[..., Job]:
    """Turn a function into a job of a search.

    The job sees the JobStore and gets references unresolved: it reads the outputs of earlier jobs itself, as the plain
    documents they are, so that no structure travels through the arguments of a job.
    """
    return job(function, config=JobConfig(expose_store=True, resolve_references=False))


def describe(new: Job, config: SearchConfig, *, walker: int, segment: int, place: str) -> Job:
    """Set the identifier of a job, and the metadata by which it is found in LaunchPad and JobStore.

    The identifier follows from the place in the search: should the same search be submitted again, after its LaunchPad
    was reset say, then its jobs find the outputs they stored before and compute nothing twice.

    Parameters
    ----------
    new
        A job.
    config
        The search.
    walker
        The walker it works for.
    segment
        First step of its segment; 0 for the first population.
    place
        What the job does, in words that no other new job of the walker has.

    Returns
    -------
    Job
        The same job; jobs that it adds later inherit the metadata.
    """
    new.set_uuid(place_uuid(config, walker=walker, place=place))
    metadata = {"search_id": config.search_id, "formula": config.formula, "walker": walker, "segment": segment}
    new.update_metadata(metadata, dynamic=True)
    return new


def place_uuid(config: SearchConfig, *, walker: int, place: str) -> str:
    """Return the identifier of the job at a place in the search; see :func:`describe`."""
    return str(uuid5(_NAMESPACE, f"{config.search_id}/{walker}/{place}"))


def read_output(uuid: str, index: int | None = None) -> dict[str, Any]:
    """Read the output of an earlier job from the JobStore.

    Parameters
    ----------
    uuid
        Identifier of the job.
    index
        Its index; None for the newest.

    Returns
    -------
    dict
        The document as it is stored.

    Raises
    ------
    DatabaseError
        If there is none.
    """
    output = find_output(uuid, index)
    if output is None:
        msg = f"the JobStore has no output of job {uuid} (index {index}); is it the one that the earlier jobs wrote to?"
        raise DatabaseError(msg)
    return output


def find_output(uuid: str, index: int | None = None) -> dict[str, Any] | None:
    """Look for the output of a job; see :func:`read_output`.

    Parameters
    ----------
    uuid
        Identifier of the job.
    index
        Its index; None for the newest.

    Returns
    -------
    dict or None
        The document as it is stored, or None.
    """
    criteria: dict[str, Any] = {"uuid": uuid} | ({} if index is None else {"index": index})
    found = CURRENT_JOB.store.query_one(criteria, ["output"], sort={"index": -1})
    return None if found is None else found["output"]


def own_output() -> dict[str, Any] | None:
    """Return what this job stored when it ran before, so that a job run twice computes once.

    Returns
    -------
    dict or None
        The document as it is stored, or None if this is the first run.
    """
    return find_output(CURRENT_JOB.job.uuid, CURRENT_JOB.job.index)
