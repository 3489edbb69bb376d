"""The admin service's socket, root's alone, with the standard health service and reflection beside it.

The socket's mode is the guard: grpc does not tell who has connected, so that nobody else may. A socket that cannot be
had is no reason not to deliver hooks.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from server.admin.messages import SERVICE
from server.admin.service import AdminService, Daemon
from server.backend import unix_target
from server.front import Gate
from server.front.address import Address, ListenError

log = structlog.get_logger(__name__)

#: Its owner's alone, who is root where hookshim is.
_MODE: Final = 0o600

#: The names that health is asked for by: grpc's own for the whole server, and the daemon's.
_HEALTHS: Final = ("", "hookshim")

#: Seconds that questions may go on when hookshim ends: whoever watches has no other end.
_GRACE: Final = 1.0

#: Seconds between two looks at the gate for those who watch it.
_PAUSE: Final = 0.25

_OPTIONS: Final = (("grpc.so_reuseport", 0),)

_Status = health_pb2.HealthCheckResponse.ServingStatus


class _Health(health.HealthServicer):  # type: ignore[misc] # it has no types
    """SERVING while the gate is open."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def Check(  # noqa: N802 # grpc's name
        self,
        request: health_pb2.HealthCheckRequest,
        context: aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse],
    ) -> health_pb2.HealthCheckResponse:
        await self.look()
        return await super().Check(request, context)

    async def look(self) -> None:
        """Say what is so now."""
        status = _Status.SERVING if self._gate.reason is None else _Status.NOT_SERVING
        for name in _HEALTHS:
            await self.set(name, status)


class AdminServer:
    """Serves at a unix socket, mode 0600. To be made, started and stopped once, inside one running event loop."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._address = Address(daemon.config.admin, _MODE)
        self._health = _Health(daemon.gate)
        self._server = aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((AdminService(daemon).handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), self._server)

    async def start(self) -> None:
        """Begin to serve; what is in the way is logged."""
        try:
            _make_directory(self._address.path.parent)
            self._address.check()
            self._address.bind(lambda path: self._server.add_insecure_port(unix_target(path)))
            await self._server.start()
            self._address.publish()
        except (ListenError, OSError) as error:
            log.error("going on without the admin socket", socket=str(self._address.path), error=str(error))
            await self._server.stop(None)

    async def follow(self) -> None:
        """Look at the runtime, and tell those who watch the daemon's health how it does, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._daemon.reachability.follow(), name="reachability")
            while True:
                await self._health.look()
                await asyncio.sleep(_PAUSE)

    async def stop(self) -> None:
        """Be no longer healthy, accept no more calls, and end within the drain."""
        self._address.release()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(min(_GRACE, self._daemon.config.drain_seconds))


def _make_directory(directory: Path) -> None:
    """Make the socket's directory if it isn't there: whoever may look into it is not the guard."""
    if not directory.exists():
        directory.mkdir(0o755, parents=True)
        directory.chmod(0o755)
