"""The journal's writer thread: commits of many callers share one fsync.

A commit waits while the one before it is being synced; all that came meanwhile goes into the next transaction.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

import structlog

from shim import texts
from shim.changes import Change, InsertEvent
from shim.errors import JournalCorruptError, JournalError, JournalUnavailableError
from shim.records import NODE, Delivery, Event, Operation
from shim.store import Store, set_aside

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Commit:
    changes: tuple[Change, ...]
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Ask(Generic[T]):
    query: Callable[[Store], T]
    done: asyncio.Future[T]


class Journal:
    """The running daemon's journal. Its methods belong to the event loop that opened it.

    While the file cannot be opened, every call raises JournalUnavailableError and tries again: a full disk keeps
    nothing from being served. A file that is found damaged is set aside, and a new one begun.
    """

    def __init__(self, path: Path, clock: Callable[[], float], *, keep_corrupt: bool) -> None:
        """``clock`` names a damaged file's time; ``keep_corrupt`` leaves it in place, and raises instead."""
        self._path = path
        self._clock = clock
        self._keep_corrupt = keep_corrupt
        self._store: Store | None = None
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Commit | _Ask[Any] | None] = SimpleQueue()
        self._closed = False
        #: How many damaged journals were set aside.
        self.set_aside = 0
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    @classmethod
    async def open(cls, path: Path, clock: Callable[[], float], *, keep_corrupt: bool = False) -> Self:
        """Open or create the journal. Raises JournalCorruptError (``keep_corrupt``), JournalError (newer version)."""
        journal = cls(path, clock, keep_corrupt=keep_corrupt)
        try:
            await asyncio.to_thread(journal._opened)
        except JournalUnavailableError as error:
            log.error("going on without a journal until it can be had", error=str(error))
        journal._thread.start()
        return journal

    async def commit(self, *changes: Change) -> None:
        """Apply the changes together, durably. Cancelling the caller does not take them back.

        Raises JournalConflictError or JournalUnavailableError; then nothing of them was applied.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        # A caller who was cancelled takes no error; asyncio would complain about that.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._put(_Commit(changes, done))
        await asyncio.shield(done)

    async def deliveries_of(self, container_id: str) -> list[Delivery]:
        """All that was ever recorded for one container, oldest first. Raises JournalUnavailableError."""
        return await self._ask(lambda store: store.deliveries_of(container_id))

    async def executions_of(self, container_id: str) -> list[Operation]:
        """The kubelet's own runs of a container's preStop, oldest first. Raises JournalUnavailableError."""
        return await self._ask(lambda store: store.executions_of(container_id))

    async def open_work(self) -> list[tuple[Operation, list[Delivery]]]:
        """Every open operation with its deliveries, oldest first. Raises JournalUnavailableError."""
        return await self._ask(_open_work)

    async def born(self) -> float:
        """When the journal was begun, in seconds since the epoch. Raises JournalUnavailableError."""
        return await self._ask(lambda store: store.born())

    async def expire(self, before: float, limit: int = 500) -> int:
        """Delete at most ``limit`` operations done before ``before``; how many they were.

        Raises JournalUnavailableError.
        """
        return await self._ask(lambda store: store.expire(before, limit))

    async def close(self) -> None:
        """Write what was handed in, and close the file. Later calls raise JournalUnavailableError."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _ask(self, query: Callable[[Store], T]) -> T:
        done: asyncio.Future[T] = self._loop.create_future()
        self._put(_Ask(query, done))
        return await done

    def _put(self, item: _Commit | _Ask[Any]) -> None:
        if self._closed:
            raise JournalUnavailableError("the journal is closed: hookshim is shutting down")
        self._queue.put(item)

    # From here on: the writer thread.

    def _work(self) -> None:
        last = False
        while not last:
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get())
            last = None in items
            commits = [item for item in items if isinstance(item, _Commit)]
            if commits:
                self._commit(commits)
            for item in items:
                if isinstance(item, _Ask):
                    self._answer(item)
        if self._store is not None:
            self._store.close()

    def _commit(self, commits: list[_Commit]) -> None:
        results: list[JournalError | None]
        try:
            groups = [commit.changes for commit in commits]
            results = list(self._use(lambda store: store.commit(groups)))
        except JournalError as error:
            results = [error] * len(commits)
        except Exception as error:
            # A bug in one commit must not end the thread that all others wait for.
            log.exception("the journal met a bug")
            results = [JournalUnavailableError(f"the journal met a bug: {error}")] * len(commits)
        self._call(lambda: _resolve_all(commits, results))

    def _answer(self, item: _Ask[Any]) -> None:
        value, problem = None, None
        try:
            value = self._use(item.query)
        except Exception as error:  # noqa: BLE001 - whatever it is, its caller is to know
            problem = JournalUnavailableError(f"the journal cannot be used: {error}")
        self._call(lambda: _resolve(item.done, value, problem))

    def _use(self, query: Callable[[Store], T]) -> T:
        """Ask the store; one that turns out to be damaged is replaced, and the new one asked. Raises JournalError."""
        try:
            return query(self._opened())
        except JournalCorruptError as error:
            if self._keep_corrupt:
                raise JournalUnavailableError(str(error)) from error
            self._set_aside(error)
            return query(self._opened())

    def _opened(self) -> Store:
        if self._store is None:
            try:
                self._store = Store.open(self._path)
            except JournalCorruptError as error:
                if self._keep_corrupt:
                    raise
                self._set_aside(error)
        if self._store is None:
            self._store = Store.open(self._path)
        return self._store

    def _set_aside(self, error: JournalCorruptError) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        try:
            place = set_aside(self._path, f"corrupt-{self._clock():.0f}")
        except OSError as problem:
            raise JournalUnavailableError(f"{error}; it cannot be set aside: {problem}") from problem
        self.set_aside += 1
        log.critical("the journal was damaged; a new one is begun", error=str(error), set_aside=str(place))
        message = f"the journal was damaged and is set aside as {place}; a new one is begun: {error}"
        event = Event(self._clock(), texts.JOURNAL_DAMAGED, NODE, "", message)
        self._store = Store.open(self._path)
        self._store.commit([[InsertEvent(event)]])

    def _call(self, callback: Callable[[], object]) -> None:
        # A loop that is closed has nobody left who waits.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)


def _open_work(store: Store) -> list[tuple[Operation, list[Delivery]]]:
    by_operation: dict[str, list[Delivery]] = {}
    for delivery in store.deliveries_of_open_operations():
        by_operation.setdefault(delivery.operation_id, []).append(delivery)
    return [(operation, by_operation.get(operation.id, [])) for operation in store.open_operations()]


def _resolve_all(commits: list[_Commit], results: list[JournalError | None]) -> None:
    for commit, result in zip(commits, results, strict=True):
        _resolve(commit.done, None, result)


def _resolve(future: asyncio.Future[T], value: T, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
