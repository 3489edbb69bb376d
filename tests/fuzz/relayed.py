"""Inputs for the relay: what two peers may say to it, in any pieces, and what has to hold of what comes out.

An input is a list of things said. Each begins with a byte: bit 0 is the side (1: the client), bit 1 whether a frame is
to be made, the others the size of the pieces that it comes in. Then there are two bytes with a length, and so much of
HTTP/2; or, for a frame to be made, its type, flags and stream in a byte each and two bytes with a number. Of a type
that HTTP/2 does not have, from the backend, it is that one's end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from server.call import Answer, Decision, Pass, Refusal
from server.relay import frames, literals
from server.relay.calls import Ask, Rules
from server.relay.faults import Code, PeerError
from server.relay.pair import Pair
from tests.fuzz.ledger import Books
from tests.unit.relay.wire import taken

HELD = "/runtime.v1.RuntimeService/StopContainer"
PLAIN = "/runtime.v1.RuntimeService/Version"
_METHODS = (PLAIN, HELD, HELD, "/nobody.has/This")

#: By a call's number; the last is not decided as long as the input goes on.
_DECISIONS: tuple[Decision | None, ...] = (Pass(), Answer(b"answer"), Refusal("ABORTED", "refused", b"details"), None)

#: Types of frames that are made: HTTP/2's, and one that it does not have.
_KINDS = frames.CONTINUATION + 2

#: What a thing said begins with, in bytes; and how many one has that is made.
_FIXED = 3
_MADE = 6

#: Pieces that a thing said comes in, about, at most if it is large.
_MOST_PIECES = 40


@dataclass(frozen=True, slots=True)
class Said:
    """A thing said: whether by the client, the size of the pieces, the bytes; ``last``: the backend ends instead."""

    client: bool
    piece: int
    text: bytes
    last: bool = False


def cut(data: bytes) -> list[bytes]:
    """An input's things said; what is cut off at its end is nothing."""
    found, at = [], 0
    while at + _FIXED <= len(data):
        size = _MADE if data[at] & 2 else _FIXED + int.from_bytes(data[at + 1 : at + 3])
        found.append(data[at : at + size])
        at += size
    return found if at <= len(data) else found[:-1]


def said(data: bytes) -> Iterator[Said]:
    """What each of them is."""
    for thing in cut(data):
        kind, flags, stream = thing[1:4] if thing[0] & 2 else (0, 0, 0)
        text = _frame(kind % _KINDS, flags, stream, int.from_bytes(thing[4:])) if thing[0] & 2 else thing[_FIXED:]
        client, last = bool(thing[0] & 1), thing[0] & 3 == 2 and kind % _KINDS == _KINDS - 1
        # Large frames come in larger pieces, so that an input takes milliseconds.
        yield Said(client, max((thing[0] >> 2) + 1, len(text) // _MOST_PIECES), b"" if last else text, last)


def _frame(kind: int, flags: int, stream: int, number: int) -> bytes:
    """A frame that is likely to be a right one."""
    size = min(number, frames.DEFAULT_SIZE)
    match kind:
        case frames.DATA:
            # A message that is never whole, as of one that is large.
            return frames.frame(kind, flags, stream, (b"\0\0\x7f\0\0" + bytes(size))[:size])
        case frames.HEADERS:
            asked = [(b":method", b"POST"), (b":path", _METHODS[number % 4].encode()), (b"grpc-timeout", b"1S")]
            answered = [(b":status", b"200"), (b"grpc-status", b"%d" % (number >> 1))]
            return frames.frame(kind, flags, stream, literals.encode(answered if number & 4 else asked))
        case frames.SETTINGS:
            payload = b"" if flags & frames.ACK else stream.to_bytes(2) + number.to_bytes(4)
            return frames.frame(kind, flags, 0, payload)
        case frames.RST_STREAM | frames.WINDOW_UPDATE:
            return frames.frame(kind, flags, stream, number.to_bytes(4))
        case frames.GOAWAY:
            return frames.goaway(stream, Code.NO_ERROR)
        case frames.PING:
            return frames.frame(kind, flags, 0, bytes(8))
        case _:
            return frames.frame(kind, flags, stream, bytes(size))


@dataclass(slots=True)
class Outcome:
    """What came out: for the client, for the backend, what was asked; the code it ended with, whether it was lost."""

    client: bytes = b""
    backend: bytes = b""
    asks: list[Ask] = field(default_factory=list)
    code: str = ""
    lost: bool = False


def outcome(data: bytes, *, whole: bool) -> Outcome:
    """What a pair makes of it; in pieces, unless it is to be ``whole``. Only a peer's error may be raised in it."""
    pair, books, found = Pair(Rules(frozenset({HELD}), lambda: None, lambda: 0.0)), Books(), Outcome()
    for each in said(data):
        read = pair.from_client if each.client else pair.from_backend
        step = (len(each.text) or 1) if whole else each.piece
        if pair.lost and not each.client:
            continue
        try:
            for at in range(0, len(each.text), step):
                read(each.text[at : at + step])
            if each.last:
                found.lost = True
                pair.lose("the backend has ended")
        except PeerError as error:
            found.code = error.code.name
        to_client, to_backend, happened = taken(pair)
        found.client, found.backend = found.client + to_client, found.backend + to_backend
        if found.code:
            break
        books.enter(each.text, to_client, to_backend, client=each.client)
        books.agree(pair)
        new = [happening for happening in happened if isinstance(happening, Ask)]
        found.asks += new
        for ask in new:
            if (decision := _DECISIONS[ask.stream // 2 % len(_DECISIONS)]) is not None:
                pair.decided(ask.stream, decision)
    return found


def check(data: bytes) -> None:
    """What comes out does not depend on how it came in, and can be read. Raises what is wrong."""
    found, pieces = outcome(data, whole=True), outcome(data, whole=False)
    # A client without a backend is sent away after what it says first, of which more may have come at once.
    assert found == pieces or found.lost, "it depends on the pieces that it came in"
    for text in (found.client, found.backend, pieces.client, pieces.backend):
        _readable(text.removeprefix(frames.PREFACE))


def _readable(text: bytes) -> None:
    """Whole frames, and no header block that another frame is in (RFC 9113, 4.3)."""
    at, opened = 0, 0
    while at < len(text):
        kind, flags, stream = text[at + 3], text[at + 4], int.from_bytes(text[at + 5 : at + 9]) & frames.LARGEST
        assert not opened or (kind, stream) == (frames.CONTINUATION, opened), "a header block is interrupted"
        if kind in (frames.HEADERS, frames.CONTINUATION):
            opened = 0 if flags & frames.END_HEADERS else stream
        at += frames.PREFIX_SIZE + int.from_bytes(text[at : at + 3])
    assert at == len(text), "a frame is cut"
    assert not opened, "a header block is cut"


def seeds() -> dict[str, bytes]:
    """Inputs to begin with, by their names: a connection's beginning, some calls, and frames that are made."""
    empty, ack = frames.frame(frames.SETTINGS, 0, 0), frames.frame(frames.SETTINGS, frames.ACK, 0)
    begin = [(1, frames.PREFACE + empty), (0, empty + ack), (1, ack)]
    calls = []
    for stream, method in ((1, PLAIN), (3, HELD), (5, HELD), (7, HELD), (9, PLAIN)):
        fields = literals.encode([(b":method", b"POST"), (b":path", method.encode()), (b"grpc-timeout", b"1S")])
        body = frames.frame(frames.DATA, frames.END_STREAM, stream, b"\0\0\0\0\1x")
        answer = frames.headers(stream, literals.encode([(b":status", b"200")]), end=False) + body
        calls.append((1, frames.headers(stream, fields, end=False) + body + frames.window_update(stream, 9)))
        calls.append((0, answer + frames.window_update(0, 9) + frames.headers(stream, b"\x20\x88", end=True)))
    ends = [
        (1, frames.reset(7, Code.CANCEL)),
        (0, frames.goaway(7, Code.NO_ERROR)),
        (0, frames.frame(frames.PING, 0, 0, bytes(8))),
    ]
    ways = {
        "begin": begin,
        "calls": begin + calls[:8],
        "ends": begin + calls[:8] + ends,
        "left": begin + calls[:2] + calls[6:7] + ends,
        "open": begin + calls[:1] + calls[6:7],
        "late": calls[8:9],
    }
    made = {name: b"".join(bytes([side | 12]) + len(text).to_bytes(2) + text for side, text in way)
            for name, way in ways.items()}  # fmt: skip
    held = bytes([15, 1, 4, 9, 0, 1, 15, 0, 0, 9, 1, 0, 14, 3, 0, 9, 0, 8])
    settings = bytes([14, 4, 0, 4, 0, 9, 15, 4, 1, 0, 0, 0, 15, 4, 0, 1, 1, 0, 14, 4, 1, 0, 0, 0])
    lost = made["open"] + bytes([14, _KINDS - 1, 0, 0, 0, 0]) + made.pop("late")
    return made | {"held": made["begin"] + held, "settings": made["calls"] + settings, "lost": lost}
