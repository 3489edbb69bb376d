"""One direction of a connection: what one peer sends to the other, as far as windows and decisions let it.

Invariant: the frames of a stream go on in their order, and while nothing is held and nobody is indebted, DATA go on
as they came. `out` has the frames for the receiver, `back` those for the sender: own WINDOW_UPDATEs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from server.relay import frames
from server.relay.faults import Code, PeerError
from server.relay.settings import DEFAULT_WINDOW
from server.relay.window import Window

if TYPE_CHECKING:
    from typing import TypeAlias

    from server.relay.frames import Frame, Piece


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a stream's DATA. ``own``: the sender knows nothing of it."""

    payload: bytes
    end: bool
    own: bool = False


#: DATA, or any other frames of the stream, whole.
Item: TypeAlias = "Chunk | bytes"


class Lane:
    """One direction, and the ledgers of its windows: the connection's, and those of the streams that are not over."""

    def __init__(self, out: list[Piece], back: list[Piece]) -> None:
        self.out = out
        self.back = back
        self.connection = Window(DEFAULT_WINDOW)
        #: What the window of a stream begins with, and those of the streams that are not over.
        self.initial = DEFAULT_WINDOW
        self.windows: dict[int, Window] = {}
        #: What is held, by stream; and the streams that wait for a decision, be anything of them held or not.
        self.queues: dict[int, deque[Item]] = {}
        self.waiting: set[int] = set()
        self._last: set[int] = set()
        self._undecided = 0

    def tracks(self, stream: int) -> bool:
        """Whether there is a ledger for this stream."""
        return stream in self.windows

    def held(self, stream: int) -> int:
        """Bytes of a tracked stream that wait."""
        window = self.windows.get(stream)
        return window.held if window else 0

    def track(self, stream: int) -> None:
        """A stream begins: keep the ledger of its window, to know what there is room for once something is held."""
        self.windows[stream] = Window(self.initial)

    def hold(self, stream: int) -> None:
        """Let nothing of this stream through until `release`."""
        self.waiting.add(stream)

    def release(self, stream: int) -> None:
        """What was held goes on, as there is room."""
        self._decided(stream)
        self._pump()

    def data(self, frame: Frame) -> None:
        """DATA of the sender. Raises PeerError if it sends more than it may."""
        size = len(frame.raw) - frames.PREFIX_SIZE
        stream, connection = frame.stream, self.connection
        window = self.windows.get(stream)
        if not connection.held and not connection.debt and (window is None or window.settled) and self._free(stream):
            connection.room -= size
            if connection.room < 0:
                self._check()
            if window is not None:
                window.room -= size
            self.out.append(frame.raw)
            return
        payload = frame.data
        self._comes(stream, size)
        if size > len(payload):
            self._drops(stream, size - len(payload))
        if stream in self.waiting:
            self._undecided += len(payload)
        self._queue(stream, Chunk(payload, bool(frame.flags & frames.END_STREAM)))
        self._pump()

    def frames(self, stream: int, raw: bytes) -> None:
        """Other frames of a stream, whole: they go on behind its DATA."""
        if stream in self.queues:
            self.queues[stream].append(raw)
        else:
            self.out.append(raw)

    def own(self, stream: int, items: list[Item]) -> None:
        """The end of a stream, of our own."""
        self._last.add(stream)
        for item in items:
            self._queue(stream, item)
        self._pump()

    def finish(self, stream: int) -> None:
        """The sender has ended this stream: no ledger of it is needed once all has gone on."""
        if stream in self.queues:
            self._last.add(stream)
        else:
            self.windows.pop(stream, None)

    def drop(self, stream: int) -> None:
        """Nothing of this stream that is held will go on, and the sender has the connection's window back for it."""
        self._decided(stream)
        self._last.discard(stream)
        self.windows.pop(stream, None)
        queue = self.queues.pop(stream, ())
        if size := sum(len(item.payload) for item in queue if isinstance(item, Chunk) and not item.own):
            self._drops(stream, size)
        self._pump()

    def swallow(self, frame: Frame) -> None:
        """DATA of a stream that is over: they go nowhere. Raises PeerError if the sender sends more than it may."""
        size = len(frame.raw) - frames.PREFIX_SIZE
        self._comes(frame.stream, size)
        self._drops(frame.stream, size)

    def lend(self, stream: int) -> None:
        """Lend window to the sender, if so much waits for decisions that others, or this stream, would have to wait.

        What waits for room is not lent for: a slow receiver slows its sender down.
        """
        self._grant(0, self.connection.lends(self._undecided))
        if stream in self.waiting:
            window = self.windows[stream]
            self._grant(stream, window.lends(window.held))

    def granted(self, stream: int, size: int, raw: bytes) -> None:
        """The receiver's WINDOW_UPDATE, of the connection for stream 0, ``raw`` unless the sender is not to know.

        Raises PeerError for a window too large.
        """
        if not stream and self.connection.settled and not self.queues:
            self.connection.granted(size)
            self.back.append(raw)
            return
        window = self.windows.get(stream) if stream else self.connection
        told = size if window is None else window.granted(size)
        if raw and told == size:
            self.back.append(raw)
        elif raw:
            self._grant(stream, told)
        if self.queues:
            self._pump()

    def orphaned(self) -> None:
        """The receiver is gone, and gives nothing back of what it has taken: the sender is to go on without it."""
        missing = DEFAULT_WINDOW - self.connection.view
        if missing > 0:
            self.connection.room += missing
            self._grant(0, missing)

    def resized(self, initial: int) -> None:
        """The receiver has set the size that its streams' windows begin with."""
        for window in self.windows.values():
            window.resized(initial - self.initial)
        self.initial = initial
        self._pump()

    def _queue(self, stream: int, item: Item) -> None:
        self.queues.setdefault(stream, deque()).append(item)

    def _comes(self, stream: int, size: int) -> None:
        self.connection.comes(size)
        self._check()
        if stream in self.windows:
            self.windows[stream].comes(size)

    def _check(self) -> None:
        if self.connection.view < 0:
            raise PeerError(Code.FLOW_CONTROL_ERROR, "more was sent than the connection's window allows")

    def _drops(self, stream: int, size: int) -> None:
        self._grant(0, self.connection.drops(size))
        if stream in self.windows:
            self._grant(stream, self.windows[stream].drops(size))

    def _grant(self, stream: int, size: int) -> None:
        if size:
            self.back.append(frames.window_update(stream, size))

    def _decided(self, stream: int) -> None:
        if stream in self.waiting:
            self.waiting.discard(stream)
            self._undecided -= self.windows[stream].held

    def _free(self, stream: int) -> bool:
        return stream not in self.queues and stream not in self.waiting

    def _pump(self) -> None:
        for stream in [each for each in self.queues if each not in self.waiting]:
            self._send(stream, self.queues[stream])

    def _send(self, stream: int, queue: deque[Item]) -> None:
        window = self.windows.get(stream)
        while queue:
            item = queue[0]
            if isinstance(item, bytes):
                self.out.append(item)
                queue.popleft()
                continue
            room = self.connection.room if window is None else min(self.connection.room, window.room)
            size = max(0, min(len(item.payload), room, frames.DEFAULT_SIZE))
            if item.payload and not size:
                return
            self._spend(item, size, self.connection)
            if window is not None:
                self._spend(item, size, window)
            whole = size == len(item.payload)
            flags = frames.END_STREAM if whole and item.end else 0
            self.out.append(frames.frame(frames.DATA, flags, stream, item.payload[:size]))
            if whole:
                queue.popleft()
                if item.end:
                    self.windows.pop(stream, None)
            else:
                queue[0] = replace(item, payload=item.payload[size:])
        del self.queues[stream]
        if stream in self._last:
            self._last.discard(stream)
            self.windows.pop(stream, None)

    def _spend(self, item: Chunk, size: int, window: Window) -> None:
        if item.own:
            window.injects(size)
        else:
            window.goes(size)
