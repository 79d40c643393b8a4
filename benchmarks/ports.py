"""A port for a database of a benchmark's own."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A port on which nothing listens, below those that systems give to outgoing connections."""
    while True:
        port = random.randrange(12_000, 26_000)  # noqa: S311 - any will do
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
