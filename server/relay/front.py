"""The front door that relays connections: its socket, its start and its end, as those of `server.front.GrpcFront`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from server.front.address import Address
from server.front.methods import UNARY
from server.relay.connection import LINGER, Connection
from server.tap import Untapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from server.backend import Backend
    from server.call import Interceptor
    from server.front import Gate
    from server.tap import CallTap

_STOPPING = "hookshim is shutting down"

#: Connections that may wait to be accepted.
_BACKLOG = 1024


class _Where:
    """The backend as a connection needs it."""

    def __init__(self, backend: Backend) -> None:
        self.socket = str(backend.path)
        self.unreachable_text = backend.unreachable_text


class RelayFront:
    """Serves CRI v1 at a unix socket (mode 0660), in front of one containerd.

    To be made, started and stopped once, inside one running event loop. ``backend`` says where containerd is; each
    client has a connection to it of its own.
    """

    def __init__(
        self, socket_path: Path, backend: Backend, interceptor: Interceptor, gate: Gate, tap: CallTap | None = None
    ) -> None:
        """``tap`` is told how every call has ended."""
        self._tap = tap or Untapped()
        self._address = Address(socket_path)
        self._where = _Where(backend)
        self._interceptor = interceptor
        self._gate = gate
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._stopping = False
        self._changed = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """How many calls are being served now, streams included."""
        return sum(len(each.methods) for each in self._connections)

    async def start(self) -> None:
        """Begin to serve. Raises ListenError if the socket cannot be had."""
        self._address.check()
        self._address.bind(self._bind)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._accept, sock=self._socket, backlog=_BACKLOG)
            self._address.publish()
        except BaseException:
            self._stop_listening()
            raise

    async def stop(self, grace: float) -> None:
        """Accept no more calls, give unary ones ``grace`` seconds to finish, end streams, and close.

        Streams end with UNAVAILABLE as soon as only streams are left; so does what outlives the grace.
        """
        self._address.release()
        self._stop_listening()
        self._stopping = True
        for connection in list(self._connections):
            connection.leave()
        await self._until(lambda: not self._unary(), grace)
        for connection in list(self._connections):
            connection.end(_STOPPING)
        await self._until(lambda: not self._connections, LINGER)
        left = [task for connection in self._connections for task in connection.tasks()]
        for connection in list(self._connections):
            connection.abort()
        await self._until(lambda: not self._connections, LINGER)
        if left:
            await asyncio.wait(left)

    def _unary(self) -> bool:
        methods = UNARY | self._interceptor.methods
        return any(method in methods for each in self._connections for method in each.methods)

    def _bind(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(str(path))
        except OSError as error:
            self._socket.close()
            raise RuntimeError(error.strerror) from error
        self._socket.setblocking(False)  # noqa: FBT003 - the socket's own way

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()

    def _accept(self) -> asyncio.BaseProtocol:
        connection = Connection(self._where, self._interceptor, self._closed, self._seen, self._tap)
        self._connections.add(connection)
        if self._stopping:
            asyncio.get_running_loop().call_soon(connection.abort)
        return connection.client

    def _closed(self) -> str | None:
        return _STOPPING if self._stopping else self._gate.reason

    def _seen(self, connection: Connection) -> None:
        if connection.ended:
            self._connections.discard(connection)
        if self._stopping:
            self._changed.set()

    async def _until(self, true: Callable[[], bool], within: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
