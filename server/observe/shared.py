"""One answer for everybody who asks the same thing at the same time: a crowd costs what one reader does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Answers by key, made when they are asked for, and kept for ``seconds`` after that, at most ``most`` of them."""

    def __init__(self, seconds: float, most: int = 64) -> None:
        self._seconds = seconds
        self._most = most
        self._made: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The answer for ``key``, by ``make`` if there is none. Whoever leaves takes nothing with it."""
        if key not in self._made:
            while len(self._made) >= self._most:
                self._made.pop(next(iter(self._made)))
            self._made[key] = asyncio.create_task(self._make(key, make), name="shared answer")
        return await asyncio.shield(self._made[key])

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()

        def drop() -> None:
            if self._made.get(key) is task:
                del self._made[key]

        try:
            return await make()
        finally:
            asyncio.get_running_loop().call_later(self._seconds, drop)
