"""A deadline that can come nearer while somebody waits for it: a second stop shortens the first one's."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from shim.ports import Clock


class Countdown:
    """Counts to ``deadline`` in seconds of the boot's clock; None never ends."""

    def __init__(self, clock: Clock, deadline: float | None) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self.deadline = deadline

    def left(self) -> float | None:
        """Seconds until the end, not below 0; None if there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - self._clock.boottime())

    def noticed(self) -> None:
        """Let ``shortened`` wait for the next move: the moves until now have been taken into account."""
        self._changed.clear()

    def shorten(self, deadline: float) -> bool:
        """Move the end nearer; a later one changes nothing. Returns whether it moved."""
        if self.deadline is not None and deadline >= self.deadline:
            return False
        self.deadline = deadline
        self._changed.set()
        return True

    async def over(self) -> None:
        """Return at the end, wherever it has been moved to meanwhile."""
        while (left := self.left()) is None or left > 0:
            await self.shortened(left)

    async def shortened(self, within: float | None = None) -> None:
        """Return when the end has been moved since the last call, or after ``within`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()
        self._changed.clear()
