"""The configuration files of a project: the shipped ones, filled in for a database and for this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import fuse_flows
from fuse_flows.store.access import write_private
from fuse_flows.store.connection import write_jobflow_file, write_launchpad_file

if TYPE_CHECKING:
    from fuse_flows.store.connection import Connection

LAUNCHPAD, JOBFLOW = "my_launchpad.yaml", "jobflow.yaml"


def shipped_files() -> list[Path]:
    """Return the configuration files that come with the package, beside it in a checkout and within it in a wheel.

    Returns
    -------
    list of Path
        All but those that hold passwords, which are made anew.
    """
    package = Path(fuse_flows.__file__).parent
    folders = [folder / "fw_configs" for folder in (package, package.parent)]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    files = sorted(folder.iterdir()) if folder else []
    return [file for file in files if file.suffix in {".yaml", ".txt"} and file.name != JOBFLOW]


def write_project(connection: Connection, folder: Path) -> list[tuple[Path, bool]]:
    """Write the configuration files of a project; none that is there is changed.

    Parameters
    ----------
    connection
        The database they lead to.
    folder
        Where they go; it is made.

    Returns
    -------
    list of tuple
        Each file, and whether it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = folder.resolve()
    written = []
    for file in shipped_files():
        text = file.read_text(encoding="utf-8")
        written.append((home / file.name, _filled_in(text, home)))
    results = [(folder / path.name, _write_new(path, text)) for path, text in written]
    for name, write in ((LAUNCHPAD, write_launchpad_file), (JOBFLOW, write_jobflow_file)):
        path = folder / name
        is_new = not path.exists()
        if is_new:
            write(connection, path)
        results.append((path, is_new))
    return results


def _filled_in(text: str, home: Path) -> str:
    """Put the folder of the project and that of this Python's programs in place of the examples."""
    programs = Path(sys.executable).parent  # not resolved: a virtual environment links to another Python
    for example, real in (("/path/to/bin", programs), ("/path/to/fw_configs", home), ("/path/to", home)):
        text = text.replace(example, str(real))
    return text


def _write_new(path: Path, text: str) -> bool:
    if path.exists():
        return False
    write_private(path, text)
    return True
