"""Reads the journal for the pages, in threads of its own, and alone decides whether what handlers said is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from server.reading import ask
from shim import timeline
from shim.errors import JournalError
from shim.store import FILE, Store

T = TypeVar("T")

#: Seconds that a question may take: a disk that hangs holds its thread, and not whoever asks.
_PATIENCE: Final = 5.0

#: Questions at a time.
_THREADS: Final = 2

#: What tells one state of the journal's files from another without opening them.
Signature = tuple[tuple[int, int, int] | None, ...]


class Reader:
    """``output``: whether the answers have what handlers said. Every question raises JournalError."""

    def __init__(self, state_dir: Path, *, output: bool) -> None:
        self.path = state_dir / FILE
        self.output = output
        self._threads = ThreadPoolExecutor(_THREADS, "journal")

    def signature(self) -> Signature:
        """Changes when the journal does; costs it nothing."""
        return tuple(_stat(path) for path in (self.path, self.path.with_name(f"{self.path.name}-wal")))

    async def overview(self, wanted: timeline.Wanted) -> timeline.Overview | None:
        """A page of containers; None if there is no journal."""
        return await self._ask(lambda store: timeline.overview(store, wanted))

    async def container(self, container_id: str) -> timeline.Detail | None:
        """One container; None if it is not in the journal."""
        return await self._ask(lambda store: timeline.container(store, container_id, output=self.output))

    async def delivery(self, delivery_id: str) -> timeline.Detail | None:
        """The container of one delivery; None if it is not in the journal."""
        return await self._ask(lambda store: timeline.delivery(store, delivery_id, output=self.output))

    async def _ask(self, question: Callable[[Store], T]) -> T | None:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, ask, self.path, question)
        try:
            async with asyncio.timeout(_PATIENCE):
                return await asked
        except TimeoutError as error:
            text = f"the journal {self.path} cannot be read: its disk has not answered for {_PATIENCE:g} s"
            raise JournalError(text) from error

    def close(self) -> None:
        """Let the threads end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
