"""containerd's Events service on a socket of its own, with the troubles that a real one has at bad moments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc import aio

from server.backend import unix_target
from server.wire.containerd.services.events.v1 import events_pb2 as pb


@dataclass(slots=True)
class EventBus:
    """``published``: what has come, in order. ``troubles`` are the next answers; ``answer`` holds them while unset."""

    published: list[pb.PublishRequest] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    troubles: list[grpc.StatusCode] = field(default_factory=list)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(
        self, request: pb.PublishRequest, context: aio.ServicerContext[pb.PublishRequest, bytes]
    ) -> bytes:
        """Publish, an empty answer."""
        if not request.HasField("event") or not request.event.type_url:
            raise AssertionError("without an event containerd 1.6 would have crashed")
        if self.troubles:
            await context.abort(self.troubles.pop(0), "trouble")
        self.namespaces |= {
            str(value) for key, value in context.invocation_metadata() or () if key == "containerd-namespace"
        }
        self.published.append(request)
        await self.answer.wait()
        return b""

    def pods(self) -> list[str]:
        """Whom each was about, in order."""
        return [told(request)["pod"] for request in self.published]


def told(request: pb.PublishRequest) -> dict[str, str]:
    """What the event of a request says."""
    return dict(pb.Descriptor.FromString(request.event.value).annotations)


@asynccontextmanager
async def event_bus(socket: Path, *troubles: grpc.StatusCode) -> AsyncIterator[EventBus]:
    """Serve it at ``socket``."""
    bus = EventBus(troubles=list(troubles))
    bus.answer.set()
    method: grpc.RpcMethodHandler[pb.PublishRequest, bytes] = grpc.unary_unary_rpc_method_handler(
        bus.publish, request_deserializer=pb.PublishRequest.FromString
    )
    server = aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("containerd.services.events.v1.Events", {"Publish": method})]
    )
    server.add_insecure_port(unix_target(socket))
    await server.start()
    try:
        yield bus
    finally:
        bus.answer.set()
        await server.stop(0)
