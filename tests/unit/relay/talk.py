"""Clients and runtimes that speak HTTP/2 in bytes, with the real relay between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.backend import Backend
from server.front import Gate
from server.relay import RelayFront, frames, literals
from server.relay.frames import Cutter, Frame
from server.relay.static import Field
from tests.unit.front_bed import PATIENCE, Judge
from tests.unit.relay.wire import HELD, PLAIN, request

SETTINGS = frames.frame(frames.SETTINGS, 0, 0)
ACK = frames.frame(frames.SETTINGS, frames.ACK, 0)


def call(stream: int, method: str = PLAIN, *, end: bool = False, more: tuple[Field, ...] = ()) -> bytes:
    """The fields of a request."""
    return frames.headers(stream, literals.encode(request(method, *more)), end=end)


def answer(stream: int, status: bytes = b"0") -> bytes:
    """An answer without a message."""
    fields = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", status)]
    return frames.headers(stream, literals.encode(fields), end=True)


class Talk:
    """A peer that speaks in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._cutter = Cutter()
        self._cutter.largest = frames.LARGEST_SIZE
        self._frames: list[Frame] = []

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def written(self) -> None:
        """Wait until the relay, or what is between, has taken nearly all that was sent."""
        await self._writer.drain()

    async def next(self) -> Frame:
        """The next frame, whatever it is."""
        async with asyncio.timeout(PATIENCE):
            while not self._frames:
                data = await self._reader.read(1 << 16)
                assert data, "the connection was closed"
                self._frames += self._cutter.feed(data)
        return self._frames.pop(0)

    async def until(self, kind: int, stream: int = 0) -> Frame:
        """The next frame of a type and stream; what comes before it is forgotten."""
        while True:
            frame = await self.next()
            if (frame.kind, frame.stream) == (kind, stream):
                return frame

    async def before_ping(self, text: bytes = b"are here") -> list[Frame]:
        """Ask the other peer for an answer; all that comes before it."""
        self.say(frames.frame(frames.PING, 0, 0, text))
        found = []
        while (frame := await self.next()).payload != text:
            found.append(frame)
        return found

    async def greeted(self) -> None:
        """Read the preface that a client's connection begins with."""
        async with asyncio.timeout(PATIENCE):
            assert await self._reader.readexactly(len(frames.PREFACE)) == frames.PREFACE

    async def end(self) -> None:
        """Wait until the relay has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            while await self._reader.read(1 << 16):
                pass

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()


@asynccontextmanager
async def talk(path: Path, begin: bytes = frames.PREFACE + SETTINGS) -> AsyncIterator[Talk]:
    """A connection that has begun."""
    made = Talk(*await asyncio.open_unix_connection(path))
    made.say(begin)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def between(directory: Path, judge: Judge | None = None) -> AsyncIterator[tuple[Talk, Talk]]:
    """A client and a runtime that have greeted each other, with the relay between."""
    runtimes: asyncio.Queue[Talk] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        runtimes.put_nowait(Talk(reader, writer))

    backend = Backend(directory / "runtime.sock")
    front = RelayFront(directory / "front.sock", backend, judge or Judge(frozenset({HELD})), Gate())
    await front.start()
    try:
        async with await asyncio.start_unix_server(serve, backend.path), talk(directory / "front.sock") as client:
            async with asyncio.timeout(PATIENCE):
                runtime = await runtimes.get()
            await runtime.greeted()
            await runtime.until(frames.SETTINGS)
            runtime.say(SETTINGS + ACK)
            await client.until(frames.SETTINGS)
            assert (await client.until(frames.SETTINGS)).flags == frames.ACK
            client.say(ACK)
            assert (await runtime.until(frames.SETTINGS)).flags == frames.ACK
            try:
                yield client, runtime
            finally:
                await runtime.close()
    finally:
        await front.stop(0)
        await backend.close()
