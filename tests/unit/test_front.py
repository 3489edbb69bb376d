"""The front door carries every call through as it is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from server.backend import unix_target
from server.front.metadata import passed_on
from tests.unit.front_bed import (
    EOF,
    EVENTS,
    INVENTED,
    INVENTED_SERVICE,
    PATIENCE,
    VERSION,
    WAYS,
    Bed,
    Context,
    failure,
    messages,
    running_bed,
)

both_ways = pytest.mark.parametrize("method", WAYS)

#: A field number that no version of CRI has, and bytes that are no protobuf at all.
ODD_MESSAGES = (b"", b"\xfa\xff\xff\xff\x0f\x03abc", b"\xff" * 9, bytes(range(256)) * 4)


@pytest_asyncio.fixture
async def bed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Bed]:
    """A front door in front of a runtime; whatever the test does, grpc and asyncio must find nothing to complain of."""
    async with running_bed(tmp_path) as made:
        yield made
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@both_ways
@pytest.mark.parametrize("message", ODD_MESSAGES)
async def test_bytes_pass_unchanged_both_ways(bed: Bed, method: str, message: bytes) -> None:
    """Whatever a message holds, unknown fields or no fields at all, it arrives as it was sent, as does its answer."""
    assert await bed.unary(method)(message) == message


@pytest.mark.parametrize("method", [INVENTED, INVENTED_SERVICE, EVENTS, VERSION])
async def test_a_method_arrives_under_its_own_name(bed: Bed, method: str) -> None:
    """Methods and services of runtime.v1 are forwarded whether anybody has heard of them or not."""
    await bed.unary(method)(b"x")
    assert [call.method for call in bed.runtime.seen] == [method]


async def test_messages_of_both_sides_interleave(bed: Bed) -> None:
    """On a bidirectional stream each answer comes before the next question is asked."""
    call = bed.stream()
    for number in range(20):
        await call.write(b"%d" % number)
        assert await bed.read(call) == b"%d" % number
    await call.done_writing()
    assert await call.read() is EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_client_stream_is_answered_after_its_last_message(bed: Bed) -> None:
    """The end of the client's messages reaches the runtime, whose only answer follows it."""

    async def total(context: Context) -> None:
        size = 0
        while (message := await context.read()) is not EOF:
            size += len(message)
        await context.write(b"%d" % size)

    bed.runtime.behaviour = total
    answer = await bed.client_stream(INVENTED)(iter([b"a", b"", b"bc"]))
    assert answer == b"3"


async def test_a_server_stream_arrives_in_order(bed: Bed) -> None:
    """All messages of a server's stream arrive, in their order."""

    async def count(context: Context) -> None:
        await context.read()
        for number in range(1000):
            await context.write(b"%d" % number)

    bed.runtime.behaviour = count
    received = [message async for message in bed.server_stream(INVENTED)(b"")]
    assert received == [b"%d" % number for number in range(1000)]


@both_ways
async def test_messages_of_twelve_mebibytes_pass(bed: Bed, method: str) -> None:
    """A message larger than grpc's default limit (4 MiB) passes, as request and as response."""
    message = os.urandom(12 << 20)
    assert await bed.unary(method)(message) == message


@pytest.mark.timeout(180)
async def test_a_stream_stays_open_for_a_minute(bed: Bed) -> None:
    """Nothing along the way ends a silent event stream: it delivers after a minute what it did at first."""

    async def events(context: Context) -> None:
        await context.read()
        await context.write(b"first")
        await asyncio.sleep(60)
        await context.write(b"a minute later")

    bed.runtime.behaviour = events
    begun = time.monotonic()
    received = [message async for message in bed.server_stream(EVENTS)(b"")]
    assert received == [b"first", b"a minute later"]
    assert time.monotonic() - begun >= 60


@both_ways
async def test_request_metadata_passes(bed: Bed, method: str) -> None:
    """Keys, repeated keys in their order, and binary values arrive."""
    sent = (("plain", "a value, 100 %"), ("twice", "1"), ("twice", "2"), ("some-bin", b"\x00\xff\n"))
    await bed.unary(method)(b"", metadata=sent)
    arrived = bed.runtime.seen[0].metadata
    assert [pair for pair in arrived if pair[0] != "user-agent"] == list(sent)
    assert [key for key, _ in arrived].count("user-agent") == 1


@both_ways
async def test_headers_and_trailers_pass_with_success(bed: Bed, method: str) -> None:
    """A response's initial and trailing metadata reach the client, binary and repeated ones too."""
    headers = (("h", "1"), ("h", "2"), ("h-bin", b"\x00\xff"))
    trailers = (("t", "1"), ("t", "2"), ("t-bin", b"\xfe\x01"))

    async def answer(context: Context) -> None:
        await context.send_initial_metadata(headers)
        await context.read()
        await context.write(b"yes")
        context.set_trailing_metadata(trailers)

    bed.runtime.behaviour = answer
    call = bed.unary(method)(b"")
    assert await call == b"yes"
    assert tuple(await call.initial_metadata()) == headers
    assert tuple(await call.trailing_metadata()) == trailers


async def test_headers_of_a_stream_do_not_wait_for_a_message(bed: Bed) -> None:
    """A client sees a stream's headers while the runtime has not sent anything else."""
    released = asyncio.Event()

    async def answer(context: Context) -> None:
        await context.send_initial_metadata((("h", "early"),))
        await released.wait()

    bed.runtime.behaviour = answer
    call = bed.stream(EVENTS)
    async with asyncio.timeout(PATIENCE):
        assert tuple(await call.initial_metadata()) == (("h", "early"),)
    released.set()
    await call.done_writing()
    assert await messages(call) == []


@both_ways
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
@pytest.mark.parametrize("message", ["", "plain", "100 % of „ünïcödé“ 🜁", "line\none\r\n\ttwo", "%41%", " spaces "])
async def test_an_error_passes_whole(bed: Bed, method: str, code: grpc.StatusCode, message: str) -> None:
    """Status code, message, binary details and trailers of an error are the runtime's own."""
    trailers = (("t", "1"), ("t", "2"), ("grpc-status-details-bin", b"\x08\x05\x00\xff"))

    async def refuse(context: Context) -> None:
        await context.abort(code, message, trailers)

    bed.runtime.behaviour = refuse
    error = await failure(bed.unary(method)(b""))
    assert (error.code(), error.details()) == (code, message)
    assert tuple(error.trailing_metadata()) == trailers


async def test_messages_before_an_error_pass(bed: Bed) -> None:
    """A stream that fails in the middle delivers what came before, then its error."""

    async def fail(context: Context) -> None:
        await context.write(b"1")
        await context.write(b"2")
        await context.abort(grpc.StatusCode.DATA_LOSS, "torn")

    bed.runtime.behaviour = fail
    call = bed.stream()
    assert [await call.read(), await call.read()] == [b"1", b"2"]
    assert (await failure(call.read())).details() == "torn"


async def test_a_runtime_that_ends_early_is_heard_while_the_client_still_sends(bed: Bed) -> None:
    """The runtime's status wins over the messages that it does not want any more, every time."""

    async def refuse(context: Context) -> None:
        await context.read()
        await context.write(b"enough")
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "enough")

    def insist() -> Counter[tuple[grpc.StatusCode, str]]:
        # grpc's asyncio client would lose the status itself.
        with grpc.insecure_channel(unix_target(bed.socket), [("grpc.default_authority", "localhost")]) as channel:
            bottle: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(INVENTED)
            ended: Counter[tuple[grpc.StatusCode, str]] = Counter()
            for _ in range(200):
                call = bottle(itertools.repeat(b"y" * 10_000))
                with contextlib.suppress(grpc.RpcError):
                    list(call)
                ended[call.code(), call.details()] += 1
            return ended

    bed.runtime.behaviour = refuse
    assert await asyncio.to_thread(insist) == {(grpc.StatusCode.OUT_OF_RANGE, "enough"): 200}


@both_ways
async def test_two_hundred_calls_are_in_flight_at_once(bed: Bed, method: str) -> None:
    """No call waits for another: 200 are with the runtime before the first is answered."""
    barrier = asyncio.Barrier(200)

    async def together(context: Context) -> None:
        message = await context.read()
        await barrier.wait()
        await context.write(message)

    bed.runtime.behaviour = together
    sent = [b"%d" % number for number in range(200)]
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*(bed.unary(method)(message) for message in sent)) == sent


def test_metadata_of_the_connection_stays_behind() -> None:
    """What grpc writes itself on each connection, and what it would refuse to send, is not passed on."""
    kept: list[tuple[str, str | bytes]] = [("x", "1"), ("grpc-trace-bin", b"\x00"), ("grpc-status-details-bin", b"")]
    dropped: list[tuple[str, str | bytes]] = [
        ("user-agent", "crictl"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        (":authority", "localhost"),
        ("grpc-timeout", "1S"),
        ("grpc-internal-encoding-request", "gzip"),
        ("x", "not ascii: ü"),
        ("x", "a\nb"),
    ]
    assert passed_on([*dropped, *kept]) == tuple(kept)
    assert passed_on(None) == ()
