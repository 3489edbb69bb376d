"""What the relay itself answers to a peer that breaks HTTP/2, by sections of RFC 9113: this connection ends, no other.

A client's mistakes are told to the client; the runtime's become UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from grpc import aio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from server.backend import Backend
from server.front import Gate
from server.relay import RelayFront, frames, literals
from server.relay.calls import Rules
from server.relay.connection import Connection
from server.relay.faults import Code, PeerError
from server.relay.pair import Pair
from tests.unit.front_bed import PATIENCE, VERSION, Bed, Judge, client, failure, running_bed
from tests.unit.relay.talk import ACK, SETTINGS, call, talk
from tests.unit.relay.test_frames import BROKEN
from tests.unit.relay.wire import HELD, PLAIN, request, taken


def _data(flags: int, payload: bytes) -> bytes:
    return frames.frame(frames.DATA, flags, 1, payload)


#: What a client says after its first SETTINGS, and how its connection ends.
CLIENTS: list[tuple[str, bytes, Code]] = [
    ("5.1 data before headers", frames.frame(frames.DATA, 0, 1), Code.PROTOCOL_ERROR),
    ("5.1 reset before headers", frames.reset(1, Code.CANCEL), Code.PROTOCOL_ERROR),
    ("5.1 window before headers", frames.window_update(1, 1), Code.PROTOCOL_ERROR),
    ("5.1.1 an even stream", call(2), Code.PROTOCOL_ERROR),
    ("5.1.1 a stream behind another", call(3) + frames.reset(3, Code.CANCEL) + call(1), Code.STREAM_CLOSED),
    ("5.1.1 a stream again", call(1) + frames.reset(1, Code.CANCEL) + call(1), Code.STREAM_CLOSED),
    ("4.3 fields that no table has", frames.headers(1, b"\xbe", end=False), Code.COMPRESSION_ERROR),
    ("4.3 fields that are cut off", frames.headers(1, b"\x40\x05abc", end=False), Code.COMPRESSION_ERROR),
    ("4.3 a table resized within fields", frames.headers(1, b"\x82\x20", end=False), Code.COMPRESSION_ERROR),
    ("4.3 a table above its limit", frames.headers(1, b"\x3f\xe1\x1f\xff", end=False), Code.COMPRESSION_ERROR),
    ("5.5 an unknown frame within headers", frames.frame(1, 0, 1) + frames.frame(99, 0, 1), Code.PROTOCOL_ERROR),
    ("6.1 more padding than held data", call(1, HELD) + _data(8, b"\5abc"), Code.PROTOCOL_ERROR),
    ("6.1 held data without their padding", call(1, HELD) + _data(8, b""), Code.PROTOCOL_ERROR),
    ("6.3 priority of another size", frames.frame(frames.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    ("6.5.2 push neither allowed nor not", frames.frame(4, 0, 0, b"\0\2\0\0\0\2"), Code.PROTOCOL_ERROR),
    ("6.5.2 a window too large", frames.frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
    ("6.5.2 frames too small", frames.frame(4, 0, 0, b"\0\5\0\0\x3f\xff"), Code.PROTOCOL_ERROR),
    ("6.5.2 frames too large", frames.frame(4, 0, 0, b"\0\5\1\0\0\0"), Code.PROTOCOL_ERROR),
    ("6.5.3 too many acknowledgements", ACK + ACK, Code.PROTOCOL_ERROR),
    ("6.9 the connection's window larger by nothing", frames.window_update(0, 0), Code.PROTOCOL_ERROR),
    ("6.9.1 the connection's window too large", frames.window_update(0, frames.LARGEST), Code.FLOW_CONTROL_ERROR),
    ("6.9.1 a stream's window too large", call(1) + frames.window_update(1, frames.LARGEST), Code.FLOW_CONTROL_ERROR),
    # A grpc server allows larger frames than the relay would by itself: test_frames.py has these.
    *(case for case in BROKEN if not case[0].startswith("4.2")),
]


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A relay in front of a runtime, with one method that is decided."""
    async with running_bed(tmp_path, RelayFront) as made:
        made.judge.methods = frozenset({HELD})
        yield made


@pytest.mark.parametrize(("said", "code"), [case[1:] for case in CLIENTS], ids=[case[0] for case in CLIENTS])
async def test_a_client_that_breaks_the_rules_is_told_and_nobody_else_notices(
    bed: Bed, said: bytes, code: Code
) -> None:
    """GOAWAY with the right code, then the end of this connection; a call on another one goes on."""
    async with talk(bed.socket) as bad:
        # The relay's window is the runtime's, as it begins with.
        await bad.until(frames.SETTINGS)
        bad.say(said)
        goaway = await bad.until(frames.GOAWAY)
        assert int.from_bytes(goaway.payload[4:8]) == code
        await bad.end()
    assert await bed.unary(VERSION)(b"x") == b"x"
    assert bed.front.in_flight == 0


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(100),
        frames.PREFACE[:-1] + b"x" + SETTINGS,
        frames.PREFACE + frames.frame(frames.PING, 0, 0, bytes(8)),
        frames.PREFACE + ACK,
        frames.PREFACE + call(1),
    ],
)
async def test_what_is_not_http2_is_not_served(bed: Bed, begin: bytes) -> None:
    """3.4: another protocol, noise, nearly the preface, or another first frame than SETTINGS."""
    async with talk(bed.socket, begin) as bad:
        goaway = await bad.until(frames.GOAWAY)
        assert int.from_bytes(goaway.payload[4:8]) == Code.PROTOCOL_ERROR
        await bad.end()
    assert await bed.unary(VERSION)(b"x") == b"x"


async def test_a_stream_that_breaks_the_rules_is_reset_alone(bed: Bed) -> None:
    """5.4.2: two paths, data after the end, trailers of what is held: the other streams of the connection go on."""
    two_paths = frames.headers(1, literals.encode([*request(PLAIN), (b":path", b"/x")]), end=True)
    late_data = call(3, end=True) + frames.frame(frames.DATA, 0, 3, b"late")
    trailers = call(5, HELD) + frames.headers(5, literals.encode([(b"x", b"1")]), end=True)
    bed.runtime.behaviour = _hang
    async with talk(bed.socket) as one:
        for stream, said, code in (
            (1, two_paths, Code.PROTOCOL_ERROR),
            (3, late_data, Code.STREAM_CLOSED),
            (5, trailers, Code.PROTOCOL_ERROR),
        ):
            one.say(said)
            reset = await one.until(frames.RST_STREAM, stream)
            assert reset.number == code
        one.say(frames.frame(frames.PING, 0, 0, b"12345678"))
        assert (await one.until(frames.PING)).payload == b"12345678"


async def test_a_bug_on_the_way_to_the_runtime_is_told(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client learns of it at once, instead of waiting for a runtime that nobody dials; the log has the bug."""

    async def fail(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Connection, "_connect", fail)
    with capture_logs() as logs:
        error = await failure(bed.unary(VERSION)(b"x", timeout=PATIENCE))
    assert (error.code().name, error.details()) == (
        "UNAVAILABLE",
        "hookshim failed to connect to the runtime: see its log",
    )
    assert (logs[0]["log_level"], logs[0]["exc_info"]) == ("error", True)


async def _hang(_: object) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(frames.frame(frames.PING, 0, 0, bytes(8)), id="3.4 another first frame"),
        pytest.param(SETTINGS + ACK + ACK, id="6.5.3 too many acknowledgements"),
        pytest.param(SETTINGS + frames.headers(1, b"\xbe", end=True), id="4.3 an entry of an empty table"),
        pytest.param(SETTINGS + frames.headers(1, b"\x3f\xe1\x1f", end=True), id="4.3 a table that it shall not have"),
        pytest.param(SETTINGS + frames.frame(frames.DATA, 0, 1, bytes(16384)) * 5, id="6.9.1 more than the window"),
        pytest.param(SETTINGS + frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), id="6.6 a push"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
    ],
)
async def test_a_runtime_that_breaks_the_rules_is_unavailable(tmp_path: Path, said: bytes) -> None:
    """Its client is answered with the socket's name and what was wrong, and the log has it too."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        while b"some request" not in received:
            received += await reader.read(1 << 16)
        writer.write(said)
        while await reader.read(1 << 16):
            pass
        writer.close()

    runtime = tmp_path / "runtime.sock"
    front = RelayFront(tmp_path / "front.sock", backend := Backend(runtime), Judge(), Gate())
    await front.start()
    async with await asyncio.start_unix_server(serve, runtime), talk(tmp_path / "front.sock") as one:
        with capture_logs() as logs:
            one.say(call(1) + frames.frame(frames.DATA, 1, 1, b"\0\0\0\0\x0csome request"))
            answer = await one.until(frames.HEADERS, 1)
        assert f"containerd at {runtime} does not answer: ".encode() in answer.block
        assert [log["log_level"] for log in logs] == ["error"]
        await one.until(frames.GOAWAY)
    await front.stop(0)
    await backend.close()


async def test_a_client_that_comes_and_goes_leaves_nothing(bed: Bed) -> None:
    """Connections that end in the middle of anything are forgotten."""
    whole = frames.PREFACE + SETTINGS + call(1, HELD) + frames.frame(frames.DATA, 0, 1, bytes(100))
    for size in (0, 10, 24, 30, 60, len(whole) - 50, len(whole)):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(bed.socket))
            one.sendall(whole[:size])
    assert await bed.unary(VERSION)(b"x") == b"x"
    async with asyncio.timeout(PATIENCE):
        while len(bed.front._connections) > 1:  # type: ignore[union-attr] # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


async def test_a_relay_without_its_runtime_keeps_the_peace(tmp_path: Path) -> None:
    """While there is none, a client's settings and pings are answered, and its first call is told which socket."""
    front = RelayFront(tmp_path / "front.sock", backend := Backend(tmp_path / "nobody.sock"), Judge(), Gate())
    await front.start()
    async with talk(tmp_path / "front.sock") as one:
        await one.until(frames.SETTINGS)
        one.say(frames.frame(frames.PING, 0, 0, b"12345678"))
        assert (await one.until(frames.PING)).flags == frames.ACK
    channel = client(tmp_path / "front.sock")
    version: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(VERSION)
    error = await failure(version(b""))
    assert str(error.details()).endswith("nobody.sock does not answer: No such file or directory")
    await channel.close()
    await front.stop(0)
    await backend.close()


def begun() -> Pair:
    """A pair whose peers have said no more than that they are there, with a plain stream 1 and a held stream 3."""
    pair = Pair(Rules(frozenset({HELD}), lambda: None, lambda: 0.0))
    pair.from_client(frames.PREFACE + SETTINGS + call(1) + call(3, HELD))
    pair.from_backend(SETTINGS)
    return pair


def test_a_client_cannot_send_more_than_its_window() -> None:
    """6.9.1: what is too much for the runtime never gets there."""
    pair = begun()
    taken(pair)
    with pytest.raises(PeerError) as error:
        pair.from_client(frames.frame(frames.DATA, 0, 1, bytes(16384)) * 4)
    assert error.value.code is Code.FLOW_CONTROL_ERROR
    assert len(taken(pair)[1]) < 65535


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.binary(max_size=30), st.sampled_from(range(11)), st.integers(0, 7)), max_size=8
    )
)
def test_no_bytes_raise_anything_but_a_peers_error(said: list[tuple[bool, bytes, int, int]]) -> None:
    """Frames of any kind with anything in them, from either side: they pass, or end the connection with a code."""
    pair = begun()
    for from_client, payload, kind, stream in said:
        read = pair.from_client if from_client else pair.from_backend
        try:
            read(frames.frame(kind, payload[0] if payload else 0, stream, payload))
        except PeerError as error:
            pair.fail(error)
            break
        finally:
            taken(pair)
