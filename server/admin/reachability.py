"""Whether the container runtime answers, and since when that is so: asked now and then, and whenever somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from grpc import aio

from server.backend import Backend

_VERSION: Final = "/runtime.v1.RuntimeService/Version"

#: Seconds that a runtime may take to answer: somebody waits for it, and no longer than 2 s (``server.observe.core``).
_TIMEOUT: Final = 0.8

#: Seconds between two looks that nobody has asked for.
_PAUSE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reachable:
    """``since`` in seconds since the epoch; ``reason`` is empty if the runtime answers."""

    now: bool
    since: float
    reason: str


class Reachability:
    """Looks at one runtime. ``wall`` is the time in seconds since the epoch."""

    def __init__(self, backend: Backend, wall: Callable[[], float]) -> None:
        self._backend = backend
        self._wall = wall
        self._known = Reachable(now=False, since=wall(), reason=f"containerd at {backend.path} has not answered yet")

    async def follow(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_PAUSE)

    async def look(self) -> Reachable:
        """How it is now."""
        reason = await self._problem()
        since = self._known.since if self._known.now is not bool(reason) else self._wall()
        self._known = Reachable(now=not reason, since=since, reason=reason)
        return self._known

    async def _problem(self) -> str:
        try:
            await self._backend.unary(_VERSION)(b"", timeout=_TIMEOUT)
        except aio.AioRpcError as error:
            if self._backend.is_unreachable(error):
                return self._backend.unreachable_text(error.details())
            return f"containerd at {self._backend.path} is not ready: {error.code().name}: {error.details()}"
        return ""
