"""Real clients and a real runtime with the relay between, on both event loops: no call ends differently than it would.

Many calls at once on few connections: held ones, answered and refused ones, cancelled ones, short deadlines, large
bodies and headers, streams; and a runtime that goes away and comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from grpc import aio

from server.backend import Backend
from server.call import Answer, Call, Decision, Pass, Refusal
from server.front import Gate
from server.relay import RelayFront, frames
from tests.unit.front_bed import (
    CREATE,
    EOF,
    EVENTS,
    INVENTED,
    PATIENCE,
    START,
    STOP,
    VERSION,
    Bed,
    Context,
    Judge,
    Tap,
    client,
    failure,
    messages,
    running_bed,
    stream,
)

#: Both event loops that the relay is run on.
on_both_loops = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])

Loop = Callable[[], asyncio.AbstractEventLoop]


def run(loop: Loop, work: Coroutine[Any, Any, None]) -> None:
    """Run on a loop of this kind, with its warnings as errors."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work)


async def echo(context: Context) -> None:
    """Answer with the message itself, and the caller's own key in the trailers."""
    message = await context.read()
    if message is EOF:
        return
    context.set_trailing_metadata(_own(context.invocation_metadata()))
    await context.write(message)


def _own(metadata: object) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in metadata or () if key == "mine")  # type: ignore[attr-defined]


async def decide(call: Call) -> Decision:
    """By the message's first byte, and after a moment that differs."""
    await asyncio.sleep(call.request[1] / 20_000)
    if call.request[:1] == b"a":
        return Answer(call.request[::-1])
    if call.request[:1] == b"r":
        return Refusal("FAILED_PRECONDITION", "refused " + "x" * call.request[1], call.request[:100])
    return Pass()


class Caller:
    """One of many callers, each with its own dice."""

    def __init__(self, channel: aio.Channel, seed: int) -> None:
        self._channel = channel
        self._chance = random.Random(seed)
        self.ended: Counter[str] = Counter()

    async def run(self, calls: int) -> None:
        """Make some calls, one after another, and check how each has ended."""
        for _ in range(calls):
            way = self._chance.choice([self._plain, self._held, self._held, self._cancelled, self._late])
            await way()
            self.ended[way.__name__] += 1

    def _message(self, kind: bytes) -> bytes:
        size = self._chance.choice([2, 100, 20_000, 300_000])
        return kind + bytes([self._chance.randrange(256)]) * size

    def _begin(self, method: str, message: bytes, timeout: float | None = None) -> aio.UnaryUnaryCall[bytes, bytes]:
        mine = str(self._chance.random()) + "k" * self._chance.choice([0, 0, 40_000])
        begin: aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        return begin(message, timeout=timeout, metadata=(("mine", mine),))

    async def _plain(self) -> None:
        message = self._message(b"p")
        assert await self._begin(self._chance.choice([VERSION, INVENTED]), message) == message

    async def _held(self) -> None:
        message = self._message(self._chance.choice([b"a", b"r", b"p"]))
        call = self._begin(self._chance.choice([STOP, START]), message)
        if message[:1] == b"r":
            error = await failure(call)
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert error.details() == "refused " + "x" * message[1]
            assert tuple(error.trailing_metadata()) == (("grpc-status-details-bin", message[:100]),)
        else:
            assert await call == (message[::-1] if message[:1] == b"a" else message)

    async def _cancelled(self) -> None:
        call = self._begin(self._chance.choice([VERSION, STOP]), self._message(b"p"))
        await asyncio.sleep(self._chance.random() / 200)
        call.cancel()
        assert await call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}

    async def _late(self) -> None:
        call = self._begin(self._chance.choice([VERSION, STOP]), self._message(b"p"), self._chance.random() / 100)
        assert await call.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}


@on_both_loops
def test_whatever_many_callers_do_each_call_ends_as_it_should(tmp_path: Path, loop: Loop) -> None:
    """Every answer is the one to its question; nothing is left of any call."""

    async def stress() -> None:
        async with running_bed(tmp_path, RelayFront) as bed:
            bed.runtime.behaviour = echo
            bed.judge.methods, bed.judge.decision = frozenset({STOP, START}), decide
            channels = [client(bed.socket) for _ in range(3)]
            callers = [Caller(channels[number % 3], number) for number in range(24)]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(caller.run(20) for caller in callers))
            ended = sum((caller.ended for caller in callers), Counter())
            assert ended.total() == 24 * 20
            assert len(ended) == 4
            async with asyncio.timeout(PATIENCE):
                # The last to be cancelled are over for their callers before the relay has been told.
                while bed.front.in_flight:  # noqa: ASYNC110 - asks, not sleeps
                    await asyncio.sleep(0.01)
            for channel in channels:
                await channel.close()

    run(loop, stress())


@on_both_loops
def test_a_runtime_that_goes_and_comes_is_told_of_and_found(tmp_path: Path, loop: Loop) -> None:
    """Calls end with an answer or an error while it comes and goes, and each time it is found again."""
    # A grpc server that is stopped says CANCELLED or UNAVAILABLE itself, if it comes to it.
    ends = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

    async def come_and_go() -> None:
        async with running_bed(tmp_path, RelayFront) as bed:
            bed.judge.methods, bed.judge.decision = frozenset({STOP}), decide
            for _ in range(5):
                calls = [asyncio.create_task(_code(bed, method)) for method in [VERSION, INVENTED, STOP] * 4]
                await asyncio.sleep(0.01)
                await bed.runtime.stop()
                async with asyncio.timeout(PATIENCE):
                    assert set(await asyncio.gather(*calls)) <= ends
                assert await _code(bed, VERSION) is grpc.StatusCode.UNAVAILABLE
                await bed.runtime.start()
                async with asyncio.timeout(PATIENCE):
                    while await _code(bed, VERSION) is not grpc.StatusCode.OK:  # noqa: ASYNC110 - asks, not sleeps
                        await asyncio.sleep(0.01)

    run(loop, come_and_go())


async def _code(bed: Bed, method: str) -> grpc.StatusCode:
    return await bed.unary(method)(b"pp").code()


class Killed:
    """A runtime that takes connections and says nothing of calls, until it is gone as a process that is killed."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin a connection, and take what comes."""
        self._writers.append(writer)
        writer.write(frames.frame(frames.SETTINGS, 0, 0))
        with contextlib.suppress(ConnectionError):
            await reader.read(1 << 16)
            writer.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
            while await reader.read(1 << 16):
                pass

    def kill(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()


@pytest.mark.parametrize("passed", [False, True])
async def test_a_decision_outlives_the_runtime(tmp_path: Path, passed: bool) -> None:  # noqa: FBT001
    """What is being decided when the runtime is killed is answered by its decision; passed on, it is unavailable."""
    asked, decided = asyncio.Event(), asyncio.Event()

    async def later(_: Call) -> Decision:
        asked.set()
        await decided.wait()
        return Pass() if passed else Answer(b"stopped all the same")

    runtime = Killed()
    backend = Backend(tmp_path / "runtime.sock")
    front = RelayFront(tmp_path / "front.sock", backend, Judge(frozenset({STOP}), later), Gate())
    async with asyncio.timeout(PATIENCE), await asyncio.start_unix_server(runtime.serve, backend.path) as listening:
        await front.start()
        channel = client(tmp_path / "front.sock")
        stop: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(STOP)
        version: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(VERSION)
        call, other = stop(b"stop"), version(b"")
        await asked.wait()
        listening.close()
        runtime.kill()
        gone = f"containerd at {backend.path} does not answer: "
        assert await other.code() is grpc.StatusCode.UNAVAILABLE
        assert str(await other.details()).startswith(gone)
        assert not call.done()
        decided.set()
        if passed:
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert str(await call.details()).startswith(gone)
        else:
            assert await call == b"stopped all the same"
        await channel.close()
    await front.stop(0)
    await backend.close()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_compressed_request_does_not_get_past_a_hook(bed: Bed, compression: grpc.Compression) -> None:
    """It is decided by what it says, and goes on as it was."""
    bed.judge.methods = frozenset({STOP})
    message = b"stop the container" * 100
    assert await bed.unary(STOP)(message, compression=compression) == message
    assert [call.request for call in bed.judge.asked] == [message]


async def test_forty_kilobytes_of_headers_reach_the_interceptor(bed: Bed) -> None:
    """Metadata in several frames are one request's."""
    bed.judge.methods = frozenset({STOP})
    value = "".join(random.Random(1).choices("abcdefgh ", k=40_000)).strip()
    await bed.unary(STOP)(b"x", metadata=(("k", value), ("k-bin", bytes(40_000))))
    assert tuple(bed.judge.asked[0].metadata) == (("k", value), ("k-bin", bytes(40_000)))


async def test_a_runtime_that_drains_is_left_in_peace(bed: Bed) -> None:
    """Its GOAWAY reaches the clients: calls under way are answered, the next ones come on a new connection."""
    begun, released = asyncio.Event(), asyncio.Event()

    async def slow(context: Context) -> None:
        message = await context.read()
        begun.set()
        await released.wait()
        await context.write(message)

    bed.runtime.behaviour = slow
    call = asyncio.ensure_future(_answer(bed.unary(CREATE)(b"slow")))
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        server = bed.runtime._server
        assert server is not None
        stopping = asyncio.create_task(server.stop(PATIENCE))
        released.set()
        assert await call == b"slow"
        await stopping
    await bed.runtime.start()
    bed.runtime.behaviour = echo
    async with asyncio.timeout(PATIENCE):
        while await _code(bed, VERSION) is not grpc.StatusCode.OK:  # noqa: ASYNC110 - asks, not sleeps
            await asyncio.sleep(0.01)


async def _answer(call: Awaitable[bytes]) -> bytes:
    return await call


async def test_a_cancelled_stream_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """A client's cancellation is a reset on the wire to the runtime, never an orderly end."""
    data, headers, reset, end_stream = 0, 1, 3, 1
    async with running_bed(tmp_path, RelayFront) as bed:
        tap = Tap(tmp_path / "tap.sock", bed.runtime.path)
        begun = asyncio.Event()

        async def hang(context: Context) -> None:
            await context.read()
            begun.set()
            await context.read()
            await asyncio.Event().wait()

        bed.runtime.behaviour = hang
        backend = type(bed.backend)(tap.path)
        front = RelayFront(tmp_path / "second.sock", backend, bed.judge, bed.gate)
        async with tap.listening():
            await front.start()
            channel = client(tmp_path / "second.sock")
            for _ in range(20):
                call = stream(channel, EVENTS)
                await call.write(b"half of it")
                async with asyncio.timeout(PATIENCE):
                    await begun.wait()
                begun.clear()
                call.cancel()
            async with asyncio.timeout(PATIENCE):
                while [kind for kind, _ in tap.frames()].count(reset) < 20:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.01)
            await channel.close()
            await front.stop(0)
            await backend.close()
    assert not any(flags & end_stream for kind, flags in tap.frames() if kind in {data, headers})


async def test_streams_go_on_beside_held_calls(tmp_path: Path) -> None:
    """A hundred held calls on a connection keep no stream on it from flowing, and are answered in the end."""
    release = asyncio.Event()

    async def hold(call: Call) -> Decision:
        await release.wait()
        return Answer(call.request)

    async def events(context: Context) -> None:
        await context.read()
        for _ in range(50):
            await context.write(bytes(50_000))

    async with running_bed(tmp_path, RelayFront) as bed, asyncio.timeout(PATIENCE):
        bed.judge.methods, bed.judge.decision = frozenset({STOP}), hold
        bed.runtime.behaviour = events
        sent = [b"%d" % number + bytes(20_000) for number in range(100)]
        held = [asyncio.ensure_future(_answer(bed.unary(STOP)(message))) for message in sent]
        call = bed.stream(EVENTS)
        await call.write(bytes(500_000))
        await call.done_writing()
        assert [len(message) for message in await messages(call)] == [50_000] * 50
        release.set()
        assert await asyncio.gather(*held) == sent
