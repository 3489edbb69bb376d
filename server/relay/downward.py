"""What the backend says: its frames, each to be passed on, held for room, or dropped because its stream is over.

Invariant: every block that the client gets can be read with an empty table. The backend was told to keep none; one
that disobeys has broken its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from server.relay import frames, literals, plain, request, settings
from server.relay.calls import Calls, Sent, granted
from server.relay.decoder import Decoder
from server.relay.faults import Code, PeerError
from server.relay.frames import Cutter, Frame
from server.relay.held import State
from server.relay.integers import resizes

if TYPE_CHECKING:
    from server.relay.request import Request

#: The status that a client makes of a stream that was reset (gRPC over HTTP/2, "Errors").
_STATUSES: dict[int, str] = {
    Code.REFUSED_STREAM: "UNAVAILABLE",
    Code.CANCEL: "CANCELLED",
    Code.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
}


class Downward:
    """Reads the backend's frames, from the first one. ``decoder`` is told how large its table may be.

    ``short``: take the short way where it can be taken.
    """

    def __init__(self, calls: Calls, decoder: Decoder[Request], *, short: bool) -> None:
        self._calls = calls
        self._decoder = decoder
        self._statuses = Decoder(request.status, 0)
        self.cutter = Cutter()
        self._passes = partial(plain.downward, calls, self._statuses.read, self.cutter) if short else None
        #: The largest frame that the backend takes, in bytes.
        self.takes = frames.DEFAULT_SIZE
        self.greeted = False
        self._ways: dict[int, Callable[[Frame], None]] = {
            frames.HEADERS: self._headers,
            frames.DATA: self._data,
            frames.WINDOW_UPDATE: self._grants,
            frames.SETTINGS: self._settings,
            frames.RST_STREAM: self._reset,
            frames.GOAWAY: self._leaves,
        }

    def take(self, data: bytes) -> None:
        """Take what has come. Raises PeerError."""
        ways, other = self._ways, self._other
        for frame in self.cutter.feed(data):
            if not self.greeted:
                if frame.kind != frames.SETTINGS or frame.flags & frames.ACK:
                    raise PeerError(Code.PROTOCOL_ERROR, "its connection does not begin with settings")
                self.greeted = True
                self.cutter.passes = self._passes
            ways.get(frame.kind, other)(frame)

    def _other(self, frame: Frame) -> None:
        self._calls.to_client.append(frame.raw)

    def _headers(self, frame: Frame) -> None:
        calls, stream, block = self._calls, frame.stream, frame.block
        status = self._statuses.read(block)
        if stream in calls.backend_ended.streams:
            calls.resize_owed = calls.resize_owed or resizes(block)
            return
        raw, end = frame.raw, bool(frame.flags & frames.END_STREAM)
        if calls.resize_owed:
            calls.resize_owed = False
            raw = frames.headers(stream, literals.EMPTY_TABLE + block, end=end)
        calls.down.frames(stream, raw)
        calls.spoken = False
        if end:
            self._ends(stream, status)
        elif (call := calls.streams.get(stream)) is not None:
            call.begun = True

    def _data(self, frame: Frame) -> None:
        if frame.stream in self._calls.backend_ended.streams:
            self._calls.down.swallow(frame)
            return
        self._calls.down.data(frame)
        if frame.flags & frames.END_STREAM:
            self._ends(frame.stream, "UNKNOWN")

    def _grants(self, frame: Frame) -> None:
        granted(self._calls.up, frame, unknown=frame.stream in self._calls.backend_ended.streams)

    def _settings(self, frame: Frame) -> None:
        calls = self._calls
        if frame.flags & frames.ACK:
            if not calls.backend_owes:
                raise PeerError(Code.PROTOCOL_ERROR, "it acknowledges settings that nobody has sent")
            sent = calls.backend_owes.popleft()
            if sent.peers:
                calls.to_client.append(frame.raw)
            else:
                calls.backend_ended.acknowledged()
            # The client wants to see its table made smaller; the backend has done that before.
            calls.resize_owed = calls.resize_owed or sent.table
            if sent.window is not None:
                calls.down.resized(sent.window)
            return
        found = settings.read(frame.payload)
        self.takes = max(self.takes, found.get(settings.MAX_FRAME_SIZE, 0))
        table = found.get(settings.HEADER_TABLE_SIZE)
        if table is not None:
            self._decoder.announced(table)
        calls.client_owes.append(
            Sent(peers=True, table=table is not None, window=found.get(settings.INITIAL_WINDOW_SIZE))
        )
        calls.to_client.append(frame.raw)

    def _reset(self, frame: Frame) -> None:
        if frame.stream not in self._calls.backend_ended.streams:
            self._calls.down.frames(frame.stream, frame.raw)
            self._ends(frame.stream, _STATUSES.get(frame.number, "INTERNAL"), reset=True)
            # Also when it has ended the call before: what is held of the request is not wanted.
            self._calls.up.drop(frame.stream)

    def _ends(self, stream: int, status: str, *, reset: bool = False) -> None:
        calls = self._calls
        call = calls.streams.pop(stream, None)
        if call is None:
            return
        calls.answered(call, status)
        calls.down.finish(stream)
        if call.undecided:
            # As when its deadline has passed: the answer goes on, and what is held does not.
            calls.gone(stream, call)
            calls.up.drop(stream)
            if not reset:
                calls.to_backend.append(frames.reset(stream, Code.CANCEL))
        elif reset:
            calls.up.drop(stream)
        else:
            calls.up.finish(stream)

    def _leaves(self, frame: Frame) -> None:
        """GOAWAY: the calls after the last stream that it names were not served, and the client may make them again.

        Not those that are being decided, which may have begun: they are answered here, whatever is decided.
        """
        calls = self._calls
        last = int.from_bytes(frame.payload[:4]) & frames.LARGEST
        calls.served = min(calls.served, last)
        told = calls.told(last)
        if not calls.leaving:
            code_and_text = frame.payload[4:]
            calls.to_client.append(frames.frame(frames.GOAWAY, 0, 0, told.to_bytes(4) + code_and_text))
        for stream, call in list(calls.streams.items()):
            if stream <= last:
                continue
            call.known = False
            if call.state is State.DECIDING:
                continue
            del calls.streams[stream]
            calls.over(call, "UNAVAILABLE")
            if call.undecided:
                calls.gone(stream, call)
            calls.up.drop(stream)
            calls.down.drop(stream)
            if stream < told or calls.leaving:
                calls.to_client.append(frames.reset(stream, Code.REFUSED_STREAM))
