"""Two connections that are one, a client's and the backend's: bytes in and bytes out, without sockets.

Invariant: what goes out on each side are whole frames, as they came but for what is held, dropped or made here
(`server.relay.upward` and `downward` say which). ``to_client`` and ``to_backend`` have what is to be written,
``happened`` what the owner is to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.call import Answer, Pass, Refusal
from server.relay import frames, words
from server.relay.calls import Calls, Rules, Sent
from server.relay.downward import Downward
from server.relay.faults import Code, PeerError
from server.relay.held import Event, State
from server.relay.message import framed
from server.relay.upward import Upward

if TYPE_CHECKING:
    from server.call import Decision
    from server.relay.calls import Happening
    from server.relay.frames import Piece


class Pair:
    """One client's connection and the backend's for it.

    ``short``: what is plain goes the short way (`server.relay.plain`); without it the same comes out, later.
    """

    def __init__(self, rules: Rules, *, short: bool = True) -> None:
        self._calls = Calls(rules)
        self._upward = Upward(self._calls, short=short)
        self._downward = Downward(self._calls, self._upward.decoder, short=short)
        self._preface = b""
        self._begun = False
        self._greeted = False

    @property
    def streams(self) -> dict[int, bool]:
        """The calls that are not over, and of each whether it is being decided."""
        return {stream: call.undecided for stream, call in self._calls.streams.items()}

    @property
    def methods(self) -> list[str]:
        """The methods of the calls that are not over."""
        return [call.request.method or "" for call in self._calls.streams.values()]

    @property
    def held(self) -> int:
        """Bytes of DATA that wait here, for decisions or for room."""
        return self._calls.up.connection.held + self._calls.down.connection.held

    @property
    def over(self) -> bool:
        """Whether the client was told to leave, and nothing of its calls is left."""
        calls = self._calls
        return calls.leaving and not calls.streams and not calls.down.queues

    @property
    def lost(self) -> bool:
        """Whether there is no backend."""
        return self._calls.lost is not None

    def from_client(self, data: bytes) -> None:
        """Take what the client has sent. Raises PeerError: then `fail` is to be called."""
        calls, upward = self._calls, self._upward
        calls.began = calls.rules.clock()
        if not self._begun:
            data = self._begin(data)
        upward.cutter.largest = self._downward.takes
        upward.take(data)
        if calls.lost is not None and calls.last:
            calls.leave()

    def from_backend(self, data: bytes) -> None:
        """Take what the backend has sent. Raises PeerError: then `lose` is to be called."""
        downward = self._downward
        self._calls.began = self._calls.rules.clock()
        downward.cutter.largest = self._upward.takes
        downward.take(data)

    def decided(self, stream: int, decision: Decision) -> None:
        """A call that was asked about is decided; too late, if it is over."""
        calls = self._calls
        call = calls.streams.get(stream)
        if call is None or call.state is not State.DECIDING:
            return
        match decision:
            case Pass():
                calls.decided(stream, call, Event.GOES_ON)
            case Answer(response):
                calls.answer(stream, call, words.Status("OK"), framed(response))
            case Refusal(code, message, details):
                calls.answer(stream, call, words.Status(code, message, details))

    def lose(self, reason: str) -> None:
        """There is no backend: answer what only it could, and let the client come again. Decisions are waited for."""
        calls = self._calls
        if calls.lost is not None:
            return
        calls.lost = reason
        if not self._downward.greeted:
            calls.settings_for_client()
        for sent in calls.backend_owes:
            if sent.peers:
                calls.acknowledge(sent)
        calls.backend_owes.clear()
        deciding = any(call.undecided for call in calls.streams.values())
        for stream, call in list(calls.streams.items()):
            if call.undecided:
                continue
            if call.begun and call.request.unary and not deciding:
                # A status in the midst of a message is a bug to clients; the connection's end is what it is.
                calls.abandon(stream, call, "UNAVAILABLE")
            else:
                calls.answer(stream, call, words.Status("UNAVAILABLE", reason))
        calls.up.orphaned()
        if calls.last or calls.closing:
            calls.leave()

    def leave(self) -> None:
        """Take no more calls: the client is told."""
        self._calls.leave()

    def end(self, reason: str) -> None:
        """Answer every call that is not over with UNAVAILABLE."""
        for stream, call in list(self._calls.streams.items()):
            self._calls.answer(stream, call, words.Status("UNAVAILABLE", reason))

    def gone(self) -> None:
        """The client is gone, and its calls are over."""
        for call in self._calls.streams.values():
            self._calls.left(call)
        self._calls.streams.clear()

    def fail(self, error: PeerError) -> None:
        """Tell the client what it has done. Its connection is to be closed then."""
        self._calls.to_client.append(frames.goaway(self._calls.last, error.code, str(error)))

    def taken(self) -> tuple[list[Piece], list[Piece], list[Happening]]:
        """What is to be written to the client and to the backend, and to be done, since the last time."""
        calls = self._calls
        if calls.opened:
            calls.sent()
        to_client, to_backend, happened = calls.to_client, calls.to_backend, calls.happened
        if not self._greeted and to_client:
            self._greeted = True
            if to_client[0][3] != frames.SETTINGS:
                # A server's first frame (RFC 9113, 3.4); the backend's follow it.
                calls.client_owes.appendleft(Sent(peers=False))
                to_client.insert(0, frames.frame(frames.SETTINGS, 0, 0))
        for_client, for_backend = to_client.copy(), to_backend.copy() if calls.lost is None else []
        to_client.clear()
        to_backend.clear()
        calls.happened = []
        return for_client, for_backend, happened

    def _begin(self, data: bytes) -> bytes:
        missing = len(frames.PREFACE) - len(self._preface)
        self._preface += data[:missing]
        if not frames.PREFACE.startswith(self._preface):
            raise PeerError(Code.PROTOCOL_ERROR, "this is not the beginning of HTTP/2 (RFC 9113, 3.4)")
        if len(self._preface) == len(frames.PREFACE):
            self._begun = True
            self._calls.to_backend.append(frames.PREFACE)
        return data[missing:]
