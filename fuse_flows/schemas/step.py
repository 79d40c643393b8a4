"""The outputs of jobs: candidates relaxed for the first population, and steps of a walker with the state after them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fuse_flows.schemas.base import Document
from fuse_flows.schemas.tally import Tally
from fuse_flows.search.state import SearchState


class PopulationDoc(Document):
    """Members of the first population, relaxed by one job."""

    kind: Literal["population"] = "population"
    search_id: str
    walker: int = 0
    candidates: list[dict[str, Any]] = Field(description="One CandidateDoc each; empty until all are there.")
    begun: list[dict[str, Any]] | None = Field(
        None,
        description="Those that were relaxed when the allocation came to its end; the next job begins with them.",
    )
    ended: str | None = Field(None, description="When the job ended, UTC.")
    tally: Tally | None = Field(None, description="The sum of its candidates.")


class ProposalDoc(Document):
    """One of the proposals of a step, relaxed by a job of its own and not judged yet."""

    kind: Literal["proposal"] = "proposal"
    search_id: str
    walker: int = 0
    relaxed: dict[str, Any] = Field(
        description="A CandidateDoc without verdict. The job that judges the step stores it again, with its verdict, "
        "where queries find it."
    )


class StepDoc(Document):
    """What one job of the chain did: its candidates and the state it hands on."""

    kind: Literal["start", "steps"] = "steps"
    search_id: str
    walker: int = 0
    step: int = Field(description="Last step that was judged; 0 once the first population is there.")
    candidates: list[dict[str, Any]] = Field(default_factory=list, description="One CandidateDoc per proposal.")
    ended: str | None = Field(None, description="When the job ended, UTC; only in documents with candidates.")
    tally: Tally | None = Field(None, description="The sum of its candidates.")
    state: SearchState = Field(description="State after the last step.")
    clusters: dict[str, str] | None = Field(
        None,
        description="Members of the first population with the first member of their cluster; only in the document that "
        "begins a walk. They were stored before anybody compared them: the view adds this to their own documents.",
    )
    config: dict[str, Any] | None = Field(
        None, description="The SearchConfig; only in the document that begins a walk."
    )


class SearchDoc(Document):
    """A search at a glance."""

    search_id: str
    formula: str
    status: Literal["waiting", "running", "stopped", "finished"] = Field(
        description="Waiting: no candidate is stored yet. Stopped: nothing runs any more, on request or because "
        "its jobs are not on this LaunchPad (imported); resume continues it."
    )
    stop_reason: str | None = None
    n_structures: int = Field(description="Candidates stored, failures included.")
    max_structures: int = Field(description="Candidates after which it stops.")
    outcomes: dict[str, int] = Field(default_factory=dict, description="Candidates by outcome.")
    jobs: dict[str, int] = Field(default_factory=dict, description="Jobs on the LaunchPad by state.")
    best_energy_per_atom: float | None = Field(None, description="Lowest energy so far, eV/atom.")
    last_move: str | None = Field(None, description="Move of the newest candidate.")
    last_stored: str = Field("", description="When its newest candidates were stored, ISO time in UTC; empty before.")
    states: list[SearchState] = Field(
        default_factory=list, description="Newest state of each walker that has begun, in the order of the walkers."
    )
    config: dict[str, Any] = Field(description="The SearchConfig it was submitted with.")
