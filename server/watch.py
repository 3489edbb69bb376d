"""Containers that end by themselves, seen in containerd's event stream.

Events are lost while nobody listens, so every (re)connection is followed by a look at all containers that have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog
from grpc import aio

from server.backend import Backend
from server.runtime import CriRuntime
from server.wire.containerd.services.events.v1 import events_pb2 as events
from shim.engine import Engine
from shim.errors import HookshimError
from shim.records import Ending

log = structlog.get_logger(__name__)

_SUBSCRIBE = "/containerd.services.events.v1.Events/Subscribe"
_FILTER = 'topic=="/tasks/exit",namespace==k8s.io'

#: Seconds between two tries to listen.
_PAUSE = 1.0

#: Seconds after a connection for each look at all containers: the second finds what ended while it was being made.
_LOOKS = (0.0, 2.0)


class ExitWatch:
    """Tells the engine of every container that ends. ``run`` it until it is cancelled."""

    def __init__(self, backend: Backend, runtime: CriRuntime, engine: Engine) -> None:
        self._backend = backend
        self._runtime = runtime
        self._engine = engine

    async def run(self) -> None:
        """Listen, for ever."""
        while True:
            looks = asyncio.create_task(self._look(), name="look for ended containers")
            try:
                async for container_id, ending in self._exits():
                    if not self._runtime.is_pod(container_id):
                        self._engine.exited(container_id, ending)
            except aio.AioRpcError as error:
                log.debug("not listening to containerd's events", code=error.code().name, reason=error.details())
            except Exception:
                # A record less is no reason to serve nobody.
                log.exception("listening to containerd's events met a bug; beginning again")
            finally:
                looks.cancel()
                await asyncio.wait({looks})
            await asyncio.sleep(_PAUSE)

    async def _exits(self) -> AsyncIterator[tuple[str, Ending]]:
        call = self._backend.stream(_SUBSCRIBE)()
        try:
            await call.write(events.SubscribeRequest(filters=[_FILTER]).SerializeToString())
            await call.done_writing()
            async for message in call:
                exit_ = events.TaskExit()
                exit_.ParseFromString(events.Envelope.FromString(message).event.value)
                # Of an exec, the id is another one.
                if exit_.id == exit_.container_id:
                    yield exit_.container_id, _ending(exit_)
        finally:
            call.cancel()

    async def _look(self) -> None:
        for pause in _LOOKS:
            await asyncio.sleep(pause)
            try:
                await self._engine.adopt()
                for container_id in await self._runtime.ended():
                    await self._engine.found_ended(container_id)
            except HookshimError as error:
                log.debug("cannot look for ended containers", error=str(error))


def _ending(exit_: events.TaskExit) -> Ending:
    """What the event tells, for a container that is removed before it can be asked about."""
    reason = "Error" if exit_.exit_status else "Completed"
    at = exit_.exited_at.seconds + exit_.exited_at.nanos / 1e9
    return Ending(started=True, exit_code=exit_.exit_status, reason=reason, finished_at=at)
