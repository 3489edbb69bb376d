"""A daemon's metrics, as Prometheus asks for them."""

from __future__ import annotations

import socket
import urllib.request


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def metrics(port: int) -> str:
    """What a scrape is answered with."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())
