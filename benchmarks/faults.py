"""Disturb searches in every way a cluster knows and compare each, candidate by candidate, with one left in peace.

    python benchmarks/faults.py [--only KIND]

The table goes to benchmarks/results/faults.json. tests/faults/harness.py makes the faults; root can fill disks, too.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "faults"))

import harness
from ports import free_port

from fuse_flows.store.server import EmbeddedServer

DISK = 600_000_000  # bytes for the database whose disk is filled


def tell(row: dict) -> None:
    result = "as undisturbed" if harness.is_harmless(row) else "NOT as undisturbed"
    mended = ", ".join(f"{name} {number}" for name, number in row["mended"].items()) or "nothing to mend"
    print(f"{row['kind']:<15}{row['name']:<45}{result:<20}{mended:<40}{row['seconds']:>6.1f} s", flush=True)


def run(faults: list, folder: Path, *, disk: bool = False) -> list[dict]:
    with harness.small_disk(folder / "disk", DISK) if disk else nullcontext(folder) as place:
        server = EmbeddedServer(place / "mongodb", free_port())
        server.start()
        rows = []
        try:
            expected = harness.undisturbed(server, folder)
            for fault in faults:
                try:
                    row = harness.trial(fault, server, folder, expected)
                except Exception as error:  # noqa: BLE001 - a run that could not even be judged is a row, too
                    row = harness.failed_row(fault, error)
                    server.start()
                rows.append(row)
                tell(row)
        finally:
            server.stop()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="only faults of this kind; nothing is written then")
    kind = parser.parse_args().only
    is_root = os.getuid() == 0
    faults = [fault for fault in harness.all_faults(is_root=is_root) if kind in (None, fault.kind)]
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    rows = []
    try:
        rows = run(faults, folder)
        if is_root and kind in (None, "disk full"):
            rows += run(harness.full_disks_of_mongod(), folder, disk=True)
    finally:
        if not rows or all(harness.is_harmless(row) for row in rows):
            shutil.rmtree(folder, ignore_errors=True)
    total = {key: sum(row[key] for row in rows) for key in ("lost", "duplicated", "different", "left_over")}
    print(f"{len(rows)} disturbed runs, {sum(row['struck'] for row in rows)} of them struck: {total}")
    if kind is None:
        values = {
            "structures_per_run": harness.STRUCTURES,
            "runs": len(rows),
            "struck": sum(row["struck"] for row in rows),
            "total": total,
            "alternative": "the same search undisturbed, candidate by candidate",
            "as_undisturbed": sum(harness.is_harmless(row) for row in rows) / len(rows),
            "rows": rows,
        }
        (ROOT / "benchmarks" / "results" / "faults.json").write_text(json.dumps(values, indent=1) + "\n")
    sys.exit(not all(harness.is_harmless(row) for row in rows))


if __name__ == "__main__":
    main()
