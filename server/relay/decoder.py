"""Header blocks, read beside the peer that they are for (RFC 7541).

The blocks go on as they came, so this table has to be at every moment what that peer's is. What holds:

* the table's size is at most what the encoder has set, which is at most the largest of the limits that it may know;
* a limit counts from its announcement, and is the only one once it was acknowledged: then a table that is larger
  has to be made smaller at the beginning of the next block;
* a block that leaves the table as it was, and does not set its size, means the same until the table changes: it is
  remembered until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from server.relay import huffman
from server.relay.faults import Code, PeerError
from server.relay.integers import HUFFMAN, length, number, resizes
from server.relay.static import STATIC, Field

_T = TypeVar("_T")

#: The table's limit until another one is announced (RFC 9113, 6.5.2), in bytes.
DEFAULT_LIMIT = 4096

#: What an entry counts beside its name and value (RFC 7541, 4.1), in bytes.
_OVERHEAD = 32

#: An index that goes on in the bytes behind it.
_LONG_INDEX = 0xFF

#: The static table's length, and more than any of its entries counts, in bytes; a literal of one byte counts less.
_STATICS, _LARGEST_STATIC = len(STATIC), 128

#: What is remembered: so many blocks of at most so many bytes.
_MEMO_BLOCKS, _MEMO_BYTES = 128, 512

#: The most that the fields of one block may come to, in bytes, as Go's gRPC takes them. A byte can stand for 4 KiB.
MOST_FIELDS = 16 << 20


class Decoder(Generic[_T]):
    """Reads one peer's blocks, in their order. ``parse`` makes of a block's fields what `read` gives.

    ``limit`` is the table's, in bytes; with 0 no block may depend on another.
    """

    def __init__(self, parse: Callable[[tuple[Field, ...]], _T], limit: int = DEFAULT_LIMIT) -> None:
        self._parse = parse
        #: The table, by how many fields were inserted before; and how many were, and how many of them are gone.
        self._entries: dict[int, Field] = {}
        self._inserted = self._oldest = 0
        self._used = 0
        #: What the encoder has set, and what it has agreed to.
        self._size = limit
        self._agreed = limit
        self._announced: deque[int] = deque()
        self._memo: dict[bytes, _T] = {}

    def announced(self, limit: int) -> None:
        """The backend's HEADER_TABLE_SIZE is on its way to the encoder."""
        self._announced.append(limit)

    def acknowledged(self) -> None:
        """The encoder has taken over the oldest limit that was announced."""
        self._agreed = self._announced.popleft()

    def read(self, block: bytes) -> _T:
        """What a block says. Raises PeerError (COMPRESSION_ERROR, or ENHANCE_YOUR_CALM for too much of it)."""
        if self._size > self._agreed and not self._announced and not resizes(block):
            raise PeerError(Code.COMPRESSION_ERROR, "a header table was not made as small as it has to be")
        known = self._memo.get(block)
        if known is not None:
            return known
        fields, changed = self._fields(block)
        parsed = self._parse(fields)
        if changed:
            self._memo.clear()
        elif len(block) <= _MEMO_BYTES and not resizes(block):
            if len(self._memo) >= _MEMO_BLOCKS:
                self._memo.clear()
            self._memo[block] = parsed
        return parsed

    def _fields(self, block: bytes) -> tuple[tuple[Field, ...], bool]:
        fields: list[Field] = []
        at, end, size = 0, len(block), 0
        # A byte stands for an entry of a table at most: of a block that is short enough nothing has to be added up.
        large = end * max(self._size, _LARGEST_STATIC) > MOST_FIELDS
        changed = False
        while at < end:
            byte = block[at]
            if byte & 0x80:
                if byte == _LONG_INDEX:
                    index, at = number(block, at, 0x7F)
                else:
                    index, at = byte & 0x7F, at + 1
                field = self._entry(index)
            elif byte & 0x40:
                field, at = self._literal(block, at, 0x3F)
                changed |= self._insert(field)
            elif byte & 0x20:
                if fields:
                    raise PeerError(Code.COMPRESSION_ERROR, "a header table changes its size within a block")
                limit, at = number(block, at, 0x1F)
                changed |= self._resize(limit)
                continue
            else:
                field, at = self._literal(block, at, 0x0F)
            fields.append(field)
            if large:
                size += len(field[0]) + len(field[1]) + _OVERHEAD
                if size > MOST_FIELDS:
                    text = f"the headers of a request are more than {MOST_FIELDS} bytes"
                    raise PeerError(Code.ENHANCE_YOUR_CALM, text)
        return tuple(fields), changed

    def _entry(self, index: int) -> Field:
        if index > _STATICS:
            # The newest one comes first.
            found = self._entries.get(self._inserted - (index - _STATICS))
            if found is not None:
                return found
        elif index:
            return STATIC[index - 1]
        raise PeerError(Code.COMPRESSION_ERROR, f"a header block refers to {index}, which is in no table")

    def _literal(self, block: bytes, at: int, most: int) -> tuple[Field, int]:
        index = block[at] & most
        if index == most:
            index, at = number(block, at, most)
        else:
            at += 1
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _insert(self, field: Field) -> bool:
        before = len(self._entries)
        self._entries[self._inserted] = field
        self._inserted += 1
        self._used += len(field[0]) + len(field[1]) + _OVERHEAD
        if self._used > self._size:
            self._evict()
        return bool(before or self._entries)

    def _resize(self, size: int) -> bool:
        if size > max(self._agreed, *self._announced, 0):
            raise PeerError(Code.COMPRESSION_ERROR, f"a header table is made larger than allowed: {size} bytes")
        changed = size != self._size
        self._size = size
        self._evict()
        return changed

    def _evict(self) -> None:
        while self._used > self._size:
            name, value = self._entries.pop(self._oldest)
            self._oldest += 1
            self._used -= len(name) + len(value) + _OVERHEAD


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    start, end = length(block, at)
    text = block[start:end]
    return (huffman.decode(text) if block[at] & HUFFMAN else text), end
