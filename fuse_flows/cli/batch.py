"""The searches of a batch: read and checked together, then added to the LaunchPad or written as files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fuse_flows.cli.console import console
from fuse_flows.cli.options import SearchOptions, search_config

if TYPE_CHECKING:
    from pathlib import Path

    from fuse_flows.config import SearchConfig
    from fuse_flows.generators.files import FilePool
    from fuse_flows.store.connection import Connection


@dataclass(frozen=True)
class CheckedSearch:
    """A search that can be submitted."""

    config: SearchConfig
    pool: FilePool
    priority: int | None


def read_searches(path: Path, options: SearchOptions, priority: int | None = None) -> list[CheckedSearch]:
    """Read and check all searches of a batch.

    Parameters
    ----------
    path
        The file; see :func:`.read_batch`.
    options
        Options that hold for all of them, over what the file says.
    priority
        Priority for all of them, over what the file says; None for none.

    Returns
    -------
    list of CheckedSearch
        In the order of the file.

    Raises
    ------
    ConfigError, MissingExtraError
        Naming the first search that is wrong, and how many others are.
    """
    from fuse_flows.errors import ConfigError
    from fuse_flows.flows.batch import read_batch
    from fuse_flows.generators.files import read_pool

    if options.config is not None:
        raise ConfigError("config", "cannot be given together with --batch; put its keys into 'common' of that file")
    found: dict[str, CheckedSearch] = {}
    names: dict[str, str] = {}
    wrong: list[ConfigError] = []
    for entry in read_batch(path):
        own = replace(options, recipe=options.recipe or entry.recipe, final=options.final or entry.final)
        try:
            config, pool = read_pool(search_config(entry.formula, own, common=entry.values))
            if config.search_id in names:
                msg = f"is the same search as {names[config.search_id]}; leave one out, or give it a label of its own"
                raise ConfigError("formula", msg)  # noqa: TRY301 - one of the refusals that are collected
        except ConfigError as error:
            wrong.append(ConfigError(f"{entry.name}.{error.field}", error.message))
            continue
        names[config.search_id] = entry.name
        found[config.search_id] = CheckedSearch(config, pool, entry.priority if priority is None else priority)
    if wrong:
        named = ", ".join(error.field for error in wrong[1:5]) + (", ..." if len(wrong) > 5 else "")
        others = f" ({len(wrong) - 1} more of its searches are wrong: {named}; nothing was added)" if named else ""
        raise ConfigError(wrong[0].field, f"{wrong[0].message}{others}")
    return list(found.values())


def add_all(connection: Connection, searches: list[CheckedSearch]) -> None:
    """Add searches to the LaunchPad, those that are there already excepted.

    Parameters
    ----------
    connection
        The database.
    searches
        From :func:`read_searches`.
    """
    from fuse_flows.flows.local import add

    counts = Counter[str]()
    for search in searches:
        done = add(connection, search.config, search.pool, search.priority)
        counts[done] += 1
        console.print(f"{search.config.search_id}  {done}")
    console.print(f"{len(searches)} searches: {', '.join(f'{name} {number}' for name, number in counts.items())}")


def write_all(folder: Path, searches: list[CheckedSearch]) -> None:
    """Write searches as files for ``lpad add``, one each, named after the search.

    Parameters
    ----------
    folder
        Where they go; it is made if need be.
    searches
        From :func:`read_searches`.

    Raises
    ------
    ConfigError
        If they cannot be written.
    """
    from fuse_flows.errors import ConfigError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("output", f"{folder} cannot be made a folder ({error.strerror})") from error
    for search in searches:
        write_workflow(folder / f"{search.config.search_id}.yaml", search.config, search.pool, search.priority)
    console.print(
        f"wrote {len(searches)} files into {folder}; add them with: lpad -l my_launchpad.yaml add {folder}/*.yaml"
    )


def write_workflow(path: Path, config: SearchConfig, pool: FilePool, priority: int | None) -> None:
    """Write a search as a file for ``lpad add``.

    Parameters
    ----------
    path
        The file; its ending decides between YAML and JSON.
    config, pool, priority
        The search.

    Raises
    ------
    ConfigError
        If it cannot be written.
    """
    from fuse_flows.errors import ConfigError
    from fuse_flows.flows.search import SearchMaker

    try:
        SearchMaker(config, pool).workflow(priority).to_file(str(path))
    except OSError as error:
        raise ConfigError("output", f"{path} cannot be written ({error.strerror})") from error
