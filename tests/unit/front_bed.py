"""A front door between a client and a CRI server that answers bytes: real servers on real sockets, one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
from grpc import aio

from server.backend import LIMITS, Backend, unix_target
from server.call import Call, Decision, Pass
from server.front import Gate, GrpcFront
from server.relay import RelayFront

Context = aio.ServicerContext[bytes, bytes]
Behaviour = Callable[[Context], Awaitable[None]]
Metadata = Sequence[tuple[str, str | bytes]]

VERSION = "/runtime.v1.RuntimeService/Version"
START = "/runtime.v1.RuntimeService/StartContainer"
STOP = "/runtime.v1.RuntimeService/StopContainer"
CREATE = "/runtime.v1.RuntimeService/CreateContainer"
EVENTS = "/runtime.v1.RuntimeService/GetContainerEvents"
INVENTED = "/runtime.v1.RuntimeService/BottleContainer"
INVENTED_SERVICE = "/runtime.v1.VolumeService/Bottle"

#: Both ways through the front door: the one for methods known to be unary, and the one for all others.
WAYS = (VERSION, INVENTED)

#: Seconds after which something that does not happen is a failure; never how long something may take.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A call as the runtime behind the front door saw it."""

    method: str
    metadata: Metadata
    seconds_left: float | None


#: The end of a stream's messages; the stubs know `read` as never returning it.
EOF = cast("bytes", aio.EOF)


async def echo(context: Context) -> None:
    """Answer every message with itself, at once."""
    while (message := await context.read()) is not EOF:
        await context.write(message)


class FakeRuntime(grpc.GenericRpcHandler):
    """A CRI server that does what ``behaviour`` says, whatever is called; it remembers what it saw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behaviour: Behaviour = echo
        self.seen: list[Seen] = []
        self._server: aio.Server | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Serve every method as a stream of bytes, which fits them all."""

        async def serve(_: object, context: Context) -> None:
            metadata = tuple((key, value) for key, value in context.invocation_metadata() or ())
            self.seen.append(Seen(handler_call_details.method, metadata, context.time_remaining()))
            await self.behaviour(context)

        return grpc.stream_stream_rpc_method_handler(serve)

    async def start(self) -> None:
        """Listen at the path (again)."""
        self._server = aio.server(handlers=[self], options=[*LIMITS, ("grpc.so_reuseport", 0)])
        self._server.add_insecure_port(unix_target(self.path))
        await self._server.start()

    async def stop(self) -> None:
        """Go away at once, as a process that is killed does."""
        if self._server is not None:
            await self._server.stop(None)


@dataclass
class Judge:
    """An interceptor that decides what the test tells it to."""

    methods: frozenset[str] = frozenset()
    decision: Callable[[Call], Awaitable[Decision]] | None = None
    asked: list[Call] = field(default_factory=list)

    async def decide(self, call: Call) -> Decision:
        """Decide as told."""
        self.asked.append(call)
        return Pass() if self.decision is None else await self.decision(call)


@dataclass(frozen=True)
class Bed:
    """Everything between a client and a runtime."""

    directory: Path
    runtime: FakeRuntime
    backend: Backend
    judge: Judge
    gate: Gate
    front: GrpcFront | RelayFront
    socket: Path
    channel: aio.Channel

    def unary(self, method: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
        """A unary call, as clients make them."""
        return self.channel.unary_unary(method)

    def server_stream(self, method: str) -> aio.UnaryStreamMultiCallable[bytes, bytes]:
        """One message there and any number back."""
        return self.channel.unary_stream(method)

    def client_stream(self, method: str) -> aio.StreamUnaryMultiCallable[bytes, bytes]:
        """Any number of messages there and one back."""
        return self.channel.stream_unary(method)

    def stream(self, method: str = INVENTED) -> aio.StreamStreamCall[bytes, bytes]:
        """A stream of messages both ways, begun."""
        return stream(self.channel, method)

    async def read(self, call: aio.StreamStreamCall[bytes, bytes]) -> bytes:
        """The next message of a stream."""
        return cast("bytes", await call.read())


def client(socket: Path, *options: tuple[str, int | str]) -> aio.Channel:
    """A client's own connection to a socket."""
    return aio.insecure_channel(
        unix_target(socket),
        options=[*LIMITS, ("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1), *options],
    )


def stream(channel: aio.Channel, method: str) -> aio.StreamStreamCall[bytes, bytes]:
    """A stream of messages both ways, begun."""
    begin: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    return begin()


class Tap:
    """Stands before a socket, passes everything on, and keeps the HTTP/2 frames that come from the client."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = target
        self._sent: list[bytearray] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Pass connections on for a block."""
        async with await asyncio.start_unix_server(self._serve, self.path):
            yield

    def frames(self) -> list[tuple[int, int]]:
        """(type, flags) of all whole frames sent (RFC 9113, 4.1), one connection after the other."""
        found = []
        for sent in self._sent:
            at = 24  # the client's preface
            while at + 9 <= len(sent):
                found.append((sent[at + 3], sent[at + 4]))
                at += 9 + int.from_bytes(sent[at : at + 3], "big")
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        sent = bytearray()
        self._sent.append(sent)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, keep: bytearray | None) -> None:
            try:
                while data := await source.read(1 << 16):
                    if keep is not None:
                        keep += data
                    sink.write(data)
                    await sink.drain()
            finally:
                sink.close()

        await asyncio.gather(carry(reader, back, sent), carry(there, writer, None), return_exceptions=True)


@asynccontextmanager
async def running_bed(directory: Path, door: type[GrpcFront | RelayFront] = GrpcFront) -> AsyncIterator[Bed]:
    """Start everything, and end everything; no task of it is left behind."""
    before = asyncio.all_tasks()
    runtime = FakeRuntime(directory / "runtime.sock")
    await runtime.start()
    backend, judge, gate = Backend(runtime.path), Judge(), Gate()
    socket = directory / "front.sock"
    front = door(socket, backend, judge, gate)
    await front.start()
    channel = client(socket)
    try:
        yield Bed(directory, runtime, backend, judge, gate, front, socket, channel)
    finally:
        await channel.close()
        await front.stop(0)
        await backend.close()
        await runtime.stop()
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=PATIENCE)
    assert left == set()


async def failure(call: Awaitable[object]) -> aio.AioRpcError:
    """The error that a call ends with."""
    try:
        await call
    except aio.AioRpcError as error:
        return error
    raise AssertionError("the call ended with OK")


async def messages(call: aio.StreamStreamCall[bytes, bytes]) -> list[bytes]:
    """All messages of a stream up to its end."""
    return [message async for message in call]
