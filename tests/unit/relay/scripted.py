"""A runtime that does what each call's first message says, and calls that look at everything that comes of them.

``python -m tests.unit.relay.scripted SOCKET [AGE]`` is one as a process, whose connections live AGE milliseconds: then
it sends GOAWAY, and takes no more calls on them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from server.backend import LIMITS, unix_target
from tests.unit.front_bed import EOF, Context, Metadata

#: By their numbers.
CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

#: Milliseconds that calls have to end when their connection is over.
_GRACE = 20_000


def script(size: int = 0, **does: Any) -> bytes:
    """A message that says what is to be done, with so many bytes behind it.

    ``first``: metadata that the answer begins with; ``all``: read to the end of the messages; ``answers``: the sizes of
    the messages to answer with, which begin with the number of bytes read; ``hangs``: do nothing more; ``code``,
    ``details`` and ``trailers``: how it ends.
    """
    return json.dumps(does).encode() + bytes(size)


async def perform(context: Context) -> None:
    """Do what the first message says."""
    message = await context.read()
    if message is EOF:
        return
    does = json.loads(message.rstrip(b"\0"))
    read = len(message)
    if "first" in does:
        await context.send_initial_metadata(_pairs(does["first"]))
    while does.get("all") and (message := await context.read()) is not EOF:
        read += len(message)
    for size in does.get("answers", ()):
        await context.write(b"%d " % read + bytes(size))
    if does.get("hangs"):
        await asyncio.Event().wait()
    trailers = _pairs(does.get("trailers", ()))
    if does.get("code"):
        await context.abort(CODES[does["code"]], does.get("details", ""), trailers)
    context.set_trailing_metadata(trailers)


def _pairs(said: Any) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, bytes.fromhex(value) if key.endswith("-bin") else value) for key, value in said)


@dataclass(frozen=True, slots=True)
class Ended:
    """All that a caller can see of a call."""

    code: grpc.StatusCode
    details: str
    answers: tuple[tuple[int, str], ...]
    first: Metadata
    trailers: Metadata


@dataclass(frozen=True, slots=True)
class Case:
    """A call: what it says, and how its caller behaves.

    ``after``: messages behind the first; ``cancels``: after so many answers; ``slow``: it reads no more than one answer
    until it is told to go on; ``vague``: what is seen of it besides the code is a matter of moments.
    """

    name: str
    method: str
    message: bytes
    after: tuple[bytes, ...] = ()
    timeout: float | None = None
    metadata: Metadata = ()
    compression: grpc.Compression | None = None
    cancels: int | None = None
    slow: bool = False
    vague: bool = False

    async def made(self, channel: aio.Channel, go_on: Callable[[], Awaitable[object]]) -> Ended:
        """Make the call; what became of it. ``go_on`` is waited for by a slow caller."""
        call = self._begun(channel)
        answers: list[tuple[int, str]] = []
        try:
            if self.cancels == 0:
                # Some are under way by then, and some are not: it must not matter.
                await asyncio.sleep(0.02)
                call.cancel()
            async for answer in call:
                answers.append((len(answer), hashlib.sha256(answer).hexdigest()))
                if len(answers) == self.cancels:
                    call.cancel()
                if self.slow and len(answers) == 1:
                    await go_on()
        except (aio.AioRpcError, asyncio.CancelledError):
            if not call.done():
                raise
        ended = Ended(
            await call.code(),
            await call.details() or "",
            tuple(answers),
            tuple(await call.initial_metadata() or ()),
            tuple(await call.trailing_metadata() or ()),
        )
        return Ended(ended.code, "", (), (), ()) if self.vague else ended

    def _begun(self, channel: aio.Channel) -> aio.UnaryStreamCall[bytes, bytes] | aio.StreamStreamCall[bytes, bytes]:
        if self.after:
            several: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(self.method)
            return several(self._said(), self.timeout, self.metadata, compression=self.compression)
        # Where grpcio sends what it is told to later, it may tell of a deadline as an "internal error from core".
        one: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(self.method)
        return one(self.message, timeout=self.timeout, metadata=self.metadata, compression=self.compression)

    async def _said(self) -> AsyncIterator[bytes]:
        yield self.message
        for message in self.after:
            yield message


class Handler(grpc.GenericRpcHandler):
    """Serves every method so."""

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Any method, as a stream of bytes."""

        async def serve(_: object, context: Context) -> None:
            await perform(context)

        return grpc.stream_stream_rpc_method_handler(serve)


async def serve(socket: str, age: str = "") -> None:
    """Serve until the process is killed."""
    ages = [("grpc.max_connection_age_ms", int(age)), ("grpc.max_connection_age_grace_ms", _GRACE)] if age else []
    server = aio.server(handlers=[Handler()], options=[*LIMITS, ("grpc.so_reuseport", 0), *ages])
    server.add_insecure_port(unix_target(Path(socket)))
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
