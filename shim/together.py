"""Many things at once, but not all at once: what a start finds to do on a node with a thousand containers.

A loop that is given a thousand tasks in one moment serves nobody until each of them has had its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

#: How many are begun before the loop is looked at again.
_FEW = 16

#: Seconds between two looks, by which a look may be late, and how often a busy loop is looked at before it goes on.
_LOOK, _LATE, _LOOKS = 0.002, 0.004, 3


async def each(limit: int, items: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
    """``do`` all items, begun in their order, ``limit`` of them at once.

    Raises the first error when what had begun beside it has ended; nothing begins after it.
    """
    rest = deque(items)

    async def work() -> None:
        while rest:
            try:
                await do(rest.popleft())
            except BaseException:
                rest.clear()
                raise

    tasks = [asyncio.create_task(work(), name=f"together {number}") for number in range(min(limit, len(rest)))]
    try:
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        task.result()


async def gently(items: Iterable[T], begin: Callable[[T], None]) -> None:
    """``begin`` all items a few at a time, each few when the loop has caught up with the ones before.

    A loop that is busy with something else all the time only makes it slower.
    """
    loop = asyncio.get_running_loop()
    for number, item in enumerate(items, start=1):
        begin(item)
        if number % _FEW:
            continue
        for _ in range(_LOOKS):
            due = loop.time() + _LOOK
            await asyncio.sleep(_LOOK)
            if loop.time() - due < _LATE:
                break
