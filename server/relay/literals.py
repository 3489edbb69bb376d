"""Own header blocks, which leave no trace in any table (RFC 7541): literals that are never indexed.

A client's answers come from two encoders, the backend's and this one, and some of the backend's are dropped. That
goes well as long as no block depends on another: the backend is told that its table has no room
(HEADER_TABLE_SIZE = 0), and a `Decoder` with a table of that size checks its blocks.
"""

from __future__ import annotations

from collections.abc import Iterable

from server.relay.integers import numbered
from server.relay.static import Field

#: Sets the table's size to 0, as every own block does: it may be the first one after the limit has changed.
EMPTY_TABLE = b"\x20"

_NEVER_INDEXED = b"\x10"


def encode(fields: Iterable[Field]) -> bytes:
    """A block with these fields."""
    pieces = [EMPTY_TABLE]
    for name, value in fields:
        pieces += [_NEVER_INDEXED, numbered(len(name), 0x7F, 0), name, numbered(len(value), 0x7F, 0), value]
    return b"".join(pieces)
