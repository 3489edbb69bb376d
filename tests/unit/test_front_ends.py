"""How calls end through the front door: by the client, the deadline, the runtime, or the front door's own end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc import aio
from structlog.testing import capture_logs
from tenacity import stop_after_attempt

from server.backend import Backend, UnreachableError
from server.front import Gate, GrpcFront, forward
from tests.unit.front_bed import (
    EOF,
    EVENTS,
    INVENTED,
    PATIENCE,
    VERSION,
    WAYS,
    Bed,
    Context,
    Judge,
    Tap,
    client,
    failure,
    running_bed,
    stream,
)

#: HTTP/2 (RFC 9113, 6): types of frames, and a flag.
_DATA, _HEADERS, _RST_STREAM, _END_STREAM = 0, 1, 3, 1

both_ways = pytest.mark.parametrize("method", WAYS)

#: Bytes that may be under way between two peers: grpc's windows and write buffers on two connections.
UNDER_WAY = 64 << 20


@pytest_asyncio.fixture
async def bed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Bed]:
    """A front door in front of a runtime; whatever the test does, grpc and asyncio find nothing to complain of."""
    async with running_bed(tmp_path) as made:
        yield made
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


class Hanging:
    """A runtime's behaviour that never answers, and says how it ended."""

    def __init__(self, *, first: bytes | None = None) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._first = first

    async def __call__(self, context: Context) -> None:
        """Hang."""
        self.begun.set()
        try:
            if self._first is not None:
                await context.write(self._first)
            await context.read()
            while await context.read() is not EOF:
                pass
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@both_ways
async def test_a_client_that_cancels_cancels_at_the_runtime(bed: Bed, method: str) -> None:
    """The runtime sees a call cancelled when its client cancels it."""
    bed.runtime.behaviour = hanging = Hanging()
    call = bed.unary(method)(b"")
    async with asyncio.timeout(PATIENCE):
        await hanging.begun.wait()
        call.cancel()
        await hanging.cancelled.wait()


async def test_a_client_that_is_gone_cancels_at_the_runtime(bed: Bed) -> None:
    """The runtime sees a stream cancelled when its client's connection is lost."""
    bed.runtime.behaviour = hanging = Hanging(first=b"1")
    other = client(bed.socket)
    call = stream(other, EVENTS)
    async with asyncio.timeout(PATIENCE):
        assert await bed.read(call) == b"1"
        await other.close()
        await hanging.cancelled.wait()


async def test_a_cancelled_stream_is_not_taken_for_a_whole_one(bed: Bed) -> None:
    """A client's cancellation is never shown to the runtime as the orderly end of its messages: seen on the wire."""
    tap = Tap(bed.directory / "tap.sock", bed.runtime.path)
    async with tap.listening(), _front_before(tap.path) as socket:
        channel = client(socket)
        for _ in range(100):
            bed.runtime.behaviour = hanging = Hanging()
            call = stream(channel, INVENTED)
            await call.write(b"half of it")
            async with asyncio.timeout(PATIENCE):
                await hanging.begun.wait()
                call.cancel()
                await hanging.cancelled.wait()
        await channel.close()
    frames = tap.frames()
    assert [kind for kind, _ in frames].count(_RST_STREAM) == 100
    assert not any(flags & _END_STREAM for kind, flags in frames if kind in {_DATA, _HEADERS})


@both_ways
async def test_the_deadline_is_the_runtimes_too(bed: Bed, method: str) -> None:
    """The runtime is told how long the client waits, neither more nor nothing."""
    await bed.unary(method)(b"", timeout=3600)
    left = bed.runtime.seen[0].seconds_left
    assert left is not None
    assert 3600 - PATIENCE < left < 3700  # grpc rounds up, on each connection


@both_ways
async def test_no_deadline_stays_none(bed: Bed, method: str) -> None:
    """A client that waits for ever is not given a deadline on the way."""
    await bed.unary(method)(b"")
    assert bed.runtime.seen[0].seconds_left is None


@both_ways
async def test_a_deadline_that_passes_ends_the_call_at_the_runtime(bed: Bed, method: str) -> None:
    """When the client's time is over it is told so, and the runtime does not work on for nobody."""
    bed.runtime.behaviour = hanging = Hanging()
    assert (await failure(bed.unary(method)(b"", timeout=0.3))).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(PATIENCE):
        await hanging.cancelled.wait()


@both_ways
async def test_a_runtime_that_is_away_is_named_and_found_again(bed: Bed, method: str) -> None:
    """Without a runtime: UNAVAILABLE with its socket; with it again: an answer, without a restart of the front door."""
    await bed.unary(method)(b"")
    await bed.runtime.stop()
    error = await failure(bed.unary(method)(b""))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == f"containerd at {bed.runtime.path} does not answer: No such file or directory"
    await bed.runtime.start()
    async with asyncio.timeout(PATIENCE):
        await bed.backend.wait_until_reachable()
    assert await bed.unary(method)(b"back") == b"back"


@both_ways
async def test_a_runtime_that_dies_in_a_call_is_named(bed: Bed, method: str) -> None:
    """A connection that breaks under a call ends it with UNAVAILABLE and the socket's name."""

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The client's preface and settings are answered by empty settings; its first request by the end.
        await reader.readexactly(24)
        writer.write(b"\0\0\0\4\0\0\0\0\0")
        while b"some request" not in await reader.read(1 << 16):
            pass
        writer.close()

    await bed.runtime.stop()
    dying = await asyncio.start_unix_server(vanish, bed.runtime.path)
    async with dying:
        async with asyncio.timeout(PATIENCE):
            # The runtime has just gone away, and grpc waits a moment before it dials again.
            error = await failure(bed.unary(method)(b"some request"))
            while str(error.details()).endswith(("No such file or directory", "Connection refused")):
                error = await failure(bed.unary(method)(b"some request"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert str(error.details()).startswith(f"containerd at {bed.runtime.path} does not answer: ")


@both_ways
async def test_the_runtimes_own_unavailable_is_its_own(bed: Bed, method: str) -> None:
    """An UNAVAILABLE that the runtime sends is passed on as it is: it does answer."""

    async def not_yet(context: Context) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "server is not initialized yet")

    bed.runtime.behaviour = not_yet
    for _ in range(20):
        assert (await failure(bed.unary(method)(b""))).details() == "server is not initialized yet"


async def test_waiting_for_a_runtime_reports_why_and_ends_when_told(tmp_path: Path) -> None:
    """Each try that fails is reported with the socket's name; the stop condition ends the wait with the last reason."""
    backend = Backend(tmp_path / "nobody.sock")
    reasons: list[str] = []
    with pytest.raises(UnreachableError, match=r"nobody\.sock does not answer: "):
        await backend.wait_until_reachable(stop=stop_after_attempt(3), report=reasons.append)
    await backend.close()
    assert len(reasons) >= 2
    assert all(reason.startswith(f"containerd at {tmp_path}/nobody.sock does not answer: ") for reason in reasons)


async def test_a_runtime_without_cri_is_not_reachable(bed: Bed) -> None:
    """A containerd whose CRI plugin is not there answers, but not as what is needed; the reason is its own words."""

    async def unknown(context: Context) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown service runtime.v1.RuntimeService")

    bed.runtime.behaviour = unknown
    with pytest.raises(UnreachableError, match="not ready: UNIMPLEMENTED: unknown service"):
        await bed.backend.wait_until_reachable(stop=stop_after_attempt(1))


async def test_a_slow_client_slows_the_runtime_down(bed: Bed) -> None:
    """What a client does not read is not piled up: the runtime can send no more than what fits under way."""
    sent = 0

    async def flood(context: Context) -> None:
        nonlocal sent
        while sent < 4 * UNDER_WAY:
            await context.write(bytes(1 << 16))
            sent += 1 << 16

    bed.runtime.behaviour = flood
    call = bed.stream()
    assert len(await bed.read(call)) == 1 << 16
    await _settle(lambda: sent)
    assert sent < UNDER_WAY
    received = 1 << 16
    while (message := await bed.read(call)) is not EOF:
        received += len(message)
    assert received == sent == 4 * UNDER_WAY


async def test_a_slow_runtime_slows_the_client_down(bed: Bed) -> None:
    """What the runtime does not read is not piled up either."""
    reading = asyncio.Event()

    async def dawdle(context: Context) -> None:
        await reading.wait()
        size = 0
        while (message := await context.read()) is not EOF:
            size += len(message)
        await context.write(b"%d" % size)

    bed.runtime.behaviour = dawdle
    call = bed.stream()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while sent < 4 * UNDER_WAY:
            await call.write(bytes(1 << 16))
            sent += 1 << 16
        await call.done_writing()

    flooding = asyncio.create_task(flood())
    await _settle(lambda: sent)
    assert sent < UNDER_WAY
    reading.set()
    assert await bed.read(call) == b"%d" % (4 * UNDER_WAY)
    await flooding


async def test_clients_may_ping_as_often_as_they_like(bed: Bed) -> None:
    """A client with an eager keepalive is not sent away for too many pings."""
    bed.runtime.behaviour = Hanging(first=b"1")
    eager = client(
        bed.socket,
        ("grpc.keepalive_time_ms", 20),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_time_between_pings_ms", 20),
    )
    call = stream(eager, EVENTS)
    assert await bed.read(call) == b"1"
    await asyncio.sleep(1)
    assert not call.done()
    call.cancel()
    await eager.close()


async def test_stopping_waits_for_unary_calls_but_not_for_streams(bed: Bed) -> None:
    """At the end a unary call is answered; an event stream is ended then, and new calls are not taken."""
    bed.runtime.behaviour = Hanging(first=b"event")
    events = bed.stream(EVENTS)
    assert await bed.read(events) == b"event"
    released, begun = asyncio.Event(), asyncio.Event()

    async def slow(context: Context) -> None:
        await context.read()
        begun.set()
        await released.wait()
        await context.write(b"answered")

    bed.runtime.behaviour = slow
    call = asyncio.ensure_future(_answer(bed, VERSION))
    await begun.wait()
    assert bed.front.in_flight == 2
    stopping = asyncio.create_task(bed.front.stop(3600))
    await _refused(bed)
    assert not events.done()
    released.set()
    async with asyncio.timeout(PATIENCE):
        assert await call == b"answered"
        error = await failure(events.read())
        await stopping
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "hookshim is shutting down")
    assert bed.front.in_flight == 0
    assert not bed.socket.exists()


@both_ways
async def test_what_outlives_the_grace_is_told(bed: Bed, method: str) -> None:
    """A call that is not over when the grace is gets UNAVAILABLE, and is cancelled at the runtime."""
    bed.runtime.behaviour = hanging = Hanging()
    call = asyncio.ensure_future(_answer(bed, method))
    await hanging.begun.wait()
    await bed.front.stop(0.1)
    error = await failure(call)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "hookshim is shutting down")
    async with asyncio.timeout(PATIENCE):
        await hanging.cancelled.wait()


async def test_a_bug_while_forwarding_is_told(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug on the way of the requests ends the call, for its client and at the runtime, and is logged."""
    monkeypatch.setattr(forward, "_CANCEL_FOLLOWS", "a bug")
    bed.runtime.behaviour = hanging = Hanging()
    with capture_logs() as logs:
        error = await failure(bed.unary(INVENTED)(b""))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INTERNAL,
        f"hookshim failed to forward {INVENTED}: see its log",
    )
    assert [(log["log_level"], log["method"], type(log["exc_info"])) for log in logs] == [
        ("error", INVENTED, TypeError)
    ]
    async with asyncio.timeout(PATIENCE):
        await hanging.cancelled.wait()


async def _settle(count: Callable[[], int]) -> None:
    """Return when the count has stood still for a while, or has gone too far."""
    before, now = -1, count()
    while before < now < UNDER_WAY:
        await asyncio.sleep(0.5)
        before, now = now, count()


async def _answer(bed: Bed, method: str) -> bytes:
    return await bed.unary(method)(b"")


async def _refused(bed: Bed) -> None:
    while True:
        other = client(bed.socket)
        try:
            await _plain(other)(b"", timeout=1)
        except grpc.RpcError:
            return
        finally:
            await other.close()


def _plain(channel: aio.Channel) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(INVENTED)


@asynccontextmanager
async def _front_before(runtime: Path) -> AsyncIterator[Path]:
    backend, socket = Backend(runtime), runtime.with_name("second.sock")
    front = GrpcFront(socket, backend, Judge(), Gate())
    await front.start()
    try:
        yield socket
    finally:
        await front.stop(0)
        await backend.close()
