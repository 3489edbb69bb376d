"""The front door on grpc.aio: its socket, its start and its end. It is the reference for any other front door."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from grpc import aio

from server.backend import LIMITS, unix_target
from server.front.address import Address
from server.front.calls import Calls
from server.front.forward import Forwarder
from server.front.router import Gate, Router
from server.tap import Untapped

if TYPE_CHECKING:
    from pathlib import Path

    from server.backend import Backend
    from server.call import Interceptor
    from server.tap import CallTap

_OPTIONS: tuple[tuple[str, int], ...] = (
    *LIMITS,
    # Two servers at one name must not share its callers.
    ("grpc.so_reuseport", 0),
    # Clients may keep their connections alive as they like: there is no network here to be spared.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)

#: Seconds that ended calls get to tell their clients, before their connections are cut.
_LAST_WORDS = 1.0


class GrpcFront:
    """Serves CRI v1 at a unix socket (mode 0660), in front of one containerd.

    To be made, started and stopped once, inside one running event loop. ``backend`` stays the caller's to close.
    """

    def __init__(
        self, socket_path: Path, backend: Backend, interceptor: Interceptor, gate: Gate, tap: CallTap | None = None
    ) -> None:
        """``tap`` is told how every call has ended."""
        self._address = Address(socket_path)
        self._calls = Calls()
        router = Router(Forwarder(backend), interceptor, gate, self._calls, tap or Untapped())
        self._server = aio.server(handlers=[router], options=_OPTIONS)

    @property
    def in_flight(self) -> int:
        """How many calls are being served now, streams included."""
        return len(self._calls)

    async def start(self) -> None:
        """Begin to serve. Raises ListenError if the socket cannot be had."""
        self._address.check()
        self._address.bind(lambda path: self._server.add_insecure_port(unix_target(path)))
        try:
            await self._server.start()
            self._address.publish()
        except BaseException:
            await self._server.stop(None)
            raise

    async def stop(self, grace: float) -> None:
        """Accept no more calls, give unary ones ``grace`` seconds to finish, end streams, and close.

        Streams end with UNAVAILABLE as soon as only streams are left; so does what outlives the grace.
        """
        self._address.release()
        closing = asyncio.create_task(self._server.stop(grace + _LAST_WORDS), name="close the front door")
        await self._calls.drain(grace)
        await closing
