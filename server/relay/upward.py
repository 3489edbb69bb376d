"""What the client says: its frames, each to be passed on, held, answered here, or an error.

Invariant: every request's fields reach the backend in their order, or, once some were kept back, in a form of our own
that needs no table; and every block is decoded, so that the next one can be.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from server.front.methods import unimplemented_text
from server.relay import frames, literals, plain, settings, words
from server.relay.calls import Ask, Calls, Sent, Stream, granted
from server.relay.decoder import Decoder
from server.relay.faults import Code, PeerError
from server.relay.frames import Cutter, Frame
from server.relay.held import Event, State, after
from server.relay.message import MOST_MESSAGE, Reader, Unreadable
from server.relay.request import Request, parse

#: The most that is held for all decisions of a connection, in bytes.
MOST_HELD: Final = 4 * MOST_MESSAGE

#: The client's SETTINGS as the backend is to have them.
rewritten = settings.without_table


class Upward:
    """Reads the client's frames, from the first one. ``short``: take the short way where it can be taken."""

    def __init__(self, calls: Calls, *, short: bool) -> None:
        self._calls = calls
        self.cutter = Cutter()
        self.decoder = Decoder(parse)
        self._passes = partial(plain.upward, calls, self.decoder.read, self._begins, self.cutter) if short else None
        #: The largest frame that the client takes, in bytes.
        self.takes = frames.DEFAULT_SIZE
        self._greeted = False
        self._ways = {
            frames.HEADERS: self._headers,
            frames.DATA: self._data,
            frames.WINDOW_UPDATE: self._grants,
            frames.SETTINGS: self._settings,
            frames.RST_STREAM: self._reset,
            frames.PING: self._ping,
        }

    def take(self, data: bytes) -> None:
        """Take what has come. Raises PeerError."""
        ways, other = self._ways, self._other
        for frame in self.cutter.feed(data):
            if not self._greeted:
                if frame.kind != frames.SETTINGS or frame.flags & frames.ACK:
                    raise PeerError(Code.PROTOCOL_ERROR, "a connection does not begin with settings (RFC 9113, 3.4)")
                self._greeted = True
                self.cutter.passes = self._passes
            ways.get(frame.kind, other)(frame)

    def _other(self, frame: Frame) -> None:
        self._calls.to_backend.append(frame.raw)

    def _headers(self, frame: Frame) -> None:
        calls, stream = self._calls, frame.stream
        request = self.decoder.read(frame.block)
        if stream <= calls.last:
            self._trailers(frame, request)
            return
        if not stream % 2:
            raise PeerError(Code.PROTOCOL_ERROR, f"a client begins stream {stream} (RFC 9113, 5.1.1)")
        if calls.closing:
            # Not served, and the client knows it by GOAWAY: it makes the call elsewhere.
            calls.detached = True
            return
        if self._begins(stream, request, bool(frame.flags & frames.END_STREAM)):
            self._forward(frame, request)

    def _begins(self, stream: int, request: Request, sent: bool) -> bool:  # noqa: FBT001 - called for each call
        """A call begins; whether its fields are to go on."""
        calls = self._calls
        calls.last = stream
        call = Stream(request, sent, calls.began)
        held = not sent and request.method in calls.rules.methods
        reason = calls.rules.closed()
        if reason is not None or not request.forwarded or (calls.lost is not None and not held):
            self._refuse(stream, call, reason)
            return False
        calls.streams[stream] = call
        calls.opened.append(call)
        calls.down.track(stream)
        if not sent:
            calls.up.track(stream)
        if held:
            call.held, call.state, call.reader = True, State.RECEIVING, Reader(request.encoding)
            calls.up.hold(stream)
            call.known = calls.lost is None
        return True

    def _refuse(self, stream: int, call: Stream, closed: str | None) -> None:
        """Answer a call here, without anybody being asked."""
        calls, method = self._calls, call.request.method
        calls.detached, call.known = True, False
        if method is None:
            calls.reset(stream, call, Code.PROTOCOL_ERROR)
        elif closed is not None:
            calls.answer(stream, call, words.Status("UNAVAILABLE", closed))
            # The next calls come on a connection of which the backend knows everything.
            calls.leave()
        elif not call.request.forwarded:
            calls.answer(stream, call, words.Status("UNIMPLEMENTED", unimplemented_text(method)))
        else:
            calls.answer(stream, call, words.Status("UNAVAILABLE", calls.lost or ""))

    def _forward(self, frame: Frame, request: Request) -> None:
        raw = frame.raw
        if self._calls.detached:
            block = literals.encode(request.fields)
            raw = frames.headers(frame.stream, block, end=bool(frame.flags & frames.END_STREAM))
        self._calls.to_backend.append(raw)

    def _trailers(self, frame: Frame, request: Request) -> None:
        """Fields at the end of a request, which gRPC does not have: not to be mixed up with what is held."""
        calls, stream = self._calls, frame.stream
        call = calls.streams.get(stream)
        if call is not None and not call.sent and not call.undecided and stream not in calls.up.queues:
            call.sent = bool(frame.flags & frames.END_STREAM)
            self._forward(frame, request)
            return
        calls.detached = True
        if call is not None:
            calls.reset(stream, call, Code.STREAM_CLOSED if call.sent else Code.PROTOCOL_ERROR)
        elif stream not in calls.client_ended.streams:
            raise PeerError(Code.STREAM_CLOSED, f"stream {stream} is over, and begins again (RFC 9113, 5.1.1)")

    def _data(self, frame: Frame) -> None:
        calls, stream = self._calls, frame.stream
        call = calls.streams.get(stream)
        if call is None:
            self._late(frame)
            return
        if call.sent:
            calls.reset(stream, call, Code.STREAM_CLOSED)
            calls.up.swallow(frame)
            return
        call.sent = bool(frame.flags & frames.END_STREAM)
        calls.up.data(frame)
        if call.undecided:
            self._hold(frame, call)

    def _late(self, frame: Frame) -> None:
        calls, stream = self._calls, frame.stream
        if stream > calls.last and not calls.closing:
            raise PeerError(Code.PROTOCOL_ERROR, f"stream {stream} has data before it began (RFC 9113, 5.1)")
        if stream > calls.last or stream in calls.client_ended.streams or calls.lost is not None:
            calls.up.swallow(frame)
        else:
            calls.up.data(frame)

    def _hold(self, frame: Frame, call: Stream) -> None:
        calls, stream = self._calls, frame.stream
        if calls.up.connection.held > MOST_HELD or calls.up.held(stream) > MOST_MESSAGE + frames.DEFAULT_SIZE:
            text = "hookshim holds no more than it does of requests that are being decided; try again"
            calls.answer(stream, call, words.Status("RESOURCE_EXHAUSTED", text))
            return
        if call.reader is not None:
            read = call.reader.feed(frame.data)
            if isinstance(read, Unreadable):
                calls.answer(stream, call, words.Status(read.code, read.message))
                return
            if read is not None:
                call.state, call.reader = after(call.state, Event.WHOLE), None
                calls.happened.append(Ask(stream, call.request, read, call.arrived))
            elif call.sent:
                # The backend says what is wrong with it, in its own words.
                calls.decided(stream, call, Event.NO_MESSAGE)
                return
        calls.up.lend(stream)

    def _grants(self, frame: Frame) -> None:
        calls, stream = self._calls, frame.stream
        if stream > calls.last and not calls.closing:
            raise PeerError(Code.PROTOCOL_ERROR, f"stream {stream} has a window before it began (RFC 9113, 5.1)")
        granted(calls.down, frame, unknown=stream in calls.backend_ended.streams or stream > calls.last)

    def _settings(self, frame: Frame) -> None:
        calls = self._calls
        if frame.flags & frames.ACK:
            self._acknowledged(frame)
            return
        found = settings.read(frame.payload)
        sent = Sent(
            peers=True, table=settings.HEADER_TABLE_SIZE in found, window=found.get(settings.INITIAL_WINDOW_SIZE)
        )
        self.takes = max(self.takes, found.get(settings.MAX_FRAME_SIZE, 0))
        if calls.lost is None:
            calls.backend_owes.append(sent)
            calls.to_backend.append(frames.frame(frames.SETTINGS, 0, 0, rewritten(frame.payload)))
        else:
            calls.acknowledge(sent)

    def _acknowledged(self, frame: Frame) -> None:
        calls = self._calls
        if not calls.client_owes:
            raise PeerError(Code.PROTOCOL_ERROR, "settings are acknowledged that nobody has sent")
        sent = calls.client_owes.popleft()
        if sent.table:
            self.decoder.acknowledged()
        if sent.peers:
            calls.to_backend.append(frame.raw)
        else:
            calls.client_ended.acknowledged()
        # What may go now goes behind the acknowledgement.
        if sent.window is not None:
            calls.up.resized(sent.window)

    def _reset(self, frame: Frame) -> None:
        calls, stream = self._calls, frame.stream
        if stream > calls.last:
            if calls.closing:
                return
            raise PeerError(Code.PROTOCOL_ERROR, f"stream {stream} is reset before it began (RFC 9113, 5.1)")
        call = calls.streams.pop(stream, None)
        calls.down.drop(stream)
        if call is not None:
            if call.undecided:
                calls.gone(stream, call)
            calls.left(call)
        # Also when the call is over: its answer may be whole before its request is.
        calls.up.drop(stream)
        if stream not in calls.client_ended.streams and stream not in calls.backend_ended.streams:
            calls.to_backend.append(frame.raw)

    def _ping(self, frame: Frame) -> None:
        calls, question = self._calls, not frame.flags & frames.ACK
        if question and (calls.spoken or calls.lost is not None):
            calls.spoken = False
            calls.to_client.append(frames.frame(frames.PING, frames.ACK, 0, frame.payload))
        elif calls.lost is None:
            calls.to_backend.append(frame.raw)
