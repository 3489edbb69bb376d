"""What ends a connection: a peer that breaks HTTP/2, and the code that it is told with (RFC 9113, 7)."""

from __future__ import annotations

from enum import IntEnum

from shim.errors import HookshimError


class Code(IntEnum):
    """The error codes of RST_STREAM and GOAWAY frames."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class PeerError(HookshimError):
    """A peer has broken the rules of its connection, which ends with ``code``; the message says how."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
