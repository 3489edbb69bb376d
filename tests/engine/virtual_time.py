"""An event loop whose time passes only when nobody has anything to do, so that days of waiting take milliseconds.

Everything that is due happens in the order of its due time, always the same: what golden stories are told of.
"""

from __future__ import annotations

import asyncio
import selectors

#: Turns of the loop in one moment, and seconds that each takes after so many.
_MANY, _TICK = 10_000, 1e-9


class DeadlockError(RuntimeError):
    """Every task waits for another one, and nothing is scheduled."""


class _Selector(selectors.SelectSelector):
    """Where a loop would sleep until its next timer, it is that time at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("nothing is scheduled, so nothing can happen any more")
        self._turns = 0 if timeout > 0 else self._turns + 1
        # A wait for what rounding has left of a time has an end on any other clock.
        self.now += timeout if timeout > 0 else _TICK if self._turns > _MANY else 0.0
        # There is no I/O here.
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop over virtual time, which begins at 0 seconds."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._virtual.now
