"""The short way, for what almost all bytes are: frames of the commonest kinds that go on as they came, in one piece.

Invariant: what it leaves behind, in the ledgers as on the wire, is what the long way (`upward`, `downward`) would
have. At the first frame that is not plain, or not whole, it stops, and the long way takes that one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from server.relay.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LARGEST,
    PADDED,
    PING,
    PREFIX_SIZE,
    PRIORITIZED,
    WINDOW_UPDATE,
)

if TYPE_CHECKING:
    from server.relay.calls import Calls
    from server.relay.frames import Cutter, Piece
    from server.relay.lane import Lane
    from server.relay.request import Request

#: A frame's prefix (its size and its type in one number), and the number that follows in a WINDOW_UPDATE.
_prefix: Final = struct.Struct(">IBI").unpack_from
_number: Final = struct.Struct(">I").unpack_from

#: The flags that say what HEADERS hold beside a block, and whether it is all of it.
_SHAPE: Final = END_HEADERS | PADDED | PRIORITIZED

#: So many bytes take longer to copy than to refer to.
_MANY: Final = 1 << 14

_PING_SIZE: Final = 8
_UPDATE_SIZE: Final = 4


def _part(data: bytes, start: int, end: int) -> Piece:
    """These bytes, not copied if they are many."""
    if end - start == len(data):
        return data
    return data[start:end] if end - start < _MANY else memoryview(data)[start:end]


def _grants(lane: Lane, stream: int, size: int) -> bool:
    """Take a WINDOW_UPDATE for a lane in which nothing waits; False if it is not plain."""
    window = lane.windows.get(stream) if stream else lane.connection
    if window is None or window.held or window.debt or not 0 < size <= LARGEST - window.room:
        return False
    window.room += size
    return True


def upward(  # noqa: C901, PLR0912 - one loop, since a function for each frame costs as much as the rest
    calls: Calls,
    read: Callable[[bytes], Request],
    begins: Callable[[int, Request, bool], bool],
    cutter: Cutter,
    data: bytes,
    at: int,
) -> int:
    """Pass what the client says, from ``at`` on; where that ends. ``cutter`` knows how large a frame may be.

    ``read`` is asked for what every block says, ``begins`` whether the fields of a call go on. Raises what they raise.
    """
    up, down = calls.up, calls.down
    connection = up.connection
    if up.queues or down.queues or connection.debt or calls.detached or calls.closing or calls.lost is not None:
        return at
    start, end, most = at, len(data), cutter.largest
    last = end - PREFIX_SIZE
    try:
        while at <= last:
            word, flags, stream = _prefix(data, at)
            size: int = word >> 8
            after = at + size + PREFIX_SIZE
            if after > end or size > most:
                break
            kind = word & 0xFF
            if kind == HEADERS:
                if not calls.last < stream <= LARGEST or not stream & 1 or flags & _SHAPE != END_HEADERS:
                    break
                if not begins(stream, read(data[at + PREFIX_SIZE : after]), bool(flags & END_STREAM)):
                    calls.to_backend.append(data[start:at])
                    start = at = after
                    break
            elif kind == DATA:
                call = calls.streams.get(stream)
                if call is None or call.sent or call.held or size > connection.room:
                    break
                call.sent = bool(flags & END_STREAM)
                connection.room -= size
                up.windows[stream].room -= size
            elif kind == PING:
                if stream or size != _PING_SIZE or calls.spoken:
                    break
            elif kind == WINDOW_UPDATE:
                if size != _UPDATE_SIZE or stream in calls.backend_ended.streams:
                    break
                if not _grants(down, stream, _number(data, at + PREFIX_SIZE)[0]):
                    break
            else:
                break
            at = after
    finally:
        # Also before a mistake: what was said until then counts.
        if at > start:
            calls.to_backend.append(_part(data, start, at))
    return at


def downward(  # noqa: C901, PLR0912 - as above
    calls: Calls, read: Callable[[bytes], str], cutter: Cutter, data: bytes, at: int
) -> int:
    """Pass what the backend says, from ``at`` on; where that ends. ``cutter`` knows how large a frame may be.

    ``read`` is asked for the status in every block. Raises what it raises.
    """
    up, down = calls.up, calls.down
    connection = down.connection
    if up.queues or down.queues or connection.debt or calls.resize_owed:
        return at
    streams = calls.streams
    start, end, most = at, len(data), cutter.largest
    last = end - PREFIX_SIZE
    try:
        while at <= last:
            word, flags, stream = _prefix(data, at)
            size: int = word >> 8
            after = at + size + PREFIX_SIZE
            if after > end or size > most:
                break
            kind = word & 0xFF
            if kind == HEADERS:
                call = streams.get(stream)
                if call is None or call.held or flags & _SHAPE != END_HEADERS:
                    break
                status = read(data[at + PREFIX_SIZE : after])
                calls.spoken = False
                if flags & END_STREAM:
                    del streams[stream], down.windows[stream]
                    up.windows.pop(stream, None)
                    calls.answered(call, status)
                else:
                    call.begun = True
            elif kind == DATA:
                call = streams.get(stream)
                if call is None or call.held or size > connection.room or flags & END_STREAM:
                    break
                connection.room -= size
                down.windows[stream].room -= size
            elif kind == PING:
                if stream or size != _PING_SIZE:
                    break
            elif kind == WINDOW_UPDATE:
                if size != _UPDATE_SIZE or stream in calls.backend_ended.streams:
                    break
                if not _grants(up, stream, _number(data, at + PREFIX_SIZE)[0]):
                    break
            else:
                break
            at = after
    finally:
        # Also before a mistake: what was said until then counts.
        if at > start:
            calls.to_client.append(_part(data, start, at))
    return at
