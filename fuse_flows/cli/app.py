"""The ``fuse-flows`` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

import fuse_flows
from fuse_flows.cli import control, database, export, generate, gn, hull, results, searches, setup, spp, status
from fuse_flows.errors import FuseFlowsError

app = typer.Typer(
    name="fuse-flows",
    help="Predict crystal structures by basin hopping over assembled modules (FUSE2), on FireWorks and MongoDB.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(searches.run)
app.command("workflow")(searches.workflow)
app.command("generate")(generate.generate)
app.command("resume")(searches.resume)
app.command("stop")(control.stop)
app.command("pause")(control.pause)
app.command("priority")(control.priority)
app.command("repair")(control.repair)
app.command("worker")(searches.worker)
app.command("status")(status.status)
app.command("throughput")(status.throughput)
app.command("results")(results.results)
app.command("export")(export.export)
app.command("import")(export.import_archive)
app.command("report")(export.report)
app.command("hull")(hull.hull)
app.command("init")(setup.init)
app.command("check")(setup.check)
app.add_typer(setup.config_app, name="config")
app.add_typer(database.app, name="db")
app.add_typer(gn.app, name="gn")
app.add_typer(spp.app, name="spp")


def _print_version(*, wanted: bool) -> None:
    if wanted:
        Console().print(fuse_flows.__version__)
        raise typer.Exit


@app.callback()
def _callback(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=lambda value: _print_version(wanted=value), is_eager=True)
    ] = False,
) -> None:
    """Predict crystal structures by basin hopping over assembled modules (FUSE2), on FireWorks and MongoDB."""


def main() -> None:
    """Run the command line; an error of ours, of a file or of the database is one line on stderr and exit code 2."""
    try:
        app()
    except Exception as error:
        message = in_one_line(error)
        if message is None:
            raise
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {message}", style="red")
        sys.exit(2)


def in_one_line(error: Exception) -> str | None:
    """Say what a user can do something about.

    Parameters
    ----------
    error
        What a command raised.

    Returns
    -------
    str or None
        Its message; for files that cannot be read or written, and for a database that went away, what they say. None
        for anything else, which is a defect and wants its traceback.
    """
    if isinstance(error, FuseFlowsError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if type(error).__module__ == "pymongo.errors":  # not imported here: most commands that fail never needed it
        from fuse_flows.store.jobstore import one_line

        return f"the database went away, or refused what was asked of it ({one_line(error)}); see: fuse-flows check"
    return None
