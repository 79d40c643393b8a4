"""The experiments of the FUSE2 paper: eleven compounds, six recipes, three runs each; its tables beside ours.

    python benchmarks/experiments.py                                     # all of it; weeks on one machine
    python benchmarks/experiments.py --compounds Mn WCl2 --recipes fgen mlgen-spp --seeds 0 1 \
        --structures 100 --max-atoms 24 --generated 500 --workers 2 --total-hours 8
    python benchmarks/experiments.py ... --tables                        # tables of what is there, also meanwhile
    python benchmarks/experiments.py ... --yardstick                     # relax known and published structures first

Every run is a search of its own on a LaunchPad in an embedded MongoDB of its own (``--database``), submitted as a
workflow and worked on by one worker process; ``--workers`` runs are under way at a time, the first seed of all
compounds and recipes first. Ctrl-C, ``--total-hours`` and crashes leave runs that the same command continues; finished
runs are not repeated, and a larger budget extends them. Which searches are meant follows from the options that decide
on the structures (``--final --max-atoms --initial --generated --keep --energy-model``), so give ``--tables`` the same.

Budget of a run: ``--structures`` in all, the first population included, or ``--hours`` since the first population was
complete (wall time, so only with as many workers as free cores). Costs are CPU seconds as the documents of the
candidates have them, of every tier, with generation and ranking; the bookkeeping of the search is not in them.

Yardsticks are the published structures of the paper and the known structures, by ``--yardstick`` in the same tier, or,
for CHGNet, as they lie in ``--data``; without either the tables say so. Source of protocol and numbers of the paper:
10.1039/d4fd00094c, Sections 2 and 3.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
sys.path.insert(0, str(Path(__file__).parent))

from experiments_paper import COMPOUNDS
from experiments_rows import Yardstick, read_yardstick, relax_yardstick, row_of
from experiments_tables import draw, markdown, tables

from fuse_flows.flows.checks import check_search
from fuse_flows.flows.local import extend, start_workers, submit
from fuse_flows.flows.recipes import RECIPES, recipe
from fuse_flows.relax.energy_model import with_model_digest
from fuse_flows.relax.queue_tiers import categories
from fuse_flows.relax.spp_tier import with_library_digests
from fuse_flows.store.connection import connect_server
from fuse_flows.store.mongod import listens
from fuse_flows.store.repair import repair
from fuse_flows.store.server import EmbeddedServer
from fuse_flows.store.setup import ensure_indexes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fuse_flows.config import SearchConfig
    from fuse_flows.store.connection import Connection

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "experiments.json"
LOST_AFTER = 300.0  # seconds without a sign of life, as the workers' FW_config.yaml says


@dataclass(frozen=True)
class Case:
    """One run: a compound, a recipe and a seed, with the search that they stand for."""

    formula: str
    recipe: str
    seed: int
    config: SearchConfig

    @property
    def name(self) -> str:
        """How it is called on the screen."""
        return f"{self.formula} {self.recipe} {self.seed}"


def config_for(formula: str, name: str, seed: int, options: argparse.Namespace) -> SearchConfig:
    """The search of one run; a compound whose formula unit is larger than ``--max-atoms`` gets one formula unit."""
    structures = options.structures or (200 if options.hours is None else 10**6)
    initial = options.initial or min(25, max(1, structures // 2))
    generate = {"candidates": options.generated, "keep": options.keep, "energy_model": options.energy_model}
    overrides: dict[str, Any] = {
        "label": "experiments of the paper",
        "max_atoms": options.max_atoms,
        "seed": seed,
        "generator": {"initial_structures": initial},
        "stop": {"max_structures": structures, "patience": structures, "wall_hours": options.hours},
    }
    atoms = sum(recipe(name, formula, max_atoms=10**4, final=options.final).counts.values())
    overrides["max_atoms"] = max(options.max_atoms, atoms)
    if name.startswith("mlgen"):
        given = {key: value for key, value in generate.items() if value is not None}
        overrides["pool"] = {"generate": given}
    config = recipe(name, formula, final=options.final, **overrides)
    return with_library_digests(with_model_digest(config))


def cases_of(options: argparse.Namespace) -> list[Case]:
    """All runs, the first seed of everything first.

    Recipes that come to the same search count once: fgen-chgnet is fgen where CHGNet is the last tier as well.
    """
    cases: dict[str, Case] = {}
    for seed, formula, name in product(options.seeds, options.compounds, options.recipes):
        config = config_for(formula, name, seed, options)
        cases.setdefault(config.search_id, Case(formula, name, seed, config))
    return list(cases.values())


@contextmanager
def database(folder: Path, port: int) -> Iterator[Connection]:
    """The experiments' own database; its server is stopped at the end by the process that started it."""
    os.environ |= {"FUSE_FLOWS_DATA_DIR": str(folder), "FUSE_FLOWS_DB_PORT": str(port)}
    os.environ.pop("JOBFLOW_CONFIG_FILE", None)
    folder.mkdir(parents=True, exist_ok=True)
    server, ours = EmbeddedServer(folder / "mongodb", port), not listens(port)
    server.start()
    connection = connect_server(server)
    try:
        ensure_indexes(connection)
        yield connection
    finally:
        connection.close()
        if ours:
            server.stop()


class Worker:
    """The worker process, or processes where the last tier has a queue, of one run."""

    def __init__(self, connection: Connection, case: Case, folder: Path) -> None:
        self.case, self.connection, self.folder = case, connection, folder / "workers" / case.config.search_id
        repair(connection.launchpad, case.config.search_id, lost_after=LOST_AFTER)
        self.start()

    def start(self) -> None:
        """Start the processes."""
        queues = categories(self.case.config)
        self.processes = start_workers(self.connection, self.case.config.search_id, 1, self.folder, queues)

    def is_busy(self, *, go_on: bool) -> bool:
        """Tell whether it still works; it is started again if it ended and the search has not."""
        if any(process.poll() is None for process in self.processes):
            return True
        if go_on and extend(self.connection, self.case.config):
            self.start()
            return True
        return False

    def end(self) -> None:
        """Ask it to finish the structure in hand and end."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def run_all(connection: Connection, cases: Sequence[Case], options: argparse.Namespace) -> None:
    """Submit all runs, and work on them until they are done, the time is up or somebody interrupts."""
    deadline = time.monotonic() + 3600 * (options.total_hours or 10**6)
    waiting: deque[Case] = deque()
    for case in cases:
        check_search(case.config)
        done = submit(connection, case.config)
        print(f"{case.name}: {case.config.search_id} {done}", flush=True)
        if done != "finished":
            waiting.append(case)
    busy: list[Worker] = []
    going = True
    while busy or (waiting and going):
        try:
            going = going and time.monotonic() < deadline
            if not going:
                for worker in busy:
                    worker.end()
            while going and waiting and len(busy) < options.workers:
                busy.append(Worker(connection, waiting.popleft(), options.database))
            ended = [worker for worker in busy if not worker.is_busy(go_on=going)]
            busy = [worker for worker in busy if worker not in ended]
            for worker in ended:
                print(_line(row_of(connection, worker.case)), flush=True)
            if ended:
                report(connection, cases, options, quiet=True)
            time.sleep(1.0)
        except KeyboardInterrupt:
            print("interrupted; the structures in hand are finished first", flush=True)
            going = False


def report(
    connection: Connection, cases: Sequence[Case], options: argparse.Namespace, *, quiet: bool = False
) -> dict[str, Any]:
    """Write results, tables and pictures of what is there; print the tables unless ``quiet``."""
    yardstick = yardstick_of(options)
    rows = [row for case in cases if (row := row_of(connection, case)) is not None]
    found = {
        "about": "experiments of the FUSE2 paper (10.1039/d4fd00094c); energies eV/atom, CPU seconds of this machine",
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/experiments.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("fuse-flows", "chgnet", "pymatgen")},
        "settings": {
            "final": options.final,
            "max_atoms": options.max_atoms,
            "structures": options.structures,
            "hours": options.hours,
            "generated": options.generated,
            "runs_planned": len(cases),
            "runs_begun": len(rows),
            "runs_finished": sum(row["status"] == "finished" for row in rows),
        },
        "yardstick": yardstick.as_dict(),
        "tables": tables(rows, yardstick),
        "runs": rows,
    }
    text = markdown(found)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(rows, yardstick, options.output)
    if not quiet:
        print(text)
    return found


def yardstick_of(options: argparse.Namespace) -> Yardstick:
    """The yardstick made here by ``--yardstick``, filled up with the one of ``--data`` where the tier is the same."""
    return read_yardstick(own_yardstick(options), options.data / f"yardstick_{options.final}.json")


def own_yardstick(options: argparse.Namespace) -> Path:
    """Where ``--yardstick`` writes."""
    return options.database / f"yardstick_{options.final}.json"


def _line(row: dict[str, Any] | None) -> str:
    """One run in a line."""
    if row is None:
        return "a run ended before its first structure; see the logs of its worker"
    lowest = "nothing relaxed" if row["lowest"] is None else f"lowest {row['lowest']:.4f} eV/atom"
    cost = f"{row['structures']} structures, {row['cpu_seconds']:.0f} CPU s"
    failed = f"; FAILED: {row['failed']}" if row["failed"] else ""
    return f"{row['formula']} {row['recipe']} {row['seed']} {row['status']}: {lowest}, {cost}{failed}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--compounds", nargs="+", default=list(COMPOUNDS), choices=list(COMPOUNDS), metavar="FORMULA", help="of eleven")
    add("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES, metavar="RECIPE", help="of six")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="one run each")
    add("--final", default="chgnet", help="calculator of the last tier")
    add("--structures", type=int, help="budget of a run; 200 if no hours are given")
    add("--hours", type=float, help="budget of a run")
    add("--max-atoms", type=int, default=50, help="largest structure")
    add("--initial", type=int, help="first population; the paper's 25, or half of the structures")
    add("--generated", type=int, help="candidates generated for each number of formula units (mlgen)")
    add("--keep", type=int, help="generated structures kept for each number of formula units (mlgen)")
    add("--energy-model", help="energy model of the generation (mlgen): gn, spp ...")
    add("--workers", type=int, default=1, help="runs that are worked on at a time")
    add("--total-hours", type=float, help="time for all; then what is in hand is finished")
    add("--tables", action="store_true", help="only tables and pictures of what is there")
    add("--yardstick", action="store_true", help="only relax known and published structures in the last tier")
    add("--data", type=Path, default=HERE.parent.parent / "shared" / "data", help="folder of the reference structures")
    add("--database", type=Path, default=Path.home() / ".local/share/fuse_flows_experiments", help="folder")
    add("--port", type=int, default=27719, help="of the database")
    add("--output", type=Path, default=RESULTS, help="results; tables (.md) and pictures (.png) lie beside it")
    options = parser.parse_args(arguments)
    options.database, options.output = options.database.resolve(), options.output.resolve()
    return options


def main() -> None:
    """Run, relax the yardstick, or print tables."""
    options = parse()
    if options.yardstick:
        options.database.mkdir(parents=True, exist_ok=True)
        relax_yardstick(options.data, options.compounds, options.final, own_yardstick(options))
        return
    cases = cases_of(options)
    with database(options.database, options.port) as connection:
        if not options.tables:
            run_all(connection, cases, options)
        report(connection, cases, options)


if __name__ == "__main__":
    main()
