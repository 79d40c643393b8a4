"""Workers in the background and a progress bar in front of them."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from fireworks.fw_config import RUN_EXPIRATION_SECS
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fuse_flows.errors import JobFailedError
from fuse_flows.flows.local import extend, start_workers
from fuse_flows.jobs.allocation import ending_of_process, handling
from fuse_flows.relax.queue_tiers import categories
from fuse_flows.settings import settings
from fuse_flows.store.jobs import fizzled_jobs, running_jobs, unfinished_jobs
from fuse_flows.store.repair import repair
from fuse_flows.store.requests import is_stop_requested
from fuse_flows.store.searches import search_document

if TYPE_CHECKING:
    import subprocess

    from rich.console import Console

    from fuse_flows.config import SearchConfig
    from fuse_flows.store.connection import Connection

POLL_SECONDS = 0.5
MAX_WORKERS = 4


def run_and_watch(connection: Connection, config: SearchConfig, workers: int | None, console: Console) -> bool:
    """Run a search to its end with a live progress bar.

    Parameters
    ----------
    connection
        The database.
    config
        The search.
    workers
        Worker processes; None for one per core, at most four.
    console
        Where the bar is drawn.

    Returns
    -------
    bool
        Whether the user interrupted it, or the allocation of a queueing system came to its end.

    Raises
    ------
    JobFailedError
        If a job failed for a reason that another try will not mend.
    """
    report = repair(connection.launchpad, config.search_id, lost_after=RUN_EXPIRATION_SECS)
    if report.anything:
        console.print(f"  repaired: {report}")
    folder = settings().data_dir / "workers" / config.search_id
    number = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[news]}"), console=console) as progress:
        task = progress.add_task(config.formula, total=config.stop.max_structures, news="")
        while True:
            processes = start_workers(connection, config.search_id, number, folder, categories(config))
            interrupted = _watch(processes, lambda: progress.update(task, **_news(connection, config)))
            if interrupted or not extend(connection, config):
                break
    ended = interrupted or is_stop_requested(connection.launchpad, config.search_id)
    if not ended and unfinished_jobs(connection, config.search_id):
        failed = fizzled_jobs(connection, config.search_id)
        if not failed and ending_of_process().ends_at is not None:
            return True
        what = f"job '{failed[0][0]}' failed: {failed[0][1]}" if failed else "the workers ended before the search did"
        raise JobFailedError(f"{what} (logs: {folder}); when that is mended: fuse-flows resume {config.search_id}")
    return interrupted


def _watch(processes: list[subprocess.Popen], refresh: Any) -> bool:
    """Wait for the workers; the first Ctrl-C lets them finish the structure in hand, the second one ends them.

    SIGTERM counts as Ctrl-C. Whatever else ends this process ends them too: workers without a watcher surprise people.
    """
    interrupts = 0
    with handling([signal.SIGTERM], _interrupt):
        while any(process.poll() is None for process in processes):
            try:
                refresh()
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                interrupts += 1
                _tell(processes, signal.SIGTERM if interrupts == 1 else signal.SIGKILL)
            except BaseException:
                _tell(processes, signal.SIGTERM)
                raise
    refresh()
    return interrupts > 0


def _tell(processes: list[subprocess.Popen], number: signal.Signals) -> None:
    for process in processes:
        process.send_signal(number)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _news(connection: Connection, config: SearchConfig) -> dict[str, Any]:
    """Return what the bar shows: structures done, best energy, last move and outcomes; first the job in hand."""
    search = search_document(connection, config.search_id)
    parts = []
    if search.best_energy_per_atom is not None:
        parts.append(f"best {search.best_energy_per_atom:.4f} eV/atom")
    if search.last_move:
        parts.append(f"last move {search.last_move}")
    parts += [f"{name} {number}" for name, number in sorted(search.outcomes.items())]
    if not parts:
        parts += running_jobs(connection, config.search_id)[:1]
    return {"completed": search.n_structures, "news": ", ".join(parts)}
