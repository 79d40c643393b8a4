"""Two hundred small searches at once with four workers on one LaunchPad.

    python benchmarks/many_searches.py [--searches 200] [--workers 4] [--one-worker 24] [--alone 4]

Searches of four compositions, 20 structures each, with a calculator that does nothing: nearly all of the time is jobs,
proposals and database, so the workers are in one another's way as much as they can be. Beside it stand some of the
same searches with one worker, in a database of their own (the ratio of the throughputs), and a sample run alone, each
in a database of its own, compared candidate by candidate. Nothing may be left over: failed, lost or unfinished jobs,
jobs that ran twice, locked workflows, complaints in the logs of the workers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
BENCHMARKS = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCHMARKS))

from copies import cpu_of
from ports import free_port

from fuse_flows.config import SearchConfig, load_config
from fuse_flows.flows.local import WORKER_FW_CONFIG, submit, work
from fuse_flows.store.connection import Connection, connect_server, write_launchpad_file
from fuse_flows.store.queries import candidate_rows
from fuse_flows.store.repair import repair
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

FORMULAS = ("MgO", "TiO2", "CaF2", "NaCl")
STRUCTURES = 20
RESULTS = BENCHMARKS / "results" / "many_searches.json"
FIELDS = ("candidate_id", "energy_per_atom", "outcome", "move", "accepted", "cluster_id")


def config_for(number: int) -> SearchConfig:
    return load_config(
        formula=FORMULAS[number % len(FORMULAS)],
        max_atoms=12,
        seed=number,
        generator={"initial_structures": 5},
        stop={"max_structures": STRUCTURES},
        execution={"structures_per_job": 5, "steps_per_job": 3},
        tiers=[{"calculator": "null_calculator:NullCalculator"}],
    )


def database(server: EmbeddedServer, name: str) -> Connection:
    connection = connect_server(EmbeddedServer(server.data_dir, server.port, db_name=name))
    ensure_indexes(connection)
    return connection


def run_workers(connection: Connection, pid: int, number: int, folder: Path) -> dict[str, float]:
    """Let workers run all that is there; return seconds on the clock and of the CPUs."""
    folder.mkdir()
    (folder / "FW_config.yaml").write_text(WORKER_FW_CONFIG, encoding="utf-8")
    write_launchpad_file(connection, folder / "my_launchpad.yaml")
    path = os.pathsep.join([str(BENCHMARKS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fuse_flows.cli", "worker", "--launchpad", "my_launchpad.yaml"]
    usage, server, begun = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_of(pid), time.perf_counter()
    workers = []
    for place in range(number):
        with (folder / f"worker-{place}.log").open("w", encoding="utf-8") as log:
            environment = os.environ | {"PYTHONPATH": path}
            workers.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT))
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise RuntimeError((folder / f"worker-{codes.index(max(codes))}.log").read_text(encoding="utf-8"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter() - begun
    return {
        "wall_s": wall,
        "workers_cpu_s": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
        "mongod_cpu_s": cpu_of(pid) - server,
    }


def throughput(taken: dict[str, float], structures: int, jobs: int) -> dict[str, float]:
    cpu = taken["workers_cpu_s"] + taken["mongod_cpu_s"]
    return {key: round(value, 1) for key, value in taken.items()} | {
        "structures_per_s": round(structures / taken["wall_s"], 2),
        "jobs_per_s": round(jobs / taken["wall_s"], 2),
        "cpu_ms_per_structure": round(1000 * cpu / structures, 1),
    }


def left_over(connection: Connection, configs: list[SearchConfig], logs: list[Path]) -> dict[str, Any]:
    """Look for everything that should not be there."""
    launchpad = connection.launchpad
    states = Counter(found["state"] for found in launchpad.fireworks.find({}, {"state": 1}))
    launches = Counter(found["state"] for found in launchpad.launches.find({}, {"state": 1}))
    short = [
        config.search_id
        for config in configs
        if len(candidate_rows(connection, config.search_id, ["candidate_id"])) != STRUCTURES
    ]
    ids = [row["candidate_id"] for config in configs for row in candidate_rows(connection, config.search_id, FIELDS)]
    complaints = [
        line
        for log in logs
        for line in log.read_text(encoding="utf-8").splitlines()
        if any(word in line.lower() for word in ("error", "conflict", "traceback", "lock", "warning"))
    ]
    report = repair(launchpad, None, lost_after=None, patience=0.0)
    return {
        "jobs": dict(states),
        "launches": dict(launches),
        "jobs_run_twice": sum(launches.values()) - sum(states.values()),
        "searches_not_complete": short,
        "candidates_stored_twice": len(ids) - len(set(ids)),
        "locked_workflows": launchpad.workflows.count_documents({"locked": {"$exists": True}}),
        "to_repair": str(report) if report.anything else "nothing",
        "complaints": complaints[:20],
        "n_complaints": len(complaints),
    }


def compare(server: EmbeddedServer, many: Connection, configs: list[SearchConfig], number: int) -> dict[str, Any]:
    """Run some searches alone, and compare them candidate by candidate."""
    sample = [configs[k * len(configs) // number + k % len(FORMULAS)] for k in range(number)]
    different = []
    for place, config in enumerate(sample):
        alone = database(server, f"alone_{place}")
        submit(alone, config)
        work(alone, config.search_id)
        mine, theirs = (candidate_rows(at, config.search_id, FIELDS) for at in (alone, many))
        different += [] if mine == theirs and len(mine) == STRUCTURES else [config.search_id]
    return {"searches": len(sample), "different": different}


def shares_by_worker(connection: Connection) -> dict[str, int]:
    """Jobs that each worker ran."""
    stages = [{"$group": {"_id": "$fworker.name", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    return {f"worker {k}": found["n"] for k, found in enumerate(connection.launchpad.launches.aggregate(stages), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--one-worker", type=int, default=24, help="Searches for the run with one worker.")
    parser.add_argument("--alone", type=int, default=4, help="Searches that are also run alone.")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    output = options.output.resolve()
    logging.disable(logging.INFO)
    configs = [config_for(number) for number in range(options.searches)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        server = EmbeddedServer(folder / "db", free_port())
        server.start()
        pid = server.status().pid or 0
        try:
            few = database(server, "one_worker")
            for config in configs[: options.one_worker]:
                submit(few, config)
            one = run_workers(few, pid, 1, folder / "one")
            n_few = few.launchpad.fireworks.count_documents({})
            record: dict[str, Any] = {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "one_worker": {"searches": options.one_worker, "jobs": n_few}
                | throughput(one, STRUCTURES * options.one_worker, n_few),
            }
            print("one worker", record["one_worker"], flush=True)
            many = database(server, "many")
            begun = time.process_time()
            for config in configs:
                submit(many, config)
            record["submit_cpu_ms_per_search"] = round(1000 * (time.process_time() - begun) / len(configs), 1)
            taken = run_workers(many, pid, options.workers, folder / "many")
            jobs = many.launchpad.fireworks.count_documents({})
            structures = STRUCTURES * options.searches
            record["many"] = {"searches": options.searches, "workers": options.workers, "structures": structures}
            record["many"] |= {"jobs": jobs} | throughput(taken, structures, jobs)
            record["many"] |= {"jobs_by_worker": shares_by_worker(many)}
            record["left_over"] = left_over(many, configs, sorted((folder / "many").glob("*.log")))
            rates = [record[run]["structures_per_s"] for run in ("many", "one_worker")]
            record["ratio_of_throughput"] = round(rates[0] / rates[1], 2)
            print("many", record["many"], "\nleft over", record["left_over"], flush=True)
            record["compared_with_run_alone"] = compare(server, many, configs, options.alone)
            print("ratio", record["ratio_of_throughput"], record["compared_with_run_alone"], flush=True)
        finally:
            server.stop()
            os.chdir("/")
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
