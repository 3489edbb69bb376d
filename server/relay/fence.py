"""Streams that were ended here, whose peer may not know it yet: frames of theirs are late, and go nowhere.

Invariant: a stream is remembered until nothing of it can come any more, which is when a peer acknowledges SETTINGS
that were sent after the stream's end. They are empty, and sent once for many streams; a PING would do as well, but
Go's gRPC counts pings and sends away who sends too many.
"""

from __future__ import annotations

from collections import deque

#: Streams that are ended before a peer is asked whether it knows.
_MANY = 64

#: A peer that has not acknowledged after so many ended streams never will.
MOST = 100_000


class Fence:
    """The ended streams of one peer."""

    def __init__(self) -> None:
        #: The streams that are remembered.
        self.streams: set[int] = set()
        self._fresh: list[int] = []
        self._asked: deque[list[int]] = deque()

    def add(self, stream: int) -> bool:
        """Remember a stream; whether empty SETTINGS are to be sent now."""
        self.streams.add(stream)
        self._fresh.append(stream)
        if len(self._fresh) < _MANY:
            return False
        self._asked.append(self._fresh)
        self._fresh = []
        return True

    def acknowledged(self) -> None:
        """The peer has acknowledged the oldest of these SETTINGS."""
        if self._asked:
            self.streams.difference_update(self._asked.popleft())
