"""The windows of both connections, counted beside the relay: what it says of them has to be what its peers know.

All numbers are bytes, and the connections' alone: those of streams go the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.relay import frames
from server.relay.pair import Pair
from server.relay.settings import DEFAULT_WINDOW
from server.relay.window import LEND


@dataclass(slots=True)
class _Said:
    """What one side has said: DATA, and window that it has granted; and the beginning of a frame that is not whole."""

    data: int = 0
    granted: int = 0
    rest: bytes = b""

    def enter(self, text: bytes) -> None:
        """It says more."""
        text, at = self.rest + text, 0
        while len(text) - at >= frames.PREFIX_SIZE:
            size = int.from_bytes(text[at : at + 3])
            if len(text) - at < frames.PREFIX_SIZE + size:
                break
            stream = int.from_bytes(text[at + 5 : at + 9]) & frames.LARGEST
            if text[at + 3] == frames.DATA:
                self.data += size
            elif text[at + 3] == frames.WINDOW_UPDATE and not stream:
                self.granted += int.from_bytes(text[at + 9 : at + 13]) & frames.LARGEST
            at += frames.PREFIX_SIZE + size
        self.rest = text[at:]


class Books:
    """What was said on both connections."""

    def __init__(self) -> None:
        self._client, self._backend, self._to_client, self._to_backend = _Said(), _Said(), _Said(), _Said()
        #: What of the preface is still to come, on its way here and on its way there.
        self._greeting = {True: len(frames.PREFACE), False: len(frames.PREFACE)}

    def enter(self, text: bytes, to_client: bytes, to_backend: bytes, *, client: bool) -> None:
        """The client has said something, or the backend, and that came of it."""
        if client:
            self._client.enter(self._greeted(text, here=True))
        else:
            self._backend.enter(text)
        self._to_client.enter(to_client)
        self._to_backend.enter(self._greeted(to_backend, here=False))

    def agree(self, pair: Pair) -> None:
        """The relay's ledgers are right, nobody is sent more than it takes, and nobody starves for what is held."""
        calls = pair._calls
        for lane, sender, receiver, told, sent in (
            (calls.up, self._client, self._backend, self._to_client, self._to_backend),
            (calls.down, self._backend, self._client, self._to_backend, self._to_client),
        ):
            view = DEFAULT_WINDOW + told.granted - sender.data
            room = DEFAULT_WINDOW + receiver.granted - sent.data
            window = lane.connection
            if pair.lost:
                # Nobody is there whose room, or whose view, it could be.
                view, room = (view, window.room) if lane is calls.up else (window.view, room)
            assert (window.view, window.room) == (view, room), "the ledger is not what the peers know"
            assert view >= 0, "more was taken than the sender was allowed"
            assert room >= 0, "more was sent than the receiver takes"
            assert window.held >= 0 <= window.debt, "less than nothing is held or lent"
            if lane.queues.keys() <= lane.waiting:
                assert view > room - LEND, "the sender starves for what waits for decisions"

    def _greeted(self, text: bytes, *, here: bool) -> bytes:
        preface = min(self._greeting[here], len(text))
        self._greeting[here] -= preface
        return text[preface:]
