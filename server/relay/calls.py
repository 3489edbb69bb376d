"""The calls of one connection, and what both of its directions know: lanes, ended streams, SETTINGS under way.

Invariant: a stream is ended here once, and nothing of it goes either way afterwards; once `lost`, nothing goes to the
backend, and every call but those that are being decided is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from server.relay import frames, literals, words
from server.relay.faults import Code, PeerError
from server.relay.fence import MOST, Fence
from server.relay.held import Event, State, after
from server.relay.lane import Chunk, Item, Lane
from server.relay.message import Reader
from server.relay.request import Request

if TYPE_CHECKING:
    from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Ask:
    """A call is to be decided; `Pair.decided` is to be told. ``arrived`` is when its fields came, in seconds."""

    stream: int
    request: Request
    message: bytes
    arrived: float


@dataclass(frozen=True, slots=True)
class Leave:
    """The decision on a call is not needed any more."""

    stream: int


class Over(NamedTuple):
    """A call has ended with this status code, by its name.

    ``added``: the seconds that it spent here, if it was unary and the backend has answered it; None for any other.
    """

    method: str
    code: str
    added: float | None


Happening: TypeAlias = "Ask | Leave | Over"


@dataclass
class Stream:
    """A call that is not over.

    ``sent``: the client has sent all of it. ``arrived``: when its fields came, in seconds. ``known``: the backend has
    its fields. ``begun``: the client has an answer's first fields. ``held``: it is, or was, decided. ``added``: the
    seconds that its request spent here.
    """

    request: Request
    sent: bool
    arrived: float
    # What is the same for almost every call is not set for each.
    known: bool = field(default=True, init=False)
    begun: bool = field(default=False, init=False)
    held: bool = field(default=False, init=False)
    state: State = field(default=State.PASSED, init=False)
    reader: Reader | None = field(default=None, init=False)
    added: float | None = field(default=None, init=False)

    @property
    def undecided(self) -> bool:
        """Whether its DATA are held."""
        return self.state is State.RECEIVING or self.state is State.DECIDING


@dataclass(frozen=True, slots=True)
class Rules:
    """What the front door says: which methods are decided, why no call is let in now, if so, and the time."""

    methods: frozenset[str]
    closed: Callable[[], str | None]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sent:
    """SETTINGS that a peer has not acknowledged: whether they are the other peer's, and what they change then.

    They count from their acknowledgement on, for this side too: it is what whoever sent them goes by. ``table``: they
    limit a header table; ``window``: the size that windows of streams begin with, if it is set.
    """

    peers: bool
    table: bool = False
    window: int | None = None


class Calls:
    """What is known of one connection's calls, and how they are ended here."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.to_client: list[frames.Piece] = []
        self.to_backend: list[frames.Piece] = []
        self.happened: list[Happening] = []
        self.streams: dict[int, Stream] = {}
        #: When the last bytes came, and the calls that have begun with them.
        self.began = 0.0
        self.opened: list[Stream] = []
        #: Why there is no backend, if there is none.
        self.lost: str | None = None
        #: GOAWAY was sent to the client: streams after ``last`` are not served.
        self.leaving = False
        self.last = 0
        #: The last stream that the backend serves, by its own GOAWAY.
        self.served = frames.LARGEST
        #: The last that the client was told is an answer of our own. A client may send a PING for what it gets, and
        #: Go's gRPC sends away who pings without having been sent anything ("too_many_pings"): it is answered here.
        self.spoken = False
        self.up = Lane(self.to_backend, self.to_client)
        self.down = Lane(self.to_client, self.to_backend)
        self.client_ended, self.backend_ended = Fence(), Fence()
        self.client_owes: deque[Sent] = deque()
        self.backend_owes: deque[Sent] = deque()
        #: A request's fields were kept from the backend, whose table is not the client's any more.
        self.detached = False
        #: The backend's next block has to set the size of the client's table: one that did was dropped, or could
        #: not know.
        self.resize_owed = False

    @property
    def closing(self) -> bool:
        """Whether the client was told, by either side, that no call that begins from now on is served."""
        return self.leaving or self.served < frames.LARGEST

    def decided(self, stream: int, call: Stream, event: Event) -> None:
        """Let an intercepted call go on to the backend."""
        if stream > self.served:
            # Nothing was done for it: now it can be told that the client may make it again.
            self.over(call, "UNAVAILABLE")
            self.finish(stream, call, [frames.reset(stream, Code.REFUSED_STREAM)])
            return
        if self.lost is not None:
            self.answer(stream, call, words.Status("UNAVAILABLE", self.lost))
            return
        call.state = after(call.state, event)
        call.reader = None
        call.added = self.rules.clock() - call.arrived
        self.up.release(stream)

    def gone(self, stream: int, call: Stream) -> None:
        """An intercepted call was ended by one of the peers."""
        if call.state is State.DECIDING:
            self.happened.append(Leave(stream))
        call.state = after(call.state, Event.ENDED)

    def over(self, call: Stream, code: str) -> None:
        """A call is over, with this status."""
        self.happened.append(Over(call.request.method or "", code, None))

    def answered(self, call: Stream, code: str) -> None:
        """A call is over, with this status of the backend's."""
        if call.added is None or not (call.held or call.request.unary):
            self.over(call, code)
        else:
            added = call.added + self.rules.clock() - self.began
            self.happened.append(Over(call.request.method or "", code, added))

    def sent(self) -> None:
        """What came with the last bytes was taken, and goes on now."""
        spent = self.rules.clock() - self.began
        for call in self.opened:
            call.added = spent
        self.opened.clear()

    def left(self, call: Stream) -> None:
        """A call is over because its client has left it: before its deadline, or at it."""
        limit = call.request.timeout
        late = limit is not None and self.rules.clock() - call.arrived >= limit
        self.over(call, "DEADLINE_EXCEEDED" if late else "CANCELLED")

    def answer(self, stream: int, call: Stream, status: words.Status, data: bytes = b"") -> None:
        """End a call with this, for the client as for the backend."""
        self.over(call, status.code)
        trailers = words.trailers(status)
        items: list[Item] = []
        if data:
            if not call.begun:
                items.append(frames.headers(stream, literals.encode(words.BEGIN), end=False))
            items.append(Chunk(data, end=False, own=True))
        elif not call.begun:
            trailers = words.BEGIN + trailers
        items.append(frames.headers(stream, literals.encode(trailers), end=True))
        if not call.sent:
            # All that is to be said was said (RFC 9113, 8.1): the rest of the request is not wanted.
            items.append(frames.reset(stream, Code.NO_ERROR))
        self.finish(stream, call, items)

    def abandon(self, stream: int, call: Stream, code: str) -> None:
        """Say nothing more of a call: the client learns of its end, which is this one, by that of the connection."""
        self.over(call, code)
        self.streams.pop(stream, None)
        self.up.drop(stream)
        self.down.drop(stream)

    def reset(self, stream: int, call: Stream, code: Code) -> None:
        """End a call that breaks the rules."""
        self.over(call, "INTERNAL")
        self.finish(stream, call, [frames.reset(stream, code)])

    def finish(self, stream: int, call: Stream, items: list[Item]) -> None:
        """End a call with these frames for the client. Raises PeerError if peers do not acknowledge SETTINGS."""
        self.streams.pop(stream, None)
        if call.undecided:
            if call.state is State.DECIDING:
                self.happened.append(Leave(stream))
            call.state = after(call.state, Event.OWN)
        if call.known:
            self.to_backend.append(frames.reset(stream, Code.CANCEL))
        self.up.drop(stream)
        self.spoken = True
        if self.backend_ended.add(stream) and self.lost is None:
            self.backend_owes.append(Sent(peers=False))
            self.to_backend.append(frames.frame(frames.SETTINGS, 0, 0))
        if not call.sent and self.client_ended.add(stream):
            self.settings_for_client()
        self.down.own(stream, items)
        if max(len(self.client_ended.streams), len(self.backend_ended.streams)) > MOST:
            raise PeerError(Code.ENHANCE_YOUR_CALM, "settings are not acknowledged")

    def settings_for_client(self) -> None:
        """Send the client empty SETTINGS of our own."""
        self.client_owes.append(Sent(peers=False))
        self.to_client.append(frames.frame(frames.SETTINGS, 0, 0))

    def acknowledge(self, sent: Sent) -> None:
        """Acknowledge SETTINGS of the client's, as the backend does not."""
        self.to_client.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if sent.window is not None:
            self.down.resized(sent.window)

    def leave(self) -> None:
        """Tell the client to make no more calls on this connection."""
        if not self.leaving:
            self.leaving = True
            self.to_client.append(frames.goaway(self.told(min(self.last, self.served)), Code.NO_ERROR))

    def told(self, last: int) -> int:
        """The last stream that a client is told is served, when the backend serves those up to ``last``.

        What is being decided here may have begun: a client that took it for not served would ask once more.
        """
        return max([last, *(stream for stream, call in self.streams.items() if call.state is State.DECIDING)])


def granted(lane: Lane, frame: frames.Frame, *, unknown: bool) -> None:
    """Take a WINDOW_UPDATE. ``unknown``: the sender of the lane does not know this stream, or not any more.

    Raises PeerError (PROTOCOL_ERROR, FLOW_CONTROL_ERROR).
    """
    stream, size = frame.stream, frame.number
    if not stream:
        if not size:
            raise PeerError(Code.PROTOCOL_ERROR, "a connection's window is made larger by 0 bytes")
        lane.granted(0, size, frame.raw)
        return
    if not lane.tracks(stream):
        if not unknown:
            lane.back.append(frame.raw)
        return
    lane.granted(stream, size, b"" if unknown else frame.raw)
