"""The search as a Flow: the first population side by side, then a chain of segments that append one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from fuse_flows.jobs.base import describe
from fuse_flows.jobs.firetask import search_workflow
from fuse_flows.jobs.population import relax_initial_structures
from fuse_flows.jobs.steps import begin_walk

if TYPE_CHECKING:
    from fireworks import Workflow
    from jobflow import Job

    from fuse_flows.config import SearchConfig


@dataclass
class SearchMaker(Maker):
    """Make the Flow of a crystal structure search.

    The Flow holds the first population and the job that begins the walk; everything later is appended while it runs.

    Parameters
    ----------
    config
        What to search, and how.
    name
        Title of the Flow.

    Examples
    --------
    >>> from fuse_flows.config import load_config
    >>> SearchMaker(load_config(formula="MgO", max_atoms=8)).make().name
    'structure search of MgO'
    """

    config: SearchConfig
    name: str = "structure search"

    def make(self) -> Flow:
        """Return the Flow.

        Returns
        -------
        Flow
            One job for every ``execution.structures_per_job`` members of the first population, and the job that
            begins the walk when they are done.
        """
        values = self.config.model_dump(mode="json")
        size, batch = self.config.generator.initial_structures, self.config.execution.structures_per_job
        jobs: list[Job] = []
        for first in range(0, size, batch):
            last = min(first + batch, size)
            members = f"structure {first + 1}" if last == first + 1 else f"structures {first + 1}-{last}"
            population = relax_initial_structures(values, first, last)
            population.name = f"relax initial {members} of {self.config.formula}"
            jobs.append(describe(population, self.config, walker=0, segment=0, place=members))
        beginning = begin_walk(values, [population.output for population in jobs])
        beginning.name = f"begin the walk of {self.config.formula}"
        describe(beginning, self.config, walker=0, segment=0, place="beginning")
        return Flow([*jobs, beginning], output=beginning.output, name=f"{self.name} of {self.config.formula}")

    def workflow(self) -> Workflow:
        """Return the Flow as a FireWorks Workflow, for ``lpad add`` or the command line.

        Returns
        -------
        Workflow
            Its metadata hold the search id, the configuration and the key under which it is added only once.
        """
        metadata = {
            "search_id": self.config.search_id,
            "formula": self.config.formula,
            "walker": 0,
            "segment": 0,
            "once": f"{self.config.search_id}/0/0",
            "config": self.config.model_dump(mode="json"),
        }
        return search_workflow(self.make(), metadata=metadata)
