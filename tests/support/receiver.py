"""A real HTTP server that httpGet hooks call (GET or POST): it remembers each request and answers as it is told."""

from __future__ import annotations

import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE, until

#: What socketserver hands about as a request.
Accepted = socket.socket | tuple[bytes, socket.socket]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came. ``path`` has its query; ``at`` is of time.monotonic()."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    at: float
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a path is answered: after ``delay`` seconds, or once ``release`` is set, with ``status`` and ``body``."""

    status: int = 200
    body: bytes = b"ok"
    delay: float = 0
    release: threading.Event | None = None


@dataclass(slots=True)
class _Record:
    requests: list[Request] = field(default_factory=list)
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)


class Receiver:
    """Listens on ``host`` and a port of its own until close(); a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        record = self._record = _Record()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                now = time.monotonic()
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                record.requests.append(Request(self.command, self.path, tuple(self.headers.items()), now, body))
                behaviour = record.behaviours.get(urlsplit(self.path).path, Behaviour())
                _wait(behaviour, record.ended)
                self.send_response(behaviour.status)
                self.send_header("Content-Length", str(len(behaviour.body)))
                self.end_headers()
                self.wfile.write(behaviour.body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            # the default of 5 makes the kernel drop what comes in a crowd, for seconds
            request_queue_size = 1024

            def handle_error(
                self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
            ) -> None:
                """A caller that left while it was made to wait is what tests do, not an error."""
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self._server = Server((host, 0), Answer)
        self.host = host
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)
        self._thread.start()

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they came, answered or not."""
        return list(self._record.requests)

    def seen(self, path: str) -> list[Request]:
        """The requests for a path, whatever their query."""
        return [request for request in self.requests if urlsplit(request.path).path == path]

    def behave(self, path: str, behaviour: Behaviour) -> None:
        """Answer this path so from now on; others are answered 200 at once."""
        self._record.behaviours[path] = behaviour

    def hang(self, path: str) -> threading.Event:
        """Leave requests for this path without an answer until the event that is returned is set."""
        release = threading.Event()
        self.behave(path, Behaviour(release=release))
        return release

    def wait_for(self, path: str, count: int = 1, within: float = PATIENCE) -> list[Request]:
        """The requests for a path once there are ``count`` of them. Raises TimeoutError."""
        until(lambda: len(self.seen(path)) >= count, f"{count} request(s) for {path}", within)
        return self.seen(path)

    def close(self) -> None:
        """Stop listening; requests that hang are answered."""
        self._record.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        """It listens already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _wait(behaviour: Behaviour, ended: threading.Event) -> None:
    """Wait as told, but never past the server's end."""
    deadline = time.monotonic() + behaviour.delay
    while not ended.is_set():
        if behaviour.release is not None:
            if behaviour.release.wait(0.02):
                return
        elif ended.wait(max(0.0, deadline - time.monotonic())) or time.monotonic() >= deadline:
            return
