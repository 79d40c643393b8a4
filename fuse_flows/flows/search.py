"""The search as a Flow: the first population side by side, then a chain of segments that append one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from fuse_flows.errors import ConfigError
from fuse_flows.generators.files import FilePool
from fuse_flows.generators.planning import generation_settings
from fuse_flows.generators.pool import dump_members, pool_digest
from fuse_flows.jobs.base import describe
from fuse_flows.jobs.firetask import search_workflow
from fuse_flows.jobs.generation import generation_jobs, units_in_words
from fuse_flows.jobs.pool import PLACE, rank_generated, rank_members, store_pool
from fuse_flows.jobs.population import (
    collect_initial_structures,
    prepare_initial_structures,
    relax_initial_structures,
)
from fuse_flows.jobs.queue import accept_failures
from fuse_flows.jobs.steps import begin_walk, title
from fuse_flows.relax.queue_tiers import check_ranking, first_queue_tier
from fuse_flows.search.pool import initial_place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fireworks import Workflow
    from jobflow import Job, OutputReference

    from fuse_flows.config import SearchConfig


@dataclass
class SearchMaker(Maker):
    """Make the Flow of a crystal structure search.

    The Flow holds the first population and the job that begins the walk; everything later is appended while it runs.
    A pool is stored by a job of its own before them, and generated before that if the search asks for it.

    Parameters
    ----------
    config
        What to search, and how.
    pool
        The structures of a search with a pool; configuration and pool come from :func:`.read_pool`.
    name
        Title of the Flow.

    Examples
    --------
    >>> from fuse_flows.config import load_config
    >>> SearchMaker(load_config(formula="MgO", max_atoms=8)).make().name
    'structure search of MgO'

    With a pool: ``SearchMaker(*read_pool(load_config(formula="MgO", pool={"structures": "my_cifs"})))``.
    """

    config: SearchConfig
    pool: FilePool = field(default_factory=FilePool)
    name: str = "structure search"

    def make(self) -> Flow:
        """Return the Flow.

        Returns
        -------
        Flow
            For each walker, one job for every ``execution.structures_per_job`` members of its first population, and
            the job that begins its walk when they are done; in front of them, the job that stores the pool.

        Raises
        ------
        ConfigError
            If the pool is not the one that the configuration names.
        """
        stored = self._pool_jobs()
        walks = [self._walk(walker, stored) for walker in range(self.config.walkers.number)]
        beginnings = [walk[-1].output for walk in walks]
        jobs = [job for walk in walks for job in walk]
        output = beginnings[0] if len(beginnings) == 1 else beginnings
        return Flow([*stored, *jobs], output=output, name=f"{self.name} of {self.config.formula}")

    def _walk(self, walker: int, stored: Sequence[Job]) -> list[Job]:
        """Return the jobs that relax the first population of a walker, and the one that begins its walk."""
        config, whose = self.config, title(self.config, walker)
        values = config.model_dump(mode="json")
        size, batch = config.generator.initial_structures, config.execution.structures_per_job
        jobs: list[Job] = []
        populations: list[Job] = []
        pool = stored[-1].output if stored else None
        waits = False
        for first in range(0, size, batch):
            last = min(first + batch, size)
            members = f"structure {first + 1}" if last == first + 1 else f"structures {first + 1}-{last}"
            generates = config.pool.generate is not None  # how much will be known when it is done
            in_pool = generates or initial_place(config, first, walker) < len(self.pool.members)
            awaited = pool if in_pool else None
            waits = waits or awaited is not None
            batch_jobs = self._members(members, range(first, last), walker, awaited)
            jobs += batch_jobs
            populations.append(batch_jobs[-1])
        # moves draw from the pool as well, so the walk must not begin before it is stored
        drawn = {} if waits or pool is None else {"pool": pool}
        beginning = begin_walk(values, [population.output for population in populations], walker, **drawn)
        beginning.name = f"begin the walk of {whose}"
        return [*jobs, describe(beginning, config, walker=walker, segment=0, place="beginning")]

    def _members(self, members: str, indices: range, walker: int, pool: OutputReference | None) -> list[Job]:
        """Return the job that relaxes some members; with a queue, the one that makes and the one that collects them."""
        config, whose, values = self.config, title(self.config, walker), self.config.model_dump(mode="json")
        batch = (values, indices.start, indices.stop, walker)
        if first_queue_tier(config.tiers) is None:
            population = relax_initial_structures(*batch, pool=pool)
            population.name = f"relax initial {members} of {whose}"
            return [describe(population, config, walker=walker, segment=0, place=members)]
        made = prepare_initial_structures(*batch, pool=pool)
        made.name = f"prepare initial {members} of {whose}"
        describe(made, config, walker=walker, segment=0, place=f"prepare {members}")
        population = accept_failures(collect_initial_structures(*batch, prepared=made.output, pool=pool))
        population.name = f"collect initial {members} of {whose}"
        return [made, describe(population, config, walker=walker, segment=0, place=f"collect {members}")]

    def _pool_jobs(self) -> list[Job]:
        """Return the jobs that generate, rank and store the pool, if the search has one; the last stores it."""
        digest = pool_digest(self.pool.members) if self.pool.members else None
        if digest != self.config.pool.digest:
            raise ConfigError(
                "pool.structures", "the structures are not those of pool.digest; use what read_pool returned"
            )
        generation = generation_jobs(self.config)
        if digest is None and not generation:
            return []
        skipped = {str(reason): number for reason, number in self.pool.skipped.items()}
        values, rankings = self.config.model_dump(mode="json"), self._ranking_jobs(generation)
        members = None if self.config.pool.rank != "none" else dump_members(self.pool.members)
        made = list(generation.values())
        sources = [[job.output for job in jobs] for jobs in (rankings, made)]
        job = store_pool(values, members, skipped, sources[0], sources[1] or None)
        job.name = f"store the pool of {self.config.formula}"
        return [*made, *rankings, describe(job, self.config, walker=0, segment=0, place=PLACE)]

    def _ranking_jobs(self, generation: Mapping[int, Job]) -> list[Job]:
        """Return the jobs that rank the pool, files first, if it is to be ranked."""
        config, batch = self.config, self.config.execution.rankings_per_job
        if config.pool.rank == "none":
            return []
        check_ranking(config)
        values, jobs = config.model_dump(mode="json"), []
        for first, last in _slices(len(self.pool.members), batch):
            job = rank_members(values, dump_members(self.pool.members[first:last]))
            jobs.append(self._ranking(job, f"rank structures {first + 1}-{last} of the pool"))
        for units, generating in generation.items():
            for first, last in _slices(generation_settings(config).keep, batch):
                job = rank_generated(values, generating.output, first, last)
                structures = f"rank generated structures {first + 1}-{last}"
                jobs.append(self._ranking(job, f"{structures} of {units_in_words(units)}"))
        return jobs

    def _ranking(self, job: Job, place: str) -> Job:
        """Give a job that ranks its title and its place."""
        job.name = f"{place} of {self.config.formula}"
        return describe(job, self.config, walker=0, segment=0, place=place)

    def workflow(self, priority: int | None = None) -> Workflow:
        """Return the Flow as a FireWorks Workflow, for ``lpad add`` or the command line.

        Parameters
        ----------
        priority
            Priority of its jobs, which later ones inherit; None for FireWorks' own.

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
        return search_workflow(self.make(), priority=priority, metadata=metadata)


def _slices(length: int, size: int) -> list[tuple[int, int]]:
    """Cut a range into slices; returns the beginning and the end of each, the end excluded."""
    return [(first, min(first + size, length)) for first in range(0, length, size)]
