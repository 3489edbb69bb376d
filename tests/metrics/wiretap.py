"""Stands between hookshim and containerd, passes every byte on, and tells which calls came by with which metadata."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hpack import Decoder

#: HTTP/2 (RFC 9113): the client's preface, a frame's head, the types and flags that are read here.
_PREFACE, _HEAD = 24, 9
_HEADERS, _CONTINUATION = 1, 9
_PADDED, _PRIORITY, _END_HEADERS = 0x8, 0x20, 0x4


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it went by: its path, and its headers, pseudo-headers included."""

    path: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass
class _Requests:
    """Reads one connection's requests, as they come."""

    seen: list[Seen]
    decoder: Decoder = field(default_factory=Decoder)
    left: bytes = b""
    block: bytes = b""
    begun: bool = False

    def take(self, data: bytes) -> None:
        """More of what the client has sent."""
        self.left += data
        if not self.begun:
            if len(self.left) < _PREFACE:
                return
            self.begun, self.left = True, self.left[_PREFACE:]
        while len(self.left) >= _HEAD:
            length, kind, flags = int.from_bytes(self.left[:3], "big"), self.left[3], self.left[4]
            if len(self.left) < _HEAD + length:
                return
            payload, self.left = self.left[_HEAD : _HEAD + length], self.left[_HEAD + length :]
            if kind in (_HEADERS, _CONTINUATION):
                self._headers(kind, flags, payload)

    def _headers(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _HEADERS and flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if kind == _HEADERS and flags & _PRIORITY:
            payload = payload[5:]
        self.block += payload
        if flags & _END_HEADERS:
            headers = tuple((_text(name), _text(value)) for name, value in self.decoder.decode(self.block))
            self.block = b""
            self.seen.append(Seen(dict(headers)[":path"], headers))


class Wiretap:
    """Listens at ``path`` for ``target``; a context manager."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target
        self._seen: list[Seen] = []
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._begin(self._accept)

    @property
    def seen(self) -> list[Seen]:
        """All requests so far, in the order in which they came."""
        return list(self._seen)

    def __enter__(self) -> Self:
        """It listens already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close every connection, and wait until nobody uses one."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _begin(self, work: object, *arguments: object) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, name="wiretap", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                self._ends += [client, server]
                server.connect(str(self._target))
                self._begin(_carry, client, server, _Requests(self._seen))
                self._begin(_carry, server, client, None)


def _carry(source: socket.socket, sink: socket.socket, requests: _Requests | None) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
            if requests is not None:
                requests.take(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
