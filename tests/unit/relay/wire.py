"""A client and a runtime that are strict about HTTP/2 (the ``h2`` package), and the relay's `Pair` between them.

Both peers take what they are sent apart and raise at anything that RFC 9113 does not allow; they are the judges.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import StreamClosedError

from server.call import Decision
from server.relay.calls import Ask, Happening, Leave, Over, Rules
from server.relay.message import framed
from server.relay.pair import Pair

Headers = list[tuple[bytes, bytes]]

PLAIN = "/runtime.v1.RuntimeService/Version"
HELD = "/runtime.v1.RuntimeService/StopContainer"


def request(method: str, *more: tuple[bytes, bytes]) -> Headers:
    """A request's fields, as gRPC sends them."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]


@dataclass
class Stream:
    """What a peer has got of a stream, and what it has still to send."""

    fields: Headers = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    #: Bytes got and not given back; bytes to be sent; what is to be done when they are.
    owed: int = 0
    out: bytes = b""
    last: Callable[[], None] | None = None

    @property
    def status(self) -> str:
        """``grpc-status``, with or without an answer before."""
        return dict(self.fields + self.trailers).get(b"grpc-status", b"none").decode()


class Peer:
    """A side of a connection that remembers what it got, and sends as it may."""

    def __init__(self, *, client: bool) -> None:
        self.http = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        self.http.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.gone: ConnectionTerminated | None = None
        #: Called with a stream's number when all of it has come.
        self.whole: Callable[[int], None] = lambda _: None

    def take(self, data: bytes) -> None:
        """Take what came. Raises h2's ProtocolError for what must not come."""
        for event in self.http.receive_data(data):
            self._take(event)

    def send(self, stream: int, data: bytes, last: Callable[[], None]) -> None:
        """Send data, now or as soon as the windows allow it, and then ``last``."""
        mine = self.streams[stream]
        mine.out += data
        mine.last = last

    def write(self) -> None:
        """Send what the windows allow by now."""
        for number, stream in self.streams.items():
            try:
                self._write(number, stream)
            except StreamClosedError:
                stream.out, stream.last = b"", None

    def consume(self) -> None:
        """Give back the window for all that has come."""
        for number, stream in self.streams.items():
            if stream.owed:
                owed, stream.owed = stream.owed, 0
                # All of it, and at once: the package's own way may wait for more bytes where no window is left for any.
                with suppress(StreamClosedError, KeyError):  # it is over, or was so long ago
                    self.http.increment_flow_control_window(owed, number)
                self.http.increment_flow_control_window(owed)

    def _write(self, number: int, stream: Stream) -> None:
        while stream.out:
            size = min(self.http.local_flow_control_window(number), self.http.max_outbound_frame_size)
            if size <= 0:
                return
            self.http.send_data(number, stream.out[:size])
            stream.out = stream.out[size:]
        if stream.last is not None:
            last, stream.last = stream.last, None
            last()

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.gone = event
            return
        number = getattr(event, "stream_id", None)
        if not number:
            return
        stream = self.streams.setdefault(number, Stream())
        match event:
            case RequestReceived(headers=fields) | ResponseReceived(headers=fields):
                stream.fields = [(bytes(one[0]), bytes(one[1])) for one in fields or []]
            case TrailersReceived(headers=fields):
                stream.trailers = [(bytes(one[0]), bytes(one[1])) for one in fields or []]
            case DataReceived(data=data, flow_controlled_length=size):
                stream.body += data or b""
                stream.owed += size or 0
            case StreamEnded():
                stream.ended = True
                self.whole(number)
            case StreamReset(error_code=code):
                stream.reset = int(code or 0)


def taken(pair: Pair) -> tuple[bytes, bytes, list[Happening]]:
    """What a pair has for its client and for its backend, joined, and what has happened."""
    to_client, to_backend, happened = pair.taken()
    return b"".join(to_client), b"".join(to_backend), happened


class Wire:
    """A client, a pair, a runtime. ``cut``: the size of the pieces that everything comes in; ``made`` makes a pair."""

    def __init__(self, cut: int = 1 << 30, made: Callable[[Rules], Pair] = Pair) -> None:
        self.cut = cut
        self.closed: str | None = None
        self.now = 0.0
        self.pair = made(Rules(frozenset({HELD}), lambda: self.closed, lambda: self.now))
        self.client, self.runtime = Peer(client=True), Peer(client=False)
        self.asks: list[Ask] = []
        self.leaves: list[int] = []
        self.ended: list[Over] = []
        #: All that went to the runtime.
        self.sent_up = b""
        self.settle()

    def call(self, method: str, *more: tuple[bytes, bytes], end: bool = False) -> int:
        """Begin a call; its stream."""
        stream = self.client.http.get_next_available_stream_id()
        self.client.streams[stream] = Stream()
        self.client.http.send_headers(stream, request(method, *more), end_stream=end)
        return stream

    def ask(self, method: str, message: bytes, *more: tuple[bytes, bytes]) -> int:
        """Begin a call with one message; its stream."""
        stream = self.call(method, *more)
        self.client.send(stream, framed(message), lambda: self.client.http.end_stream(stream))
        return stream

    def decide(self, stream: int, decision: Decision) -> None:
        """Decide, and let everything come to rest."""
        self.pair.decided(stream, decision)
        self.settle()

    def answer(self, stream: int, body: bytes = b"", status: bytes = b"0") -> None:
        """Have the runtime answer."""
        http = self.runtime.http
        http.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
        trailers = [(b"grpc-status", status), (b"x-of", b"%d" % stream)]
        self.runtime.send(stream, body, lambda: http.send_headers(stream, trailers, end_stream=True))

    def settle(self) -> None:
        """Carry bytes until nobody has any more."""
        self._taken()
        moved = True
        while moved:
            moved = False
            self.client.write()
            self.runtime.write()
            for data, read in (
                (self.client.http.data_to_send(), self.pair.from_client),
                (self.runtime.http.data_to_send(), self.pair.from_backend),
            ):
                for at in range(0, len(data), self.cut):
                    moved = True
                    read(data[at : at + self.cut])
                    self._taken()

    def rest(self) -> None:
        """Let everything come to rest, with both peers reading all that comes."""
        for _ in range(200):
            self.settle()
            self.client.consume()
            self.runtime.consume()
        self.settle()

    def _taken(self) -> None:
        to_client, to_backend, happened = taken(self.pair)
        self.sent_up += to_backend
        if to_client:
            self.client.take(to_client)
        if to_backend:
            self.runtime.take(to_backend)
        for each in happened:
            match each:
                case Ask():
                    self.asks.append(each)
                case Leave(stream):
                    self.leaves.append(stream)
                case Over():
                    self.ended.append(each)
