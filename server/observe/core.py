"""What the daemon itself says, over its admin socket: whether it serves, and its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from server.admin.answers import Status
from server.admin.client import AdminClient, AdminError
from server.observe.shared import Shared

T = TypeVar("T")

#: Seconds that a daemon that does not answer is waited for: it answers within milliseconds.
_PATIENCE: Final = 2.0

#: Seconds that its answer is the same.
_FRESH: Final = 1.0


class Core:
    """Asks in threads, so that a daemon that hangs holds up nobody here."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(2, "core")
        self._statuses: Shared[Status | AdminError] = Shared(_FRESH)
        self._metrics: Shared[str | AdminError] = Shared(0.0)

    async def status(self) -> Status | AdminError:
        """How the daemon does, or why nobody knows."""
        return await self._statuses.get("", lambda: self._ask(AdminClient.status))

    async def metrics(self) -> str | AdminError:
        """Its metrics in Prometheus' text, or why there are none."""
        return await self._metrics.get("", lambda: self._ask(AdminClient.metrics))

    async def _ask(self, question: Callable[[AdminClient], T]) -> T | AdminError:
        def ask() -> T | AdminError:
            # A connection of its own each time: grpc would be slow to see that a daemon is back.
            try:
                with AdminClient(self._path, _PATIENCE) as client:
                    return question(client)
            except AdminError as error:
                return error

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def close(self) -> None:
        """Let the threads end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
