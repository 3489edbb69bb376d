"""A port that leads to a unix socket, as ``ssh -L PORT:SOCKET`` makes one: so that a browser comes to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class _Forward:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.listening = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self.listening]
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # nothing is added after it
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _begin(self, work: Callable[..., None], *args: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listening.accept()
                far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._sockets += [near, far]
                far.connect(str(self._path))
                self._begin(_copy, near, far)
                self._begin(_copy, far, near)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def forwarded(path: Path) -> Iterator[str]:
    """The URL that leads there."""
    forward = _Forward(path)
    try:
        yield f"http://127.0.0.1:{forward.listening.getsockname()[1]}"
    finally:
        forward.close()
