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

from shim.changes import Change
from shim.errors import JournalError, JournalUnavailableError
from shim.records import Delivery, Operation
from shim.store import Store

T = TypeVar("T")


@dataclass(slots=True)
class _Commit:
    changes: tuple[Change, ...]
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Read(Generic[T]):
    query: Callable[[Store], T]
    done: asyncio.Future[T]


class Journal:
    """An open journal of the running daemon. Its methods belong to the event loop that opened it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Commit | _Read[Any] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or create the journal. Raises what Store.open raises."""
        return cls(await asyncio.to_thread(Store.open, path))

    async def commit(self, *changes: Change) -> None:
        """Apply the changes together, durably. Cancelling the caller does not take them back.

        Raises JournalConflictError or JournalUnavailableError; then nothing of them was applied.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        self._put(_Commit(changes, done))
        await asyncio.shield(done)

    async def deliveries_of(self, container_id: str) -> list[Delivery]:
        """All that was ever recorded for one container, oldest first. Raises JournalUnavailableError."""
        return await self._read(lambda store: store.deliveries_of(container_id))

    async def open_work(self) -> list[tuple[Operation, list[Delivery]]]:
        """Every open operation with its deliveries, oldest first. Raises JournalUnavailableError."""
        return await self._read(_open_work)

    async def _read(self, query: Callable[[Store], T]) -> T:
        done: asyncio.Future[T] = self._loop.create_future()
        self._put(_Read(query, done))
        return await done

    async def close(self) -> None:
        """Write what was handed in, and close the file. Later calls raise JournalUnavailableError."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _put(self, item: _Commit | _Read[Any]) -> None:
        if self._closed:
            raise JournalUnavailableError("the journal is closed: hookshim is shutting down")
        self._queue.put(item)

    def _write(self) -> None:
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
                if isinstance(item, _Read):
                    self._answer(item)
        self._store.close()

    def _commit(self, commits: list[_Commit]) -> None:
        results: list[JournalError | None]
        try:
            results = list(self._store.commit([commit.changes for commit in commits]))
        except JournalUnavailableError as error:
            results = [error] * len(commits)
        self._call(lambda: _resolve_all(commits, results))

    def _answer(self, item: _Read[Any]) -> None:
        try:
            value, error = item.query(self._store), None
        except Exception as problem:  # noqa: BLE001 - whatever a read raises is its caller's to know
            value, error = None, JournalUnavailableError(f"the journal cannot be read: {problem}")
        self._call(lambda: _resolve(item.done, value, error))

    def _call(self, callback: Callable[[], object]) -> None:
        # A loop that is closed has nobody left who waits.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)


def _open_work(store: Store) -> list[tuple[Operation, list[Delivery]]]:
    deliveries = store.deliveries_of_open_operations()
    return [
        (operation, [delivery for delivery in deliveries if delivery.operation_id == operation.id])
        for operation in store.open_operations()
    ]


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
