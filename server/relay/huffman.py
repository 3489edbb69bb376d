"""Huffman coded strings of HPACK (RFC 7541, 5.2 and Appendix B), decoded a byte at a time.

Invariant: the code is canonical, so that the lengths of its codes are all there is to know. A state is a node of the
code's tree; its row says, for each next byte, which symbols end in it and at which node it leaves off. Rows are made
when they are first needed: a text meets a handful of the 256 nodes.
"""

from __future__ import annotations

from server.relay.faults import Code, PeerError

_LENGTHS = """
    13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 6 10 10 12 13 6
    8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7
    8 13 19 13 14 6 15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 20 22 20 20 22 22 22 23 22
    23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 22 21 20 22 22 23 23 21 23 22 22 24 21 22
    23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26
    27 27 26 27 24 21 21 26 26 28 27 27 27 20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27
    27 28 27 27 27 27 27 26 30
"""

#: The length in bits of each byte's code, the end of a string (EOS) last.
LENGTHS = tuple(int(each) for each in _LENGTHS.split())

_EOS = 256

#: A node: its children, a node or a symbol each, for the bits 0 and 1.
_Tree = list[list[int]]

#: Symbols are told from nodes by this offset.
_SYMBOL = 1 << 16

#: At most so many ones, and nothing else, may be left when a string ends (RFC 7541, 5.2).
_MOST_PADDING = 7

#: The symbols that end within a byte, and the node that is reached; None where EOS would end.
_Step = tuple[bytes, int] | None


def _grow() -> _Tree:
    nodes: _Tree = [[0, 0]]
    code, length = 0, 0
    for symbol in sorted(range(len(LENGTHS)), key=lambda one: (LENGTHS[one], one)):
        code <<= LENGTHS[symbol] - length
        length = LENGTHS[symbol]
        at = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not nodes[at][bit]:
                nodes.append([0, 0])
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        nodes[at][code & 1] = _SYMBOL + symbol
        code += 1
    return nodes


_NODES = _grow()
_ROWS: list[list[_Step] | None] = [None] * len(_NODES)


def _padding() -> frozenset[int]:
    at, found = 0, {0}
    for _ in range(_MOST_PADDING):
        at = _NODES[at][1]
        found.add(at)
    return frozenset(found)


_ENDS = _padding()


def _step(at: int, byte: int) -> _Step:
    symbols = bytearray()
    for place in range(7, -1, -1):
        at = _NODES[at][byte >> place & 1]
        if at >= _SYMBOL:
            if at == _SYMBOL + _EOS:
                return None
            symbols.append(at - _SYMBOL)
            at = 0
    return bytes(symbols), at


def decode(text: bytes) -> bytes:
    """The string that was coded. Raises PeerError (COMPRESSION_ERROR)."""
    at, pieces = 0, []
    for byte in text:
        row = _ROWS[at]
        if row is None:
            row = _ROWS[at] = [_step(at, each) for each in range(256)]
        step = row[byte]
        if step is None:
            raise PeerError(Code.COMPRESSION_ERROR, "a Huffman coded string holds EOS")
        pieces.append(step[0])
        at = step[1]
    if at not in _ENDS:
        raise PeerError(Code.COMPRESSION_ERROR, "a Huffman coded string is padded wrongly")
    return b"".join(pieces)
