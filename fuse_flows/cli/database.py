"""Commands around the embedded MongoDB."""

from __future__ import annotations

import typer

from fuse_flows.cli.console import console

app = typer.Typer(name="db", help="Start and stop the embedded MongoDB.", no_args_is_help=True)


@app.command()
def start() -> None:
    """Start the embedded MongoDB and create its indexes and the view of candidates."""
    from fuse_flows.settings import settings
    from fuse_flows.store.connection import connect_server
    from fuse_flows.store.server import embedded_server
    from fuse_flows.store.setup import ensure_indexes

    server = embedded_server(settings())
    server.start()
    ensure_indexes(connect_server(server))
    _print_status()


@app.command()
def stop() -> None:
    """Stop the embedded MongoDB; its data stay."""
    from fuse_flows.settings import settings
    from fuse_flows.store.server import embedded_server

    embedded_server(settings()).stop()
    _print_status()


@app.command()
def status() -> None:
    """Show whether the embedded MongoDB runs, where it listens and where its data are."""
    _print_status()


def _print_status() -> None:
    from fuse_flows.settings import settings
    from fuse_flows.store.server import embedded_server

    state = embedded_server(settings()).status()
    console.print(f"embedded MongoDB {'is running' if state.running else 'is not running'}")
    for name, value in (
        ("uri", state.uri),
        ("pid", state.pid),
        ("version", state.version),
        ("data", state.data_dir),
    ):
        if value is not None:
            console.print(f"  {name:<8} {value}")
