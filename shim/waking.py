"""Waiting for whichever comes first, without a task for each: a hook has many ends, and most never come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol


class Source(Protocol):
    """What may be waited for: a task, a future, or a Flag."""

    def done(self) -> bool:
        """Whether it has come."""
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Have ``fn`` called when it comes."""
        ...

    def remove_done_callback(self, fn: Callable[[Any], object], /) -> int:
        """Have it not called any more."""
        ...


class Flag(asyncio.Event):
    """An event that is a Source, too."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[Any], object]] = []

    def done(self) -> bool:
        """Whether it is set."""
        return self.is_set()

    def set(self) -> None:
        """Set it, and tell whoever waits."""
        super().set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Have ``fn`` called once, when this is set next."""
        self._callbacks.append(fn)

    def remove_done_callback(self, fn: Callable[[Any], object], /) -> int:
        """Have it not called any more; how often it would have been."""
        before = len(self._callbacks)
        self._callbacks = [one for one in self._callbacks if one != fn]
        return before - len(self._callbacks)


async def first_of(*sources: Source, timeout: float | None = None) -> None:
    """Return when any of them has come, or after ``timeout`` seconds; at once if one has already."""
    if any(source.done() for source in sources):
        return
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_source: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    for source in sources:
        source.add_done_callback(wake)
    timer = None if timeout is None else loop.call_later(timeout, wake)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        for source in sources:
            source.remove_done_callback(wake)
