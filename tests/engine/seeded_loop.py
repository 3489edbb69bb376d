"""An event loop that runs what is ready in an order that a seed picks, over virtual time.

A real loop runs its callbacks in the order in which they were scheduled, but that order is made by the kernel, the
disk and the network, and is another one each time. So the engine must be right in all of them. What is picked here:

- Of all callbacks that are ready when a turn of the loop begins, any may come first. What they schedule waits for the
  next turn, as in asyncio: nothing overtakes what is a cause of its own cause.
- What comes from outside (a timer that is due, which here stands for every answer, event and fsync) may come up to
  some turns later than it could, before time goes on: so chains of different length meet in every way.
- The callbacks of one future keep their order: asyncio promises that.
- Sets of tasks are walked in an order that the seed picks too, since a task's hash is its address otherwise.

Nothing depends on addresses, hashes of text, or the time of day: a seed gives the same run in every process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Generator
from contextvars import Context
from random import Random
from typing import Any

from tests.engine.virtual_time import VirtualLoop

#: How often something from outside is held back for a turn.
_LATE = 0.2

_Work = Coroutine[Any, Any, Any] | Generator[Any, None, Any]


class SeededTask(asyncio.Task[Any]):
    """A task whose name, hash and place among all tasks are the same in every run."""

    def __init__(self, work: _Work, loop: SeededLoop, name: str | None, context: Context | None) -> None:
        # before Task's own, which puts it into a set
        self.serial, self._hash = loop.next_task()
        super().__init__(work, loop=loop, name=name or f"Task-{self.serial}", context=context)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other


class SeededLoop(VirtualLoop):
    """A virtual loop with an order of its own."""

    def __init__(self, chance: Random) -> None:
        """``chance`` picks; nobody else may draw from it."""
        super().__init__()
        self._chance = chance
        self._serial = 0
        # asyncio takes what is ready from the left of this, as many as there are when the turn begins.
        self._ready = _Turns(chance)
        self.set_task_factory(_task)

    def next_task(self) -> tuple[int, int]:
        """The next task's number and hash."""
        self._serial += 1
        return self._serial, self._chance.getrandbits(60)


def _task(
    loop: asyncio.AbstractEventLoop, work: _Work, *, name: str | None = None, context: Context | None = None
) -> asyncio.Task[Any]:
    assert isinstance(loop, SeededLoop)
    return SeededTask(work, loop, name, context)


class _Turns(deque[asyncio.Handle]):
    """What is ready, of which ``popleft`` takes any that belongs to the turn."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance
        self._left = 0

    def popleft(self) -> asyncio.Handle:
        """The next one of this turn; of the next turn if nothing is left of it."""
        while True:
            if self._left <= 0:
                self._left = len(self)
            place = int(self._chance.random() * self._left) if self._left > 1 else 0
            self._left -= 1
            handle = self[place]
            if isinstance(handle, asyncio.TimerHandle) and len(self) > 1 and self._chance.random() < _LATE:
                del self[place]
                self.append(handle)
                continue
            place = self._first_of_its_future(handle, place)
            handle = self[place]
            del self[place]
            return handle

    def _first_of_its_future(self, handle: asyncio.Handle, place: int) -> int:
        args = getattr(handle, "_args", None)
        if not args or not isinstance(args[0], asyncio.Future):
            return place
        for earlier in range(place):
            others = getattr(self[earlier], "_args", None)
            if others and others[0] is args[0]:
                return earlier
        return place
