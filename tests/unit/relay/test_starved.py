"""Peers that die, refuse or do not read in the worst moment: no call waits for what will never come."""

from __future__ import annotations

import asyncio
from pathlib import Path

from server.call import Answer, Pass
from server.relay import frames, settings
from server.relay.calls import Ask, Over
from server.relay.faults import Code
from server.relay.message import framed
from tests.unit.front_bed import PATIENCE
from tests.unit.relay.talk import Talk, between, call
from tests.unit.relay.test_found import greeted
from tests.unit.relay.wire import HELD, PLAIN, Wire, taken

#: More than sockets and the relay's write buffers take while nobody reads.
_LARGE = 6 << 20


def test_a_held_call_is_decided_though_the_runtime_has_died_with_the_window() -> None:
    """What a dead runtime took and did not give back does not keep a stop's message from coming."""
    pair = greeted()
    for size in (16_384, 16_384, 16_384, 16_383):
        pair.from_client((call(1) if pair.streams == {} else b"") + frames.frame(frames.DATA, 0, 1, bytes(size)))
    pair.from_client(call(3, HELD))
    taken(pair)
    pair.lose("it is gone")
    assert frames.window_update(0, 65_535) in taken(pair)[0]
    pair.from_client(frames.frame(frames.DATA, frames.END_STREAM, 3, framed(b"stop it")))
    assert [each.message for each in taken(pair)[2] if isinstance(each, Ask)] == [b"stop it"]


def test_a_request_that_was_refused_unread_leaves_room_for_the_next() -> None:
    """A runtime that answers a large request before it has read it, and resets it then, wants nothing more of it."""
    wire = Wire()
    large = wire.ask(HELD, bytes(300_000))
    wire.rest()
    wire.decide(large, Pass())
    runtime = wire.runtime.http
    fields = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"8")]
    runtime.send_headers(large, fields, end_stream=True)
    runtime.reset_stream(large, Code.NO_ERROR)
    wire.rest()
    assert wire.client.streams[large].status == "8"
    assert wire.pair.held == 0
    next_one = wire.ask(HELD, bytes(300_000))
    wire.rest()
    assert [(ask.stream, len(ask.message)) for ask in wire.asks] == [(large, 300_000), (next_one, 300_000)]


def test_what_waits_for_a_slow_reader_takes_nothing_from_what_is_to_be_decided() -> None:
    """A large request that the runtime does not read on: another one is held whole, however much was lent before."""
    wire = Wire()
    slow = wire.ask(HELD, bytes(300_000))
    wire.rest()
    wire.decide(slow, Pass())
    # The runtime reads no more of that stream, but gives its connection's window back.
    wire.runtime.http.increment_flow_control_window(65_535)
    wire.settle()
    other = wire.ask(HELD, bytes(200_000))
    for _ in range(20):
        wire.settle()
    assert [(ask.stream, len(ask.message)) for ask in wire.asks] == [(slow, 300_000), (other, 200_000)]


def test_an_answer_that_was_cut_off_ends_with_its_connection() -> None:
    """A status in the midst of a message is a bug to gRPC's clients: the end of the connection says UNAVAILABLE."""
    wire = Wire()
    begun, waiting = wire.ask(PLAIN, b"1"), wire.ask(PLAIN, b"2")
    wire.settle()
    wire.runtime.http.send_headers(begun, [(b":status", b"200"), (b"content-type", b"application/grpc")])
    wire.runtime.http.send_data(begun, framed(bytes(100))[:50])
    wire.settle()
    wire.pair.lose("it is gone")
    wire.settle()
    assert (wire.client.streams[begun].status, wire.client.streams[begun].ended) == ("none", False)
    assert wire.client.streams[waiting].status == "14"
    assert wire.pair.over
    assert sorted(over.code for over in wire.ended) == ["UNAVAILABLE"] * 2


def test_an_answer_that_was_cut_off_does_not_wait_for_a_decision() -> None:
    """While another call is being decided the connection goes on; the answer's end is told at once."""
    pair = greeted()
    pair.from_client(call(1, end=True) + call(3, HELD))
    pair.from_client(frames.frame(frames.DATA, frames.END_STREAM, 3, framed(b"stop it")))
    pair.from_backend(frames.headers(1, b"\x20\x88", end=False))
    taken(pair)
    pair.lose("it is gone")
    to_client, _, happened = taken(pair)
    assert b"grpc-status\x0214" in to_client
    assert [(over.method, over.code) for over in happened if isinstance(over, Over)] == [(PLAIN, "UNAVAILABLE")]
    pair.decided(3, Answer(b"ours"))
    assert framed(b"ours") in taken(pair)[0]
    assert pair.over


async def test_peers_that_read_nothing_until_they_have_written_do_not_wait_for_ever(tmp_path: Path) -> None:
    """Each waits for the other to be read, as windows allow them: the relay reads on, and both finish."""
    window = (settings.INITIAL_WINDOW_SIZE).to_bytes(2) + (1 << 30).to_bytes(4)
    wide = frames.frame(frames.SETTINGS, 0, 0, window) + frames.window_update(0, 1 << 30)
    async with between(tmp_path) as (client, runtime):
        client.say(wide + call(1))
        await runtime.until(frames.HEADERS, 1)
        runtime.say(wide + frames.headers(1, b"\x20\x88", end=False))
        await client.until(frames.HEADERS, 1)
        client.say(frames.frame(frames.SETTINGS, frames.ACK, 0))
        runtime.say(frames.frame(frames.SETTINGS, frames.ACK, 0))
        async with asyncio.timeout(PATIENCE):
            assert tuple(await asyncio.gather(_write_and_read(client), _write_and_read(runtime))) == (_LARGE, _LARGE)


async def _write_and_read(peer: Talk) -> int:
    """Write everything, and only then read; how much there was."""
    piece = frames.frame(frames.DATA, 0, 1, bytes(frames.DEFAULT_SIZE))
    for _ in range(_LARGE // frames.DEFAULT_SIZE):
        peer.say(piece)
        await peer.written()
    got = 0
    while got < _LARGE:
        got += len((await peer.until(frames.DATA, 1)).payload)
    return got
