"""Documents of a real search copied under other names: a full database in little time; and clocks and ports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from fuse_flows.search.state import candidate_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuse_flows.config import SearchConfig
    from fuse_flows.store.connection import Connection

INITIAL = 5
"""Members of the first population of the searches that are copied."""
BATCH = 500
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int | None) -> float:
    """CPU seconds of a process."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Copier:
    """Writes copies of a search under other names."""

    def __init__(self, source: Connection, config: SearchConfig, target: Connection) -> None:
        of_search = {"metadata.search_id": config.search_id}
        self.config, self.target = config, target
        self.population = list(source.outputs.find(of_search | {"output.kind": "population"}))
        (self.start,) = source.outputs.find(of_search | {"output.kind": "start"})
        self.steps = list(source.outputs.find(of_search | {"output.kind": "steps"}).sort("output.step", 1))
        self.fireworks = list(source.launchpad.fireworks.find({"spec.search_id": config.search_id}))
        self.workflow = source.launchpad.workflows.find_one(of_search)
        self.next_fw = 1

    def write(self, number: int, size: int) -> SearchConfig:
        """Write a search with so many candidates; return its configuration."""
        stop = self.config.stop.model_copy(update={"max_structures": size})
        config = self.config.model_copy(update={"label": f"load {number}", "stop": stop})
        rng, name = np.random.default_rng(number), config.search_id
        known: list[dict[str, Any]] = []
        outputs, jobs = [], 0
        for document in self._documents(size):
            jobs += 1
            outputs.append(self._copy(document, config, jobs, rng, known))
            if len(outputs) == BATCH:
                self.target.outputs.insert_many(outputs)
                outputs = []
        if outputs:
            self.target.outputs.insert_many(outputs)
        self._write_jobs(config, name, jobs)
        return config

    def again(self, written: SearchConfig, number: int) -> SearchConfig:
        """Write a search that is there once more, within MongoDB, which is a good deal faster."""
        config = written.model_copy(update={"label": f"load {number}"})
        old, name, suffix = written.search_id, config.search_id, f"-{number}"
        renamed = {key: {"$concat": [f"$$this.{key}", suffix]} for key in ("candidate_id", "cluster_id", "parent_id")}
        new = {"$mergeObjects": ["$$this", renamed, {"search_id": name}]}
        stages: list[dict[str, Any]] = [
            {"$match": {"metadata.search_id": old}},
            {"$set": {"output.candidates": {"$map": {"input": "$output.candidates", "in": new}}}},
            {"$set": {"metadata.search_id": name, "output.search_id": name, "uuid": {"$concat": ["$uuid", suffix]}}},
            {"$unset": "_id"},
            {"$merge": {"into": self.target.outputs.name, "on": "_id"}},
        ]
        self.target.outputs.aggregate(stages)
        jobs = self.target.launchpad.fireworks.count_documents({"spec.search_id": old})
        first = self.target.launchpad.fireworks.find_one({"spec.search_id": old}, sort=[("fw_id", 1)])["fw_id"]
        shift = {"$add": ["$fw_id", self.next_fw - first]}
        fireworks: list[dict[str, Any]] = [
            {"$match": {"spec.search_id": old}},
            {"$set": {"spec.search_id": name, "fw_id": shift}},
            {"$unset": "_id"},
            {"$merge": {"into": "fireworks", "on": "_id"}},
        ]
        self.target.launchpad.fireworks.aggregate(fireworks)
        for workflow in list(self.target.launchpad.workflows.find({"metadata.search_id": old}, {"_id": 0})):
            metadata = workflow["metadata"] | {"search_id": name}
            metadata["once"] = metadata["once"].replace(old, name)
            if "config" in metadata:
                metadata["config"] = config.model_dump(mode="json")
            nodes = [node + self.next_fw - first for node in workflow["nodes"]]
            self.target.launchpad.workflows.insert_one(workflow | {"metadata": metadata, "nodes": nodes})
        self.next_fw += jobs
        return config

    def _documents(self, size: int) -> Iterator[dict[str, Any]]:
        yield from self.population
        yield self.start
        for place in range(size - INITIAL):
            yield self.steps[place % len(self.steps)]

    def _copy(
        self,
        document: dict[str, Any],
        config: SearchConfig,
        job: int,
        rng: np.random.Generator,
        known: list[dict[str, Any]],
    ) -> dict[str, Any]:
        name, step = config.search_id, max(0, job - len(self.population) - 1)
        output = document["output"] | {"search_id": name}
        if output["kind"] != "population":
            output |= {"step": step}
            outcomes = {outcome: n for outcome, n in output["state"]["outcomes"].items() if outcome != "CONVERGED"}
            outcomes["CONVERGED"] = INITIAL + step - sum(outcomes.values())
            stop = "max_structures reached" if INITIAL + step == config.stop.max_structures else None
            output["state"] = output["state"] | {"search_id": name, "step": step, "n_structures": INITIAL + step}
            output["state"] |= {"stop_reason": stop, "outcomes": outcomes}
        if output["kind"] == "start":
            output |= {"config": config.model_dump(mode="json"), "clusters": {}}
        members = output.get("candidates", [])
        output["candidates"] = [self._candidate(member, name, step, rng, known) for member in members]
        metadata = document["metadata"] | {"search_id": name}
        fresh = {key: value for key, value in document.items() if key != "_id"}
        return fresh | {"uuid": str(uuid4()), "metadata": metadata, "output": output}

    def _candidate(
        self, member: dict[str, Any], name: str, step: int, rng: np.random.Generator, known: list[dict[str, Any]]
    ) -> dict[str, Any]:
        identifier = candidate_id(name, 0, step, member["index"])
        new = member | {"candidate_id": identifier, "search_id": name, "step": step}
        new["parent_id"] = known[rng.integers(len(known))]["candidate_id"] if known else None
        if member["energy_per_atom"] is None:
            return new
        if known and rng.random() < 0.5:
            first = known[rng.integers(len(known))]
            of_first = ("structure", "volume", "density", "fingerprint", "n_atoms", "formula_units", "cluster_id")
            new |= {key: first[key] for key in (*of_first, "space_group", "space_group_number")}
            new |= {"energy_per_atom": first["energy_per_atom"] + 1e-5 * rng.random(), "is_duplicate": True}
            return new
        scale = 1 + 0.05 * rng.random()
        lattice = member["structure"]["lattice"]
        matrix = (scale * np.array(lattice["matrix"])).tolist()
        new["structure"] = member["structure"] | {"lattice": lattice | {"matrix": matrix}}
        new |= {"volume": member["volume"] * scale**3, "density": member["density"] / scale**3}
        energy = member["energy_per_atom"] + abs(rng.normal(scale=0.1))
        new |= {"energy_per_atom": energy, "cluster_id": identifier, "is_duplicate": False}
        known.append(new)
        return new

    def _write_jobs(self, config: SearchConfig, name: str, jobs: int) -> None:
        """Write the fireworks, all completed, and workflows of twenty jobs each."""
        fireworks, workflows = [], []
        for place in range(jobs):
            template = self.fireworks[min(place, len(self.fireworks) - 1)]
            spec = template["spec"] | {"search_id": name}
            fireworks.append(template | {"_id": None, "fw_id": self.next_fw + place, "spec": spec, "launches": []})
            del fireworks[-1]["_id"]
        for first in range(0, jobs, 20):
            ids = [self.next_fw + place for place in range(first, min(first + 20, jobs))]
            metadata = {"search_id": name, "formula": config.formula, "once": f"{name}/0/{first}"}
            if first == 0:
                metadata["config"] = config.model_dump(mode="json")
            empty = {"links": {str(i): [] for i in ids}, "parent_links": {}}
            states = {"fw_states": {str(i): "COMPLETED" for i in ids}, "nodes": ids}
            workflow = self.workflow | {"metadata": metadata} | empty | states
            workflows.append({key: value for key, value in workflow.items() if key != "_id"})
        for first in range(0, jobs, BATCH):
            self.target.launchpad.fireworks.insert_many(fireworks[first : first + BATCH])
        self.target.launchpad.workflows.insert_many(workflows)
        self.next_fw += jobs
