"""Overhead of the LaunchPad per search step, and how it grows.

    python benchmarks/overhead.py [--steps 20 200 1000]

Runs searches with a calculator that does nothing, through a real MongoDB LaunchPad with one worker in this process,
and prints seconds per step. Two figures stand beside it, measured in the same run: the same steps taken in a plain
loop (engine alone), and the ratio of the last fifth of the steps to the first fifth (1: no growth).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).parent))

from fuse_flows.config import SearchConfig, load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.jobs.evaluate import evaluate, evaluation_of
from fuse_flows.jobs.steps import walk
from fuse_flows.search.judge import start
from fuse_flows.search.propose import propose_initial
from fuse_flows.store.connection import connect_server
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

INITIAL = 5
RESULTS = Path(__file__).parent / "results" / "overhead.json"


def config_for(steps: int, steps_per_job: int) -> SearchConfig:
    return load_config(
        formula="MgO",
        max_atoms=8,
        label=f"overhead {steps} {steps_per_job}",
        generator={"initial_structures": INITIAL},
        stop={"max_structures": INITIAL + steps, "patience": 10**6},
        execution={"steps_per_job": steps_per_job},
        tiers=[{"calculator": "null_calculator:NullCalculator"}],
    )


def engine_seconds_per_step(config: SearchConfig) -> float:
    """The same steps in a plain loop: proposals, checks, documents, but no job and no database."""
    population = [evaluation_of(evaluate(propose_initial(config, i), config)) for i in range(INITIAL)]
    state = start(config, population)
    begun = time.perf_counter()
    while state.stop_reason is None:
        state, _ = walk(config, state)
    return (time.perf_counter() - begun) / state.step


def launchpad_seconds(connection, config: SearchConfig) -> tuple[float, float | None]:  # noqa: ANN001
    """Return seconds per step of the chain, and the last fifth over the first fifth."""
    submit(connection, config)
    work(connection, config.search_id)
    documents = connection.jobstore.query(
        {"metadata.search_id": config.search_id, "output.kind": {"$in": ["start", "steps"]}},
        ["completed_at", "output.step"],
        sort={"output.step": 1},
    )
    points = [(d["output"]["step"], datetime.fromisoformat(d["completed_at"]).timestamp()) for d in documents]
    fifth = max(1, len(points) // 5)

    def rate(part: list[tuple[int, float]]) -> float:
        return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0])

    total = rate(points)
    growth = rate(points[-fifth - 1 :]) / rate(points[: fifth + 1]) if len(points) > 2 * fifth else None
    return total, growth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--steps-per-job", type=int, nargs="+", default=[1, 20])
    options = parser.parse_args()
    logging.disable(logging.INFO)  # FireWorks and jobflow report every job
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        server = EmbeddedServer(Path(folder) / "db", port=27719)
        server.start()
        try:
            connection = connect_server(server)
            ensure_indexes(connection)
            launchpad_seconds(connection, config_for(2, 1))  # imports and first-use costs are not counted
            print(f"{'steps':>6} {'per job':>8} {'ms/step':>9} {'engine alone':>13} {'overhead':>9} {'growth':>7}")
            for steps_per_job in options.steps_per_job:
                for steps in options.steps:
                    config = config_for(steps, steps_per_job)
                    engine = engine_seconds_per_step(config)
                    total, growth = launchpad_seconds(connection, config)
                    rows.append(
                        {
                            "steps": steps,
                            "steps_per_job": steps_per_job,
                            "ms_per_step": round(1000 * total, 2),
                            "engine_ms_per_step": round(1000 * engine, 2),
                            "overhead_ms_per_step": round(1000 * (total - engine), 2),
                            "growth": growth and round(growth, 2),
                        }
                    )
                    print(
                        f"{steps:6} {steps_per_job:8} {1000 * total:9.1f} {1000 * engine:13.1f} "
                        f"{1000 * (total - engine):9.1f} {growth or '-':>7.4}",
                        flush=True,
                    )
        finally:
            server.stop()
            os.chdir("/")
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
