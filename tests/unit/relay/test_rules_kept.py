"""What RFC 9113 allows or asks for, by its sections: the relay takes it, keeps to it, and passes it on as it came."""

from __future__ import annotations

from pathlib import Path

import hpack
import pytest

from server.backend import Backend
from server.call import Answer
from server.front import Gate
from server.relay import RelayFront, frames, literals
from server.relay.calls import Ask, Rules
from server.relay.faults import Code
from server.relay.message import framed
from server.relay.pair import Pair
from tests.unit.front_bed import Judge
from tests.unit.relay.talk import ACK, SETTINGS, answer, between, call, talk
from tests.unit.relay.wire import HELD, PLAIN, request, taken

#: A reserved bit, which means nothing (RFC 9113, 4.1).
_RESERVED = b"\x80"

NOBODYS = "/nobody.has/This"


def settings(name: int, value: int) -> bytes:
    """SETTINGS with one setting."""
    return frames.frame(frames.SETTINGS, 0, 0, name.to_bytes(2) + value.to_bytes(4))


def greeted(to_client: bytes = SETTINGS, to_runtime: bytes = SETTINGS) -> Pair:
    """A pair whose peers have greeted each other with these settings."""
    pair = Pair(Rules(frozenset({HELD}), lambda: None, lambda: 0.0))
    pair.from_client(frames.PREFACE + to_runtime)
    pair.from_backend(to_client + ACK)
    pair.from_client(ACK)
    taken(pair)
    return pair


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(frames.frame(99, 0xFF, 0, b"whatever"), id="4.1 an unknown frame of the connection"),
        pytest.param(call(1) + frames.frame(99, 0xFF, 1, b"whatever"), id="4.1 an unknown frame of a stream"),
        pytest.param(call(1)[:5] + _RESERVED + call(1)[6:], id="4.1 the reserved bit"),
        pytest.param(call(1) + frames.frame(frames.DATA, 0xF4, 1, b"x"), id="4.1 flags that DATA do not have"),
        pytest.param(call(1) + frames.frame(frames.DATA, 0, 1, bytes(16384)), id="4.2 the largest frame"),
        pytest.param(frames.frame(frames.PRIORITY, 0, 9, bytes(5)), id="5.1 priority of an idle stream"),
        pytest.param(frames.goaway(0, Code.NO_ERROR, "farewell"), id="6.8 a client that leaves"),
        pytest.param(call(1) + frames.window_update(1, 0), id="6.9 a stream's window larger by nothing"),
        pytest.param(call(1) + frames.frame(frames.DATA, 8, 1, b"\3abc" + bytes(3)), id="6.1 padding"),
        pytest.param(
            call(1) + frames.headers(1, literals.encode([(b"x", b"1")]), end=True), id="8.1 trailers of a request"
        ),
    ],
)
def test_what_is_the_runtimes_to_judge_goes_on_as_it_came(said: bytes) -> None:
    """The relay does not take part in what it needs not know."""
    pair = greeted()
    pair.from_client(said)
    assert taken(pair) == (b"", said, [])


async def test_fields_of_a_call_that_is_refused_count_for_the_next(tmp_path: Path) -> None:
    """4.3: a block changes the table also if its call goes nowhere; the runtime reads what the client meant."""
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    async with between(tmp_path) as (client, runtime):
        for stream, method in ((1, PLAIN), (3, NOBODYS), (5, PLAIN), (7, NOBODYS), (9, PLAIN)):
            fields = request(method, (b"x", b"%d" % (stream // 4)))
            client.say(frames.headers(stream, encoder.encode(fields), end=True))
            if method is NOBODYS:
                refused = (await client.until(frames.HEADERS, stream)).block
                assert literals.encode([(b"grpc-status", b"12")])[1:] in refused
            else:
                block = (await runtime.until(frames.HEADERS, stream)).block
                assert [(one[0], one[1]) for one in decoder.decode(block, raw=True)] == fields


async def test_fields_in_many_frames_are_one_request(tmp_path: Path) -> None:
    """6.2, 6.10: padding, priority and CONTINUATION of a byte each change nothing for whoever decides."""
    judge = Judge(frozenset({HELD}))
    block = literals.encode(request(HELD, (b"x", b"1")))
    first = frames.frame(frames.HEADERS, frames.PADDED | frames.PRIORITIZED, 1, b"\2" + bytes(5) + block[:1] + bytes(2))
    rest = [frames.frame(frames.CONTINUATION, 0, 1, block[at : at + 1]) for at in range(1, len(block))]
    message = frames.frame(frames.DATA, frames.END_STREAM, 1, framed(b"held"))
    sent = first + b"".join(rest) + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1)
    async with between(tmp_path, judge) as (client, runtime):
        client.say(sent + message)
        assert (await runtime.until(frames.HEADERS, 1)).raw == sent
        assert (await runtime.until(frames.DATA, 1)).raw == message
    assert [(asked.method, asked.request, ("x", "1") in tuple(asked.metadata)) for asked in judge.asked] == [
        (HELD, b"held", True)
    ]


async def test_a_stream_that_the_runtime_has_no_room_for_is_refused_by_it(tmp_path: Path) -> None:
    """5.1.2: its limit and its REFUSED_STREAM reach the client, which may make the call again."""
    refused_stream = 7
    async with between(tmp_path) as (client, runtime):
        runtime.say(settings(3, 1))
        assert (await client.until(frames.SETTINGS)).raw == settings(3, 1)
        client.say(ACK + call(1) + call(3))
        await runtime.until(frames.HEADERS, 3)
        runtime.say(frames.frame(frames.RST_STREAM, 0, 3, refused_stream.to_bytes(4)))
        assert (await client.until(frames.RST_STREAM, 3)).number == refused_stream


async def test_a_reset_is_not_answered(tmp_path: Path) -> None:
    """5.4.2: neither that of a call that goes on, nor of one that is held, nor of one that is over."""
    async with between(tmp_path) as (client, runtime):
        client.say(call(1) + call(3, HELD) + call(5, end=True) + frames.reset(1, Code.CANCEL))
        client.say(frames.reset(3, Code.CANCEL))
        await runtime.until(frames.HEADERS, 5)
        runtime.say(answer(5))
        await client.until(frames.HEADERS, 5)
        client.say(frames.reset(5, Code.CANCEL) + frames.frame(frames.PING, 0, 0, b"are here"))
        for stream in (1, 3, 5):
            assert (await runtime.until(frames.RST_STREAM, stream)).number == Code.CANCEL
        assert (await runtime.until(frames.PING)).payload == b"are here"
        runtime.say(frames.frame(frames.PING, frames.ACK, 0, b"are here"))
        assert [frame.kind for frame in [await client.next()]] == [frames.PING]


async def test_goaway_names_the_last_stream_that_was_taken(tmp_path: Path) -> None:
    """5.4.1, 6.8: so that the client knows which calls it may make again."""
    async with between(tmp_path) as (client, _):
        client.say(call(1, end=True) + call(5, end=True) + frames.window_update(0, 0))
        goaway = await client.until(frames.GOAWAY)
        assert int.from_bytes(goaway.payload[:4]) == 5
        await client.end()


async def test_settings_and_pings_are_answered_without_a_runtime(tmp_path: Path) -> None:
    """6.5.3, 6.7: each once, in their order, with the ping's own bytes."""
    front = RelayFront(tmp_path / "front.sock", backend := Backend(tmp_path / "nobody.sock"), Judge(), Gate())
    await front.start()
    async with talk(tmp_path / "front.sock") as client:
        assert (await client.next()).flags == 0
        said = await client.before_ping()
        assert [frame.raw for frame in said] == [ACK]
        client.say(ACK + settings(4, 100) + frames.frame(frames.PING, frames.ACK, 0, b"no quest"))
        assert [frame.raw for frame in await client.before_ping(b"12345678")] == [ACK]
    await front.stop(0)
    await backend.close()


def test_a_client_that_was_told_to_leave_is_served_to_the_end_of_its_calls() -> None:
    """6.8: what has begun goes on; what begins is not served, and its data do not use up the window."""
    pair = greeted()
    pair.from_client(call(1))
    taken(pair)
    pair.leave()
    assert taken(pair)[0] == frames.goaway(1, Code.NO_ERROR)
    late = frames.frame(frames.DATA, frames.END_STREAM, 3, bytes(1000))
    message = frames.frame(frames.DATA, frames.END_STREAM, 1, b"message")
    pair.from_client(call(3) + late + message + frames.reset(3, Code.CANCEL))
    assert taken(pair) == (frames.window_update(0, 1000), message, [])
    assert not pair.over
    pair.from_backend(answer(1))
    assert taken(pair)[0] == answer(1)
    assert pair.over


def test_no_window_is_needed_for_what_has_no_bytes() -> None:
    """6.9.1: an empty DATA frame ends a stream whose window is used up, of a held call too."""
    empty = frames.frame(frames.DATA, frames.END_STREAM, 1)
    pair = greeted(to_client=settings(4, 0))
    pair.from_client(call(1) + empty)
    assert taken(pair)[1].endswith(empty)
    pair = greeted(to_client=settings(4, 0))
    pair.from_client(call(1, HELD) + empty)
    assert taken(pair)[1].endswith(empty)


def test_an_answer_of_our_own_waits_for_the_clients_window() -> None:
    """6.9.1: its fields go, its message goes as far as there is room, its end goes last."""
    pair = greeted(to_runtime=settings(4, 3))
    pair.from_client(call(1, HELD) + frames.frame(frames.DATA, frames.END_STREAM, 1, framed(b"held")))
    [asked] = taken(pair)[2]
    assert isinstance(asked, Ask)
    pair.decided(1, Answer(b"ours"))
    first = taken(pair)[0]
    assert first.endswith(frames.frame(frames.DATA, 0, 1, framed(b"ours")[:3]))
    pair.from_client(frames.window_update(1, 5))
    assert taken(pair)[0] == frames.frame(frames.DATA, 0, 1, framed(b"ours")[3:8])
    pair.from_client(frames.window_update(1, 5))
    rest = taken(pair)[0]
    assert rest.startswith(frames.frame(frames.DATA, 0, 1, framed(b"ours")[8:]))
    assert (rest[10 + 3], rest[10 + 4] & frames.END_STREAM) == (frames.HEADERS, frames.END_STREAM)


async def test_a_call_that_is_answered_before_it_is_sent_is_not_wanted_any_more(tmp_path: Path) -> None:
    """8.1: a whole answer, then RST_STREAM with NO_ERROR; what still comes of the request does no harm."""
    async with between(tmp_path) as (client, _):
        client.say(call(1, NOBODYS))
        assert (await client.until(frames.HEADERS, 1)).flags & frames.END_STREAM
        assert (await client.until(frames.RST_STREAM, 1)).number == Code.NO_ERROR
        client.say(frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(500)))
        assert (await client.until(frames.WINDOW_UPDATE)).number == 500


async def test_a_request_without_a_path_is_malformed(tmp_path: Path) -> None:
    """8.3.1: it is reset alone, and never reaches the runtime."""
    async with between(tmp_path) as (client, runtime):
        client.say(frames.headers(1, literals.encode(request(PLAIN)[:2]), end=True))
        assert (await client.until(frames.RST_STREAM, 1)).number == Code.PROTOCOL_ERROR
        client.say(call(3, end=True))
        while (frame := await runtime.next()).kind != frames.HEADERS:
            pass
        assert frame.stream == 3
