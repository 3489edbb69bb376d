"""Where a sink reads the journal, and how it learns that there may be something new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TypeVar

from server.reading import ask
from server.sinks.aside import aside
from shim.store import Store

T = TypeVar("T")

#: Seconds between two questions to the daemon's own journal.
_PAUSE: Final = 1.0

#: Seconds between two looks at the files, and after which the journal is read whatever they look like.
_LOOK, _AT_LEAST = 0.5, 10.0

#: Seconds after their last change for which the files' look says nothing: a commit is in them before it is synced, and
#: can be read only then.
_SYNCED: Final = 2.0


class Source(Protocol):
    """A journal to be read."""

    async def read(self, question: Callable[[Store], T]) -> T | None:
        """What ``question`` gets; None if there is no journal yet. Raises JournalError."""
        ...

    async def changed(self) -> None:
        """Return when there may be something that the last ``read`` has not seen; at times there is nothing."""
        ...


class Ask(Protocol):
    """A question to the journal that this process has open. Raises JournalUnavailableError."""

    async def __call__(self, query: Callable[[Store], T], /) -> T:
        """What ``query`` gets."""
        ...


class OwnJournal:
    """The daemon's journal, through the daemon's own connection.

    Not its file: SQLite shares what it knows of one file within a process, and a reader that was there first would make
    a writer that comes back after a full disk a reader too (``readonly_shm``).
    """

    def __init__(self, ask_journal: Ask) -> None:
        self._ask = ask_journal

    async def read(self, question: Callable[[Store], T]) -> T | None:
        """As in Source."""
        return await self._ask(question)

    async def changed(self) -> None:
        """As in Source: an index says at once that there is nothing new."""
        await asyncio.sleep(_PAUSE)


class JournalFile:
    """The journal's file, read in another process than its daemon's. Between two reads it costs the journal nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[object, ...] = ()
        self._settled = False

    async def read(self, question: Callable[[Store], T]) -> T | None:
        """As in Source."""
        # Looked at before it is read: what is written meanwhile is a change.
        self._seen, self._settled = await aside(self._look)
        return await aside(lambda: ask(self._path, question))

    async def changed(self) -> None:
        """As in Source."""
        if not self._settled:
            await asyncio.sleep(_LOOK)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_AT_LEAST):
                while (await aside(self._look))[0] == self._seen:  # noqa: ASYNC110 - a file is looked at
                    await asyncio.sleep(_LOOK)

    def _look(self) -> tuple[tuple[object, ...], bool]:
        found: list[object] = []
        settled = True
        for file in (self._path, self._path.with_name(self._path.name + "-wal")):
            try:
                status = file.stat()
            except OSError as error:
                found.append(error.errno)
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
                settled = settled and abs(time.time() - status.st_mtime) > _SYNCED
        return tuple(found), settled
