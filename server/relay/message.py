"""gRPC's messages in DATA (gRPC over HTTP/2, "Length-Prefixed-Message"): a flag, a length, the message.

Only the first message of a stream is read: intercepted methods are unary. One that is compressed is unpacked for the
decision, and goes on as it came; one that cannot be read is refused, as it must not go past a hook.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TypeAlias

_PREFIX: Final = 5

#: The largest message that is held for a decision, packed or not, in bytes. containerd takes 16 MiB.
MOST_MESSAGE: Final = 32 << 20

#: Both of zlib's formats, told from each other by their first bytes (zlib.net, ``inflateInit2``).
_ANY_FORMAT: Final = 47

_PACKED = frozenset({b"gzip", b"deflate"})


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a message is refused: the name of a gRPC status code, and a text."""

    code: str
    message: str


#: A message, why there is none, or None while it is not all there.
Read: TypeAlias = "bytes | Unreadable | None"


class Reader:
    """Reads the first message of a stream, whose ``grpc-encoding`` is given, empty without one."""

    def __init__(self, encoding: bytes) -> None:
        self._encoding = encoding
        self._pieces: list[bytes] = []
        self._have = 0

    def feed(self, data: bytes) -> Read:
        """What there is after these DATA. Not to be called again once it was more than None."""
        self._pieces.append(data)
        self._have += len(data)
        if self._have < _PREFIX:
            return None
        if len(self._pieces[0]) < _PREFIX:
            self._pieces = [b"".join(self._pieces)]
        first = self._pieces[0]
        size = int.from_bytes(first[1:_PREFIX])
        if size > MOST_MESSAGE:
            return Unreadable("RESOURCE_EXHAUSTED", f"hookshim reads messages of {MOST_MESSAGE} bytes, not of {size}")
        if self._have < _PREFIX + size:
            return None
        message = b"".join(self._pieces)[_PREFIX : _PREFIX + size]
        return message if first[0] == 0 else self._unpacked(first[0], message)

    def _unpacked(self, flag: int, message: bytes) -> Read:
        if flag != 1 or self._encoding in {b"", b"identity"}:
            return Unreadable("INTERNAL", f"a message has the flag {flag}, but its call names no compression")
        if self._encoding not in _PACKED:
            name = self._encoding.decode(errors="replace")
            return Unreadable(
                "UNIMPLEMENTED", f"hookshim cannot read messages compressed with {name}: use gzip or none"
            )
        try:
            unpacking = zlib.decompressobj(_ANY_FORMAT)
            unpacked = unpacking.decompress(message, MOST_MESSAGE + 1)
        except zlib.error as error:
            return Unreadable("INTERNAL", f"a compressed message cannot be read: {error}")
        if len(unpacked) > MOST_MESSAGE:
            return Unreadable("RESOURCE_EXHAUSTED", f"hookshim reads messages of {MOST_MESSAGE} bytes, not of more")
        if not unpacking.eof:
            return Unreadable("INTERNAL", "a compressed message is cut off")
        return unpacked


def framed(message: bytes) -> bytes:
    """A message as it is in DATA, not compressed."""
    return b"\0" + len(message).to_bytes(4) + message
