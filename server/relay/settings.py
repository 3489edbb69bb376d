"""SETTINGS (RFC 9113, 6.5): what the relay has to know of both peers', and the one that it sets itself."""

from __future__ import annotations

import struct
from typing import Final

from server.relay import frames
from server.relay.faults import Code, PeerError

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5

#: The window of a stream, and of a connection, until it is set (RFC 9113, 6.9.2), in bytes.
DEFAULT_WINDOW: Final = 65535

_PAIR = struct.Struct(">HI")

#: What a value may be, and what it is otherwise.
_RANGES = {
    ENABLE_PUSH: (0, 1, Code.PROTOCOL_ERROR),
    INITIAL_WINDOW_SIZE: (0, frames.LARGEST, Code.FLOW_CONTROL_ERROR),
    MAX_FRAME_SIZE: (frames.DEFAULT_SIZE, frames.LARGEST_SIZE, Code.PROTOCOL_ERROR),
}


def read(payload: bytes) -> dict[int, int]:
    """The settings in a frame; of one that is there twice the last. Raises PeerError."""
    found: dict[int, int] = {}
    for name, value in _PAIR.iter_unpack(payload):
        least, most, code = _RANGES.get(name, (0, value, Code.NO_ERROR))
        if not least <= value <= most:
            raise PeerError(code, f"setting {name} cannot be {value}")
        found[name] = value
    return found


def without_table(payload: bytes) -> bytes:
    """A client's SETTINGS as the backend is to have them: it shall keep no header table."""
    pairs = [pair for pair in _PAIR.iter_unpack(payload) if pair[0] != HEADER_TABLE_SIZE]
    return b"".join(_PAIR.pack(*pair) for pair in [(HEADER_TABLE_SIZE, 0), *pairs])
