"""As much of an HTTP/2 server as the fake runtime needs: whole unary calls in, ready-made bytes out.

It is not hookshim's own code, which would then be on both sides of what is measured. RFC 9113 where it matters to the
peers: frames, flow control of what is sent, acknowledgements. The window for what is received is as large as can be.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from hpack import Decoder

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20

#: What a peer takes before it has said anything else (section 6.9.2), and the most in one frame (6.5.2).
_WINDOW, _FRAME = 65_535, 16_384
_INITIAL_WINDOW_SIZE = 4
_LARGEST = 2**31 - 1


def _literal(name: bytes, value: bytes) -> bytes:
    """A header that no table remembers, without Huffman (RFC 7541, section 6.2.2); both shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


_STATUS = b"\x88" + _literal(b"content-type", b"application/grpc")
_OK = _literal(b"grpc-status", b"0")

#: Takes a method and a message; gives a body, the number of an error as text, or None: nothing is ever said.
Answer = Callable[[str, bytes], bytes | str | None]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (section 4.1)."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


class Methods:
    """Which method a header block names. What a block says is remembered for as long as the table behind it stands."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._known: dict[bytes, str] = {}

    def of(self, block: bytes) -> str:
        """The ``:path``."""
        if (known := self._known.get(block)) is not None:
            return known
        entries = self._decoder.header_table.dynamic_entries
        before = entries[0] if entries else None
        found = next(value.decode() for name, value, *_ in self._decoder.decode(block, raw=True) if name == b":path")
        if (entries[0] if entries else None) is before:
            self._known[block] = found
        else:
            self._known.clear()
        return found


@dataclass(slots=True)
class _Stream:
    """A call: what has come of it, how much may be sent, and what waits to be sent."""

    method: str
    window: int
    received: bytearray = field(default_factory=bytearray)
    waiting: memoryview = field(default_factory=lambda: memoryview(b""))


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._methods = Methods()
        self._streams: dict[int, _Stream] = {}
        self._buffer = bytearray()
        self._begun = False
        self._block = bytearray()
        self._window, self._stream_window = _WINDOW, _WINDOW
        self._out: list[bytes | memoryview] = []
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what may be sent here: anything."""
        # uvloop's are no asyncio.WriteTransport by class
        self._transport = cast(asyncio.WriteTransport, transport)
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _LARGEST)
        more = struct.pack(">I", _LARGEST - _WINDOW)
        self._transport.write(frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW_UPDATE, 0, 0, more))

    def data_received(self, data: bytes) -> None:
        """Take every whole frame, and answer all at once."""
        self._buffer += data
        if not self._begun:
            if len(self._buffer) < len(_PREFACE):
                return
            self._begun = True
            del self._buffer[: len(_PREFACE)]
        at, end = 0, len(self._buffer)
        while end - at >= 9:
            length = int.from_bytes(self._buffer[at : at + 3], "big")
            if end - at < 9 + length:
                break
            kind, flags = self._buffer[at + 3], self._buffer[at + 4]
            stream = int.from_bytes(self._buffer[at + 5 : at + 9], "big") & _LARGEST
            self._take(kind, flags, stream, bytes(self._buffer[at + 9 : at + 9 + length]))
            at += 9 + length
        del self._buffer[:at]
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in {_HEADERS, _CONTINUATION}:
            self._block += _unpadded(flags, payload) if kind == _HEADERS else payload
            if flags & _END_HEADERS:
                self._streams[stream] = _Stream(self._methods.of(bytes(self._block)), self._stream_window)
                self._block.clear()
        elif kind == _DATA and (call := self._streams.get(stream)) is not None:
            call.received += _unpadded(flags, payload)
            if flags & _END_STREAM:
                self._reply(stream, call)
        elif kind == _WINDOW_UPDATE:
            self._open(stream, int.from_bytes(payload, "big") & _LARGEST)
        elif kind == _RST_STREAM:
            self._streams.pop(stream, None)
        elif kind == _PING and not flags & _ACK:
            self._out.append(frame(_PING, _ACK, 0, payload))
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW_SIZE:
                for call in self._streams.values():
                    call.window += value - self._stream_window
                self._stream_window = value
        self._out.append(frame(_SETTINGS, _ACK, 0))
        self._send()

    def _reply(self, stream: int, call: _Stream) -> None:
        said = self._answer(call.method, bytes(call.received[5:]))
        if said is None:
            return
        if isinstance(said, str):
            trailers = _STATUS + _literal(b"grpc-status", said.encode())
            self._out.append(frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, trailers))
            del self._streams[stream]
            return
        self._out.append(frame(_HEADERS, _END_HEADERS, stream, _STATUS))
        call.waiting = memoryview(said)
        self._push(stream, call)

    def _open(self, stream: int, more: int) -> None:
        if stream == 0:
            self._window += more
            self._send()
        elif (call := self._streams.get(stream)) is not None:
            call.window += more
            if call.waiting:
                self._push(stream, call)

    def _send(self) -> None:
        for stream, call in list(self._streams.items()):
            if call.waiting:
                self._push(stream, call)

    def _push(self, stream: int, call: _Stream) -> None:
        """Send what both windows let go, and the end after it."""
        while call.waiting and (size := min(len(call.waiting), _FRAME, self._window, call.window)) > 0:
            self._out += (struct.pack(">IBI", size << 8 | _DATA, 0, stream), call.waiting[:size])
            call.waiting = call.waiting[size:]
            self._window -= size
            call.window -= size
        if not call.waiting:
            self._out.append(frame(_HEADERS, _END_HEADERS | _END_STREAM, stream, _OK))
            del self._streams[stream]


def _unpadded(flags: int, payload: bytes) -> bytes:
    """What a HEADERS or DATA frame carries, without padding and priority (sections 6.1 and 6.2)."""
    if flags & _PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if flags & _PRIORITY else payload
