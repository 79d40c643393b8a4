"""How fast a full database answers: status, results, Search and the queries of docs/queries.md.

    python benchmarks/database_load.py [--candidates 1000 100000]

Fills a database with documents of a real search (Cu3Au, EMT), copied with new names, energies and volumes: 100
searches, the largest with a tenth of all candidates, one step per job, fireworks and workflows included. Half of the
candidates are copies of earlier ones. Then it asks everything a user asks, of the largest search or of all, and takes
the median of three answers: on the clock, and in CPU seconds of this process and of mongod (the machine may be busy
with other things). The commands run in this process: the start of Python and its imports do not count. Each query is
looked up in MongoDB's profiler and in its count of collection scans: only indexes may be used.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import re
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).parent))

from copies import INITIAL, Copier, cpu_of
from ports import free_port
from typer.testing import CliRunner

import fuse_flows.store.connection as connections
from fuse_flows.cli.app import app
from fuse_flows.config import SearchConfig, load_config
from fuse_flows.flows.local import submit, work
from fuse_flows.store import Search
from fuse_flows.store.connection import Connection, connect_server, write_launchpad_file
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "database_load.json"
PAGE = Path(__file__).parents[1] / "docs" / "queries.md"
SHARES = [0.1, *[0.05] * 9, *[0.005] * 90]
TIMES = 3
SLOW = 3.0


def real_search(connection: Connection) -> SearchConfig:
    """Run the search whose documents are copied."""
    config = load_config(
        formula="Cu3Au",
        max_atoms=16,
        generator={"initial_structures": INITIAL},
        stop={"max_structures": 40, "patience": 10**6},
        tiers=[{"calculator": "emt", "max_steps": 60}],
    )
    submit(connection, config)
    work(connection, config.search_id)
    return config


def questions(connection: Connection, launchpad: Path, name: str) -> dict[str, Callable[[], Any]]:
    """Everything that is asked, by what a user would write."""

    def command(*words: str) -> Callable[[], None]:
        def ask() -> None:
            found = CliRunner().invoke(app, [*words, "--launchpad", str(launchpad)], catch_exceptions=False)
            if found.exit_code:
                raise RuntimeError(found.output)

        return ask

    search = Search(name, connection)
    some = search.best(1)[0]
    group = some["space_group_number"]
    asked: dict[str, Callable[[], Any]] = {
        "fuse-flows status": command("status"),
        "fuse-flows status SEARCH": command("status", name),
        "fuse-flows results SEARCH": command("results", name),
        "fuse-flows results SEARCH --all": command("results", name, "--all"),
        "fuse-flows results SEARCH --within 0.02": command("results", name, "--within", "0.02"),
        "fuse-flows results SEARCH --space-group": command("results", name, "--space-group", str(group)),
        "fuse-flows results SEARCH --outcome": command("results", name, "--outcome", "not-converged", "--top", "20"),
        "Search(FORMULA)": lambda: Search("Cu3Au", connection),
        "Search.best()": search.best,
        "Search.unique(10)": lambda: search.unique(10),
        "Search.unique(within=0.02)": lambda: search.unique(within=0.02),
        "Search.unique()": search.unique,
        "Search.candidates()": search.candidates,
        "Search.candidates(within=0.02)": lambda: search.candidates(within=0.02),
        "Search.candidates(outcome)": lambda: search.candidates(outcome="converged"),
        "Search.history()": search.history,
        "Search.moves()": search.moves,
        "Search.document(id)": lambda: search.document(some["candidate_id"]),
    }
    return asked | page_queries(connection, name)


def page_queries(connection: Connection, name: str) -> dict[str, Callable[[], None]]:
    """The queries of docs/queries.md."""
    queries = dict(
        re.findall(r"<!-- query: (\w+) -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    )
    begin = queries.pop("connect").replace("Cu3Au-0123456789", name)
    connections.connect = lambda *_: connection  # type: ignore[assignment] # the page connects for itself

    def run(text: str) -> Callable[[], None]:
        def ask() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(begin + text, {})  # noqa: S102 - the page's own code

        return ask

    return {f"queries.md, {number}": run(text) for number, text in queries.items()}


def collection_scans(connection: Connection) -> int:
    status = connection.database.client.admin.command("serverStatus")
    return int(status["metrics"]["queryExecutor"]["collectionScans"]["total"])


def ask(connection: Connection, pid: int, question: Callable[[], Any]) -> dict[str, Any]:
    """Ask three times; then once more with the profiler on."""
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter(), time.process_time(), cpu_of(pid)
        question()
        taken.append((time.perf_counter() - begun[0], time.process_time() - begun[1], cpu_of(pid) - begun[2]))
        if sum(taken[-1][1:]) > SLOW:
            break  # it takes long enough to be known
    wall, cpu, server = (statistics.median(column) for column in zip(*taken, strict=True))
    database = connection.database
    database.command("profile", 2)
    scans = collection_scans(connection)
    question()
    scans = collection_scans(connection) - scans
    database.command("profile", 0)
    plans = {
        (found["ns"].split(".", 1)[1], found["planSummary"].split(" ")[0])
        for found in database["system.profile"].find({"planSummary": {"$exists": True}})
    }
    database.drop_collection("system.profile")
    whole = sorted(
        {name for name, plan in plans if plan == "COLLSCAN" and name not in ("system.profile", "fw_id_assigner")}
    )
    scans -= sum(plan == "COLLSCAN" and name == "fw_id_assigner" for name, plan in plans)  # one document
    return {
        "seconds": round(wall, 3),
        "client_cpu_s": round(cpu, 3),
        "mongod_cpu_s": round(server, 2),
        "collections_scanned": whole,
        "collection_scans": max(0, scans),
    }


def measure(server: EmbeddedServer, source: Connection, config: SearchConfig, n: int, folder: Path) -> dict[str, Any]:
    """Fill a database and ask it everything."""
    own = EmbeddedServer(server.data_dir, server.port, db_name=f"load_{n}")
    connection = connect_server(own)
    ensure_indexes(connection)
    copier = Copier(source, config, connection)
    begun = time.perf_counter()
    sizes = [max(INITIAL, round(share * n)) for share in SHARES]
    written: dict[int, SearchConfig] = {}
    names = []
    for number, size in enumerate(sizes):
        if size in written:
            names.append(copier.again(written[size], number).search_id)
        else:
            written[size] = copier.write(number, size)
            names.append(written[size].search_id)
    filled = time.perf_counter() - begun
    launchpad = folder / f"my_launchpad_{n}.yaml"
    write_launchpad_file(connection, launchpad)
    pid = server.status().pid or 0
    real = connections.connect
    try:
        answers = {}
        for what, question in questions(connection, launchpad, names[0]).items():
            if not what.startswith("queries.md"):
                connections.connect, asked = real, connections.connect
                answers[what] = ask(connection, pid, question)
                connections.connect = asked
            else:
                answers[what] = ask(connection, pid, question)
            row = answers[what]
            print(
                f"{n:7} {what:42} {row['seconds']:7.3f} {row['client_cpu_s']:7.3f} {row['mongod_cpu_s']:7.2f}",
                *row["collections_scanned"],
                row["collection_scans"] or "",
                flush=True,
            )
    finally:
        connections.connect = real
    stats = {name: connection.database.command("collStats", name) for name in ("outputs", "fireworks", "workflows")}
    keys = {"mb": "size", "storage_mb": "storageSize", "index_mb": "totalIndexSize"}
    space = {name: {key: round(found[of] / 1e6) for key, of in keys.items()} for name, found in stats.items()}
    return {"candidates": n, "searches": len(names), "filled_s": round(filled), "space": space, "answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    output = options.output.resolve()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        server = EmbeddedServer(folder / "db", free_port(), db_name="template")
        server.start()
        try:
            source = connect_server(server)
            ensure_indexes(source)
            config = real_search(source)
            print(f"{'cand.':>7} {'question':42} {'wall s':>7} {'client':>7} {'mongod':>7} (CPU s)")
            rows = [measure(server, source, config, n, folder) for n in options.candidates]
        finally:
            server.stop()
            os.chdir("/")
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "rows": rows}
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
