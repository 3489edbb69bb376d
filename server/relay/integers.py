"""Numbers and strings of HPACK (RFC 7541, 5.1 and 5.2), as both its readers need them."""

from __future__ import annotations

from server.relay.faults import Code, PeerError

#: Bytes that a number may go on for: what follows a prefix of 2³² and more means nothing here.
_MOST_BYTES = 5

#: The first bits of a block's part that sets the table's size (RFC 7541, 6.3).
_RESIZE_MASK, _RESIZE = 0xE0, 0x20

#: What a byte that is not a number's last says, and the bits that count.
_MORE, _SEVEN_BITS = 0x80, 0x7F

#: The first byte of a string: whether it is Huffman coded.
HUFFMAN = 0x80


def resizes(block: bytes, at: int = 0) -> bool:
    """Whether the table's size is set there."""
    return at < len(block) and block[at] & _RESIZE_MASK == _RESIZE


def number(block: bytes, at: int, most: int) -> tuple[int, int]:
    """The number whose first byte is at ``at``, with ``most`` as its prefix's mask, and where the next thing begins.

    Raises PeerError (COMPRESSION_ERROR).
    """
    if at >= len(block):
        raise PeerError(Code.COMPRESSION_ERROR, "a header block is cut off in a number")
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for place, byte in enumerate(block[at : at + _MOST_BYTES]):
        value += (byte & _SEVEN_BITS) << 7 * place
        if not byte & _MORE:
            return value, at + place + 1
    raise PeerError(Code.COMPRESSION_ERROR, "a number in a header block has no end")


def length(block: bytes, at: int) -> tuple[int, int]:
    """Where the string at ``at`` begins and ends, its length aside. Raises PeerError (COMPRESSION_ERROR)."""
    if at < len(block) and block[at] & _SEVEN_BITS < _SEVEN_BITS:
        size, start = block[at] & _SEVEN_BITS, at + 1
    else:
        size, start = number(block, at, _SEVEN_BITS)
    if start + size > len(block):
        raise PeerError(Code.COMPRESSION_ERROR, "a header block is cut off in a string")
    return start, start + size


def numbered(value: int, most: int, pattern: int) -> bytes:
    """A number with ``most`` as its prefix's mask, and ``pattern`` in the bits above."""
    if value < most:
        return bytes([pattern | value])
    value -= most
    written = bytearray([pattern | most])
    while value > _SEVEN_BITS:
        written.append(_MORE | value & _SEVEN_BITS)
        value >>= 7
    written.append(value)
    return bytes(written)
