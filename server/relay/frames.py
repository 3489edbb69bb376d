"""HTTP/2 frames (RFC 9113, 4 and 6): cut out of a stream of bytes, checked, and made.

Invariant: what `Cutter` gives does not depend on how its bytes were cut when they came. Each frame is whole, HEADERS
with all their CONTINUATION being one: nothing can be written in between.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from server.relay.faults import Code, PeerError

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITIZED: Final = 0x20

#: What a client's connection begins with (RFC 9113, 3.4).
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: The largest payload until a peer allows more, and the largest it can allow, in bytes (RFC 9113, 4.2).
DEFAULT_SIZE: Final = 1 << 14
LARGEST_SIZE: Final = (1 << 24) - 1

#: The largest stream id, window and increment.
LARGEST: Final = (1 << 31) - 1

#: The most that HEADERS and their CONTINUATION may come to, in bytes: as much as Go's gRPC takes.
MOST_BLOCK: Final = 16 << 20

_PREFIX = struct.Struct(">HBBBI")
PREFIX_SIZE: Final = _PREFIX.size
_NUMBER = struct.Struct(">I")

#: Reads a prefix: the size's first two bytes and its third, type, flags, stream (with a bit that means nothing).
_unpack = _PREFIX.unpack_from

#: The sizes that frames of some types must have.
_SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}

#: Types of a connection's frames, and of a stream's; a WINDOW_UPDATE may be either.
_OF_CONNECTION = frozenset({SETTINGS, PING, GOAWAY})
_OF_STREAM = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION})

_WITH_FIELDS = frozenset({HEADERS, CONTINUATION})


class Frame(NamedTuple):
    """A frame: ``raw`` is all of its bytes, ``block`` those of its fields, without padding and priority."""

    kind: int
    flags: int
    stream: int
    raw: bytes
    block: bytes = b""

    @property
    def payload(self) -> bytes:
        """What follows the frame's prefix."""
        return self.raw[PREFIX_SIZE:]

    @property
    def data(self) -> bytes:
        """What DATA carry, without padding. Raises PeerError (PROTOCOL_ERROR)."""
        return _unpadded(self.payload) if self.flags & PADDED else self.payload

    @property
    def number(self) -> int:
        """The number that RST_STREAM (its code) and WINDOW_UPDATE (its increment) consist of."""
        found: int = _NUMBER.unpack_from(self.raw, PREFIX_SIZE)[0]
        return found & LARGEST


#: Some of what is to be written.
Piece: TypeAlias = "bytes | memoryview"

#: Takes what it can of whole frames in these bytes, from this place on; says where it stopped.
Passes = Callable[[bytes, int], int]


class Cutter:
    """Cuts what one peer sends into frames."""

    def __init__(self) -> None:
        #: Is asked first wherever a frame begins: what it takes is not given here.
        self.passes: Passes | None = None
        #: The largest payload that the peer may send, in bytes.
        self.largest = DEFAULT_SIZE
        #: Of a frame, or of its prefix, that is not whole: what has come, how much that is, and how much is needed.
        self._rest: list[bytes] = []
        self._have = self._need = 0
        self._opened: list[Frame] = []
        self._opened_size = 0

    def feed(self, data: bytes) -> Iterable[Frame]:
        """The frames that are whole now. Raises PeerError at the first that breaks the rules."""
        at = 0
        if self.passes is not None and not self._rest and not self._opened:
            at = self.passes(data, 0)
            if at == len(data):
                return ()
        return self._cut(data, at)

    def _cut(self, data: bytes, at: int) -> Iterator[Frame]:
        while self._rest:
            # Only what completes a frame is joined to it: what has come behind it is not copied.
            begun, at = self._joined(data, at)
            if begun is None:
                return
            yield from self._whole(begun, 0)
        yield from self._whole(data, at)

    def _whole(self, data: bytes, at: int) -> Iterator[Frame]:
        """The frames from ``at`` on that are whole; the bytes behind them are kept."""
        end = len(data)
        self._need = PREFIX_SIZE
        try:
            while True:
                if self.passes is not None and not self._opened:
                    at = self.passes(data, at)
                if end - at < PREFIX_SIZE:
                    break
                high, low, kind, flags, stream = _unpack(data, at)
                stream &= LARGEST
                size = high << 8 | low
                self._check(kind, flags, stream, size)
                if size + PREFIX_SIZE > end - at:
                    self._need = size + PREFIX_SIZE
                    break
                frame = Frame(kind, flags, stream, data[at : at + PREFIX_SIZE + size])
                at += PREFIX_SIZE + size
                if kind not in _WITH_FIELDS:
                    yield frame
                elif (whole := self._opening(frame)) is not None:
                    yield whole
        finally:
            if at < end:
                self._rest.append(data[at:])
                self._have = end - at

    def _joined(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """What has begun, as far as is known to be needed, once it has come; and where the rest of ``data`` begins.

        Not joined for every piece: a frame may have 16 MiB.
        """
        missing = self._need - self._have
        self._rest.append(data[at : at + missing])
        if len(data) - at < missing:
            self._have += len(data) - at
            return None, len(data)
        joined = b"".join(self._rest)
        self._rest.clear()
        return joined, at + missing

    def _check(self, kind: int, flags: int, stream: int, size: int) -> None:
        if self._opened:
            if kind != CONTINUATION or stream != self._opened[0].stream:
                raise PeerError(Code.PROTOCOL_ERROR, "a header block is interrupted by another frame")
        elif kind == CONTINUATION:
            raise PeerError(Code.PROTOCOL_ERROR, "a header block is continued that was not begun")
        if size > self.largest:
            raise PeerError(Code.FRAME_SIZE_ERROR, f"a frame has {size} bytes, more than the {self.largest} allowed")
        if (kind in _OF_STREAM and not stream) or (kind in _OF_CONNECTION and stream):
            raise PeerError(Code.PROTOCOL_ERROR, f"a frame of type {kind} is on stream {stream}")
        if kind == PUSH_PROMISE:
            raise PeerError(Code.PROTOCOL_ERROR, "a push was promised, which nobody allows here")
        if size != _SIZES.get(kind, size) or (kind == GOAWAY and size < 8):  # noqa: PLR2004 - its two numbers
            raise PeerError(Code.FRAME_SIZE_ERROR, f"a frame of type {kind} has {size} bytes")
        if kind == SETTINGS and (size % 6 or (flags & ACK and size)):
            raise PeerError(Code.FRAME_SIZE_ERROR, f"settings have {size} bytes")

    def _opening(self, frame: Frame) -> Frame | None:
        if not self._opened and frame.flags & END_HEADERS:
            return frame._replace(block=_block(frame))
        self._opened.append(frame)
        self._opened_size += len(frame.raw)
        if self._opened_size > MOST_BLOCK:
            raise PeerError(Code.ENHANCE_YOUR_CALM, f"a header block has more than {MOST_BLOCK} bytes")
        if not frame.flags & END_HEADERS:
            return None
        first, *more = self._opened
        self._opened, self._opened_size = [], 0
        block = b"".join([_block(first), *(one.payload for one in more)])
        return Frame(
            HEADERS, first.flags | END_HEADERS, first.stream, b"".join([first.raw, *(o.raw for o in more)]), block
        )


def _block(frame: Frame) -> bytes:
    payload = frame.data
    if not frame.flags & PRIORITIZED:
        return payload
    if len(payload) < 5:  # noqa: PLR2004 - a dependency and a weight
        raise PeerError(Code.FRAME_SIZE_ERROR, "headers are too short for their priority")
    return payload[5:]


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise PeerError(Code.PROTOCOL_ERROR, "a frame is shorter than its padding")
    return payload[1 : len(payload) - payload[0]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    size = len(payload)
    return _PREFIX.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def headers(stream: int, block: bytes, *, end: bool) -> bytes:
    """HEADERS, and CONTINUATION where the block is larger than every peer takes in one frame."""
    pieces = [block[at : at + DEFAULT_SIZE] for at in range(0, len(block), DEFAULT_SIZE)] or [b""]
    last = len(pieces) - 1
    made = []
    for number, piece in enumerate(pieces):
        flags = (END_HEADERS if number == last else 0) | (END_STREAM if end and not number else 0)
        made.append(frame(CONTINUATION if number else HEADERS, flags, stream, piece))
    return b"".join(made)


def reset(stream: int, code: Code) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE, of the connection for stream 0."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def goaway(last: int, code: Code, text: str = "") -> bytes:
    """GOAWAY: ``last`` is the last stream that is being served; the text is for whoever debugs the client."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4) + code.to_bytes(4) + text.encode())
