"""A deadline that can come nearer while somebody waits for it: a second stop shortens the first one's."""

from __future__ import annotations

from shim.ports import Clock
from shim.waking import Flag, first_of


class Countdown:
    """Counts to ``deadline`` in seconds of the boot's clock; None never ends.

    ``moved`` is set when the deadline has been moved since it was last ``noticed``.
    """

    def __init__(self, clock: Clock, deadline: float | None) -> None:
        self._clock = clock
        self.moved = Flag()
        self.deadline = deadline

    def left(self) -> float | None:
        """Seconds until the end, not below 0; None if there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - self._clock.boottime())

    def noticed(self) -> None:
        """Have ``moved`` tell of the next move: the moves until now have been taken into account."""
        self.moved.clear()

    def shorten(self, deadline: float) -> bool:
        """Move the end nearer; a later one changes nothing. Returns whether it moved."""
        if self.deadline is not None and deadline >= self.deadline:
            return False
        self.deadline = deadline
        self.moved.set()
        return True

    async def over(self) -> None:
        """Return at the end, wherever it has been moved to meanwhile."""
        while (left := self.left()) is None or left > 0:
            await first_of(self.moved, timeout=left)
            self.noticed()
