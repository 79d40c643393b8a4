"""Overhead of the LaunchPad per search step, whether it grows, and what a structure takes in the database.

    python benchmarks/overhead.py [--plan 100:1 1000:1 @10000:1 100:20 1000:20 10000:20]

``10000:20`` are 10 000 steps, 20 in each job. ``@10000:20`` are 100 steps behind 10 000 whose documents are copied from
a real search, which tells the same in minutes.

Runs searches with a calculator that does nothing, through a real MongoDB LaunchPad with one worker in this process,
each search in a database of its own. Beside it stands the same search in a plain loop (engine, checks, comparison with
all visited minima, documents; no job and no database), run before it in the same process. Both visit the same
structures, so the difference is what jobs and database cost. Times are taken over the first and over the last tenth of
the steps, on the clock and in CPU seconds of this process and of mongod: the machine may be busy with other things.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).parent))

from copies import INITIAL, Copier, cpu_of
from ports import free_port
from pymongo import monitoring

from fuse_flows.config import SearchConfig, load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.jobs.evaluate import evaluate, evaluation_of
from fuse_flows.jobs.visited import minima_of
from fuse_flows.jobs.walk import walk
from fuse_flows.search.judge import start
from fuse_flows.search.propose import propose_initial
from fuse_flows.search.visited import VisitedMinima
from fuse_flows.store.connection import Connection, connect_server
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).parent / "results" / "overhead.json"
PLAN = ["100:1", "1000:1", "@10000:1", "100:20", "1000:20", "10000:20"]
COLLECTIONS = ("outputs", "fireworks", "launches", "workflows")


@dataclass(frozen=True)
class Mark:
    """Clocks when a step was done."""

    step: int
    wall: float
    cpu: float
    server_cpu: float = 0.0
    commands: int = 0


class Clock(monitoring.CommandListener):
    """Looks at the clocks whenever a step is stored, and counts the commands to MongoDB."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.commands = 0
        self.pid: int | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Take a mark before the output of a job is written."""
        self.commands += 1
        if event.command_name == "update" and event.command["update"] == "outputs":
            output = event.command["updates"][0]["u"]["output"]
            if output.get("kind") in ("start", "steps"):
                cpu, server = time.process_time(), cpu_of(self.pid)
                self.marks.append(Mark(output["step"], time.perf_counter(), cpu, server, self.commands))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""


def config_for(steps: int, steps_per_job: int) -> SearchConfig:
    return load_config(
        formula="MgO",
        max_atoms=8,
        label=f"overhead {steps}",
        generator={"initial_structures": INITIAL},
        stop={"max_structures": INITIAL + steps, "patience": 10**6},
        execution={"steps_per_job": steps_per_job},
        tiers=[{"calculator": "null_calculator:NullCalculator"}],
    )


def bare_loop(config: SearchConfig) -> list[Mark]:
    """The same search in a plain loop: proposals, checks, comparison, documents, but no job and no database."""
    members = [evaluate(propose_initial(config, i), config) for i in range(INITIAL)]
    visited = VisitedMinima(config.duplicates)
    for minimum in minima_of(members):
        visited.cluster_of(minimum)
    state = start(config, [evaluation_of(member) for member in members])
    marks = [Mark(0, time.perf_counter(), time.process_time())]
    while state.stop_reason is None and state.step < config.stop.max_structures - INITIAL:
        state, _ = walk(config, state, visited)
        marks.append(Mark(state.step, time.perf_counter(), time.process_time()))
    return marks


def per_step(marks: Sequence[Mark], first: float, last: float) -> dict[str, float]:
    """Milliseconds and commands per step, over the steps from one share of the marks to another."""
    n = len(marks) - 1
    a = marks[round(first * n) if first < 1 else n - 1]
    b = marks[max(1, round(last * n))]
    steps = b.step - a.step
    return {
        "wall_ms": 1000 * (b.wall - a.wall) / steps,
        "cpu_ms": 1000 * (b.cpu - a.cpu) / steps,
        "mongod_cpu_ms": 1000 * (b.server_cpu - a.server_cpu) / steps,
        "commands": (b.commands - a.commands) / steps,
    }


def parts(marks: Sequence[Mark]) -> dict[str, dict[str, float]]:
    """All steps, the first tenth and the last tenth (one job at least)."""
    tenth = max(0.1, 1 / (len(marks) - 1))
    spans = {"all": (0.0, 1.0), "start": (0.0, tenth), "end": (1 - tenth, 1.0)}
    return {name: rounded(per_step(marks, *span)) for name, span in spans.items()}


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 2) for key, value in values.items()}


def sizes(connection: Connection, n_structures: int) -> dict[str, Any]:
    """Documents' sizes by collection, and what a structure takes in the database, in bytes."""
    database = connection.database
    database.client.admin.command("fsync")  # storage sizes are those of the last checkpoint
    documents: dict[str, Any] = {}
    total = {"data": 0, "storage": 0, "indexes": 0}
    for name in COLLECTIONS:
        group = {"_id": None, "n": {"$sum": 1}, "mean": {"$avg": {"$bsonSize": "$$ROOT"}}}
        stages = [{"$group": group | {"largest": {"$max": {"$bsonSize": "$$ROOT"}}}}]
        found = next(iter(database[name].aggregate(stages)))
        documents[name] = {"n": found["n"], "mean": round(found["mean"]), "largest": found["largest"]}
        stats = database.command("collStats", name)
        total["data"] += stats["size"]
        total["storage"] += stats["storageSize"]
        total["indexes"] += stats["totalIndexSize"]
    state = next(
        iter(
            database["outputs"].aggregate(
                [
                    {"$match": {"output.state": {"$exists": True}}},
                    {"$group": {"_id": None, "largest": {"$max": {"$bsonSize": "$output.state"}}}},
                ]
            )
        )
    )
    return {
        "document_bytes": documents,
        "largest_state_bytes": state["largest"],
        "bytes_per_structure": {key: round(value / n_structures) for key, value in total.items()},
    }


def behind(server: EmbeddedServer, clock: Clock, steps: int, steps_per_job: int) -> dict[str, Any]:
    """Take some more steps behind so many that were copied from the documents of a real search."""
    source = connect_server(EmbeddedServer(server.data_dir, server.port, db_name="overhead_40_1"))
    own = EmbeddedServer(server.data_dir, server.port, db_name=f"behind_{steps}_{steps_per_job}")
    connection = connect_server(own)
    ensure_indexes(connection)
    config = Copier(source, config_for(40, 1), connection).write(0, INITIAL + steps)
    more = 100 if steps_per_job == 1 else 10 * steps_per_job
    stop = config.stop.model_copy(update={"max_structures": INITIAL + steps + more})
    execution = config.execution.model_copy(update={"steps_per_job": steps_per_job})
    clock.marks.clear()
    submit(connection, config.model_copy(update={"stop": stop, "execution": execution}))
    work(connection, config.search_id)
    row = {"behind_steps": steps, "steps": more, "steps_per_job": steps_per_job}
    row |= {"launchpad": rounded(per_step(clock.marks, 0.0, 1.0)), **sizes(connection, INITIAL + steps)}
    connection.close()
    source.close()
    return row


def measure(server: EmbeddedServer, clock: Clock, steps: int, steps_per_job: int) -> dict[str, Any]:
    """One search in the loop and on the LaunchPad."""
    config = config_for(steps, steps_per_job)
    own = EmbeddedServer(server.data_dir, server.port, db_name=f"overhead_{steps}_{steps_per_job}")
    one_by_one = config.execution.model_copy(update={"steps_per_job": 1})
    bare = parts(bare_loop(config.model_copy(update={"execution": one_by_one})))
    connection = connect_server(own)
    ensure_indexes(connection)
    clock.marks.clear()
    submit(connection, config)
    work(connection, config.search_id)
    launchpad = parts(clock.marks)
    taken = sizes(connection, INITIAL + steps)
    connection.close()
    cpu = {name: part["cpu_ms"] + part["mongod_cpu_ms"] - bare[name]["cpu_ms"] for name, part in launchpad.items()}
    return {
        "steps": steps,
        "steps_per_job": steps_per_job,
        "ms_per_step": launchpad["all"]["wall_ms"],
        "engine_ms_per_step": bare["all"]["wall_ms"],
        "overhead_ms_per_step": round(launchpad["all"]["wall_ms"] - bare["all"]["wall_ms"], 2),
        "growth": round(launchpad["end"]["wall_ms"] / launchpad["start"]["wall_ms"], 2),
        "overhead_cpu_ms": {name: round(value, 2) for name, value in cpu.items()},
        "overhead_cpu_growth": round(cpu["end"] / cpu["start"], 2),
        "launchpad": launchpad,
        "bare_loop": bare,
        **taken,
    }


def show(row: dict[str, Any]) -> None:
    """Print one line."""
    if "behind_steps" in row:
        print(f"{row['steps']} steps behind {row['behind_steps']}, {row['steps_per_job']} per job:", row["launchpad"])
        return
    cpu, taken = row["overhead_cpu_ms"], row["bytes_per_structure"]
    print(
        f"{row['steps']:6} {row['steps_per_job']:9} {row['ms_per_step']:9.1f} {row['engine_ms_per_step']:9.1f} "
        f"{cpu['start']:9.1f} {cpu['end']:9.1f} {row['overhead_cpu_growth']:9.2f} {sum(taken.values()):9}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", nargs="+", default=PLAN)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    output = options.output.resolve()
    logging.disable(logging.INFO)  # FireWorks and jobflow report every job
    clock = Clock()
    monitoring.register(clock)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        server = EmbeddedServer(Path(folder) / "db", port=free_port())
        server.start()
        try:
            clock.pid = server.status().pid
            measure(server, clock, 40, 1)  # imports and first-use costs are not counted
            print("ms per step: on the clock; then what jobs and mongod cost in CPU time at the start and at the end")
            columns = ("per job", "wall", "loop", "start", "end", "growth", "B/struct.")
            print(f"{'steps':>6}" + "".join(f" {name:>9}" for name in columns))
            for entry in options.plan:
                steps, steps_per_job = map(int, entry.removeprefix("@").split(":"))
                row = (behind if entry.startswith("@") else measure)(server, clock, steps, steps_per_job)
                rows.append(row)
                show(row)
                record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
                output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        finally:
            server.stop()
            os.chdir("/")


if __name__ == "__main__":
    main()
