"""Two connections that are one, judged by peers that take nothing that HTTP/2 does not allow."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from server.call import Answer, Decision, Pass, Refusal
from server.relay import upward
from server.relay.calls import Rules
from server.relay.faults import Code, PeerError
from server.relay.message import framed
from server.relay.pair import Pair
from server.relay.settings import without_table
from tests.unit.relay.wire import HELD, PLAIN, Wire

CUTS = pytest.mark.parametrize("cut", [1 << 30, 1000, 7])


@CUTS
def test_a_call_goes_through(cut: int) -> None:
    """A call that nobody decides arrives, and its answer comes back, however the bytes are cut."""
    wire = Wire(cut)
    stream = wire.ask(PLAIN, b"question")
    wire.settle()
    assert wire.runtime.streams[stream].body == framed(b"question")
    wire.answer(stream, framed(b"answer"))
    wire.rest()
    got = wire.client.streams[stream]
    assert (got.body, got.status, got.ended) == (framed(b"answer"), "0", True)
    assert [(over.method, over.code) for over in wire.ended] == [(PLAIN, "OK")]
    assert wire.pair.streams == {}


@CUTS
def test_a_call_is_held_until_it_is_decided(cut: int) -> None:
    """The runtime has its fields and nothing else; a Pass gives it the message as it was."""
    wire = Wire(cut)
    stream = wire.ask(HELD, b"question")
    wire.settle()
    assert [(ask.stream, ask.message) for ask in wire.asks] == [(stream, b"question")]
    assert wire.runtime.streams[stream].body == b""
    wire.decide(stream, Pass())
    assert wire.runtime.streams[stream].body == framed(b"question")
    wire.answer(stream, framed(b"answer"))
    wire.rest()
    assert wire.client.streams[stream].body == framed(b"answer")


@CUTS
@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_an_answer_is_made_here(cut: int, size: int) -> None:
    """The client has a whole answer of any size; the runtime has no message, and a reset."""
    wire = Wire(cut)
    stream = wire.ask(HELD, b"question")
    wire.settle()
    wire.decide(stream, Answer(bytes(size)))
    wire.rest()
    got = wire.client.streams[stream]
    assert (got.body, got.status, got.ended, got.reset) == (framed(bytes(size)), "0", True, None)
    assert wire.runtime.streams[stream].body == b""
    assert wire.runtime.streams[stream].reset == Code.CANCEL
    # The next call finds everything as it was.
    after = wire.ask(PLAIN, bytes(200_000))
    wire.rest()
    assert len(wire.runtime.streams[after].body) == 200_005


def test_what_the_runtime_says_late_of_a_call_answered_here_goes_nowhere() -> None:
    """An answer that was under way when the call was answered here does not reach the client, nor cost it window."""
    wire = Wire()
    stream = wire.ask(HELD, b"question")
    wire.settle()
    # The runtime answers before it has seen the reset.
    wire.answer(stream, bytes(30_000), status=b"13")
    wire.runtime.write()
    late = wire.runtime.http.data_to_send()
    wire.pair.decided(stream, Answer(b"ours"))
    wire.pair.from_backend(late)
    wire.rest()
    got = wire.client.streams[stream]
    assert (got.body, got.status) == (framed(b"ours"), "0")
    after = wire.ask(PLAIN, b"next")
    wire.settle()
    wire.answer(after, bytes(200_000))
    wire.rest()
    assert len(wire.client.streams[after].body) == 200_000


def test_a_client_that_resets_is_never_decided_for_the_runtime() -> None:
    """The decision is not needed any more, and the runtime gets the reset without a message."""
    wire = Wire()
    stream = wire.ask(HELD, b"question")
    wire.settle()
    wire.client.http.reset_stream(stream, Code.CANCEL)
    wire.settle()
    assert wire.leaves == [stream]
    wire.decide(stream, Pass())
    assert (wire.runtime.streams[stream].body, wire.runtime.streams[stream].reset) == (b"", Code.CANCEL)
    assert [over.code for over in wire.ended] == ["CANCELLED"]


def test_the_runtime_ends_a_held_call_once() -> None:
    """When its deadline passes there, that answer is the call's, and the decision comes too late."""
    wire = Wire()
    stream = wire.ask(HELD, b"question", (b"grpc-timeout", b"10m"))
    wire.settle()
    assert wire.asks[0].request.timeout == pytest.approx(0.01)
    trailers = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"4")]
    wire.runtime.http.send_headers(stream, trailers, end_stream=True)
    wire.settle()
    wire.decide(stream, Answer(b"too late"))
    wire.rest()
    got = wire.client.streams[stream]
    assert (got.body, got.status, got.ended) == (b"", "4", True)
    assert wire.runtime.streams[stream].reset == Code.CANCEL
    assert (wire.leaves, [over.code for over in wire.ended]) == ([stream], ["DEADLINE_EXCEEDED"])


def test_what_was_spent_here_is_told() -> None:
    """Of a forwarded unary call: deciding counts, the time with the runtime does not; of any other call nothing."""
    wire = Wire()
    passed, plain, answered = wire.ask(HELD, b"1"), wire.ask(PLAIN, b"2"), wire.ask(HELD, b"3")
    stream = wire.ask("/runtime.v1.RuntimeService/GetContainerEvents", b"4")
    wire.settle()
    wire.now = 2.0
    wire.decide(passed, Pass())
    wire.decide(answered, Answer(b"ours"))
    wire.now = 10.0
    for each in (passed, plain, stream):
        wire.answer(each)
    wire.rest()
    assert [(over.code, over.added) for over in wire.ended] == [("OK", None), ("OK", 2.0), ("OK", 0.0), ("OK", None)]


def test_many_held_requests_do_not_keep_others_waiting() -> None:
    """64 requests of 20 KB that wait for decisions leave room for one of 300 KB: it does not wait for them."""
    wire = Wire()
    held = [wire.ask(HELD, bytes(20_000)) for _ in range(64)]
    large = wire.ask(PLAIN, bytes(300_000))
    wire.rest()
    assert len(wire.runtime.streams[large].body) == 300_005
    assert [ask.stream for ask in wire.asks] == held
    for stream in held:
        wire.decide(stream, Pass())
    wire.rest()
    assert {len(wire.runtime.streams[stream].body) for stream in held} == {20_005}


def test_without_lending_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what is held uses up the connection's window, and the large request starves."""
    monkeypatch.setattr("server.relay.window.Window.lends", lambda _, waiting: min(0, waiting))
    wire = Wire()
    for _ in range(64):
        wire.ask(HELD, bytes(20_000))
    large = wire.ask(PLAIN, bytes(300_000))
    wire.rest()
    assert len(wire.runtime.streams[large].body) < 300_005


def test_held_bytes_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that fills the memory with requests is refused, and its other calls go on."""
    monkeypatch.setattr(upward, "MOST_HELD", 100_000)
    wire = Wire()
    streams = [wire.ask(HELD, bytes(20_000)) for _ in range(8)]
    wire.rest()
    refused = [stream for stream in streams if wire.client.streams[stream].status == "8"]
    assert len(refused) == 4
    for stream in streams:
        wire.decide(stream, Pass())
    wire.rest()
    assert sum(len(wire.runtime.streams[stream].body) for stream in streams) == 4 * 20_005


class Stress:
    """Calls of all kinds, in any order, between peers that read when they like and whose settings change."""

    def __init__(self, seed: int, made: Callable[[Rules], Pair] = Pair) -> None:
        self.chance = random.Random(seed)
        self.wire = Wire(self.chance.choice([1 << 30, 4096, 500]), made)
        self.wire.runtime.whole = lambda stream: self.wire.answer(stream, self.wire.runtime.streams[stream].body)
        #: How each call is to end: body and status; None if it was reset.
        self.wanted: dict[int, tuple[bytes, str] | None] = {}
        #: Messages of calls that are not decided.
        self.held: dict[int, bytes] = {}

    def run(self) -> None:
        """Some steps, and then what is left comes to rest. Raises AssertionError for a call that ended wrongly."""
        steps = [self.ask, self.ask, self.hold, self.hold, self.decide, self.reset, self.consume, self.change, self.end]
        for _ in range(self.chance.randrange(10, 60)):
            self.chance.choice([*steps, self.wire.settle])()
        for peer in (self.wire.client, self.wire.runtime):
            self.wire.settle()
            peer.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 65535})
        self.wire.rest()
        for stream, body in self.held.items():
            self.wire.decide(stream, Pass())
            self.wanted[stream] = (body, "0")
        self.wire.rest()
        for stream, outcome in self.wanted.items():
            got = self.wire.client.streams[stream]
            assert outcome is None or (got.body, got.status, got.ended) == (*outcome, True), stream
        assert self.wire.pair.streams == {}
        assert self.wire.client.gone is None

    def body(self) -> bytes:
        """A message, small or large."""
        return bytes([self.chance.randrange(256)]) * self.chance.choice([0, 10, 5000, 70_000])

    def ask(self) -> None:
        """A call that goes on at once."""
        body = self.body()
        self.wanted[self.wire.ask(PLAIN, body)] = (framed(body), "0")

    def hold(self) -> None:
        """A call that waits for its decision."""
        body = self.body()
        self.held[self.wire.ask(HELD, body, (b"x", b"%d" % self.chance.randrange(5)))] = framed(body)

    def decide(self) -> None:
        """Decide most of those that wait."""
        self.wire.settle()
        for stream in [ask.stream for ask in self.wire.asks if ask.stream in self.held]:
            body, other = self.held[stream], self.body()
            ways: list[tuple[Decision, tuple[bytes, str]]] = [
                (Pass(), (body, "0")),
                (Answer(other), (framed(other), "0")),
                (Refusal("ABORTED", "no"), (b"", "10")),
            ]
            if self.chance.random() < 0.7:
                decision, self.wanted[stream] = self.chance.choice(ways)
                del self.held[stream]
                self.wire.pair.decided(stream, decision)

    def reset(self) -> None:
        """A caller leaves."""
        self.wire.settle()
        streams = [*self.held, *(stream for stream, outcome in self.wanted.items() if outcome is not None)]
        streams = [stream for stream in streams if not self.wire.client.streams[stream].ended]
        if streams:
            stream = self.chance.choice(streams)
            mine = self.wire.client.streams[stream]
            mine.last, mine.out = None, b""
            self.wire.client.http.reset_stream(stream, Code.CANCEL)
            self.held.pop(stream, None)
            self.wanted[stream] = None

    def end(self) -> None:
        """The runtime ends a call that is held, as when its deadline has passed."""
        self.wire.settle()
        runtime = self.wire.runtime
        if streams := [stream for stream in self.held if stream in runtime.streams]:
            stream = self.chance.choice(streams)
            del self.held[stream]
            if self.chance.random() < 0.5:
                fields = [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"4")]
                runtime.http.send_headers(stream, fields, end_stream=True)
                self.wanted[stream] = (b"", "4")
            else:
                runtime.http.reset_stream(stream, Code.CANCEL)
                self.wanted[stream] = None
                self.wire.settle()
                assert self.wire.client.streams[stream].reset == Code.CANCEL
            self.wire.client.streams[stream].last = None
            self.wire.client.streams[stream].out = b""

    def consume(self) -> None:
        """One of the peers reads what it has got."""
        self.chance.choice([self.wire.client, self.wire.runtime]).consume()

    def change(self) -> None:
        """One of the peers changes its windows or its header table."""
        name = self.chance.choice([SettingCodes.INITIAL_WINDOW_SIZE, SettingCodes.HEADER_TABLE_SIZE])
        peer = self.chance.choice([self.wire.client, self.wire.runtime])
        self.wire.settle()
        peer.http.update_settings({name: self.chance.choice([0, 100, 4096, 65535, 200_000])})
        if name is SettingCodes.HEADER_TABLE_SIZE:
            # The h2 package tells its peer of two changes at once in a way of its own.
            self.wire.settle()
            self.ask()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_no_call_ends_differently_than_it_should(seed: int) -> None:
    """Whatever is held, answered here or reset, in whatever order: every call ends right, and no peer complains."""
    Stress(seed).run()


def test_without_the_setting_late_blocks_break_the_clients_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a backend that may keep a header table makes a stress end with COMPRESSION_ERROR."""
    assert without_table(b"") == b"\0\1\0\0\0\0"
    monkeypatch.setattr(upward, "rewritten", lambda payload: payload)
    with pytest.raises(PeerError) as error:
        _stress()
    assert error.value.code is Code.COMPRESSION_ERROR


def _stress() -> None:
    for seed in range(100):
        Stress(seed).run()
