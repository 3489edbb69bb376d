"""Watching the journal from outside the daemon: each change is told once, over restarts and over a journal set aside.

Nothing is asked of the daemon, and nothing of SQLite while nothing changes: a look is two stat(2) calls. Every answer
is of the file that has the journal's name at that moment, so that a daemon may end, start, or begin a new journal.
"""

from __future__ import annotations

import math
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, TypeVar

from server.reading import ask
from shim import query
from shim.errors import JournalError
from shim.query import Filter, Mark, Told
from shim.records import Delivery, DeliveryState, Event
from shim.store import FILE, Store

T = TypeVar("T")

#: Seconds between two looks at the files.
TICK: Final = 0.2

#: Seconds until what the files hold can be read: a commit is written first and then synced, which nothing tells.
_SYNCED: Final = 2.0


class Follower(Generic[T]):
    """Answers to ``question``, one now and one after each change of the journal in ``state_dir``.

    ``note`` gets a line for a person when the journal cannot be read for a while, and is set aside.
    """

    def __init__(
        self, state_dir: Path, question: Callable[[Store], T], note: Callable[[str], None], tick: float = TICK
    ) -> None:
        self._path = state_dir / FILE
        self._question = question
        self._note = note
        self._tick = tick
        self._told = ""

    def answers(self) -> Iterator[T | None]:
        """None: there is no journal yet. Ends when nobody reads stdout any more.

        Raises JournalError if the journal cannot be read at the first look; later it is asked again and again.
        """
        seen = _stamp(self._path)
        yield ask(self._path, self._question)
        until = time.monotonic() + _SYNCED
        while _wait(self._tick):
            stamp = _stamp(self._path)
            changed, seen = stamp != seen, stamp
            if changed:
                until = time.monotonic() + _SYNCED
            elif time.monotonic() > until:
                continue
            try:
                answer = ask(self._path, self._question)
            except JournalError as error:
                until = math.inf
                self._tell(str(error))
                continue
            if until == math.inf:
                until = time.monotonic() + _SYNCED
            self._told = ""
            yield answer

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            self._note(f"note: {problem}; it is tried again")
        self._told = problem


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the deliveries has found: ``news`` are those that are others now, ``known`` the marks of all."""

    news: tuple[Delivery, ...]
    known: dict[str, Mark]


class DeliveryChanges:
    """What has become another since the last look, of the deliveries that are ``wanted``; a limit is for the first.

    One that was told of while it was open is told of once more when it no longer meets the filter.
    """

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._known: dict[str, Mark] | None = None

    def question(self, store: Store) -> Look:
        """All that are wanted, and what those that were open have become."""
        known = self._known or {}
        still_open = [key for key, (state, *_) in known.items() if DeliveryState(state).open]
        marks = query.marks(store, self._wanted, still_open)
        if self._known is None:
            news = query.deliveries(store, self._wanted)
        else:
            changed = [key for key, mark in marks.items() if known.get(key) != mark]
            news = query.deliveries_by_id(store, changed)
        # Between two questions a daemon may write: what is told of is known as it was told.
        return Look(tuple(news), marks | {one.id: query.mark(one) for one in news})

    def news(self, look: Look | None) -> tuple[Delivery, ...]:
        """The new ones, oldest first; None: there is no journal."""
        self._known = look.known if look is not None else {}
        return look.news if look is not None else ()


class EventChanges:
    """The events that have come since the last look, each once; a limit is for the first."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._before: Told | None = None

    def question(self, store: Store) -> Told:
        """What is new; all that is wanted at first, and of another journal."""
        return query.events(store, self._wanted, self._before)

    def news(self, told: Told) -> tuple[Event, ...]:
        """The new ones, oldest first."""
        self._before = told
        self._wanted = replace(self._wanted, limit=None)
        return told.events


def _stamp(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when the journal does."""
    found: list[tuple[int, int, int] | None] = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        status = None
        with suppress(OSError):
            status = file.stat()
        found.append(None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _wait(seconds: float) -> bool:
    """Wait for the next look; False if nobody reads stdout any more."""
    poll = select.poll()
    # Without an event that is asked for, poll(2) still tells of an error: a pipe's reader that has left.
    poll.register(sys.stdout.fileno(), 0)
    return not poll.poll(seconds * 1000)
