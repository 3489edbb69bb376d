"""The journal's writer thread: commits of many callers share one fsync.

A commit waits while the one before it is being synced; all that came meanwhile goes into the next transaction.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, Protocol, Self, TypeVar

import structlog

from shim import texts
from shim.changes import Change, InsertEvent
from shim.errors import (
    AskedWronglyError,
    HookshimError,
    JournalConflictError,
    JournalCorruptError,
    JournalError,
    JournalUnavailableError,
    UnknownDeliveryError,
)
from shim.lookup import find
from shim.records import NODE, Delivery, Event, Found, Operation
from shim.store import Store, set_aside

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Observer(Protocol):
    """Is told what the journal does, by its thread, before whoever waits for it: it has to be quick.

    What it raises is logged, and harms no commit.
    """

    def opened(self, store: Store) -> None:
        """The file was opened, to be read now: at the start, or later, or a new one in place of a damaged one."""
        ...

    def committed(self, commits: Sequence[Sequence[Change]], conflicts: int, seconds: float) -> None:
        """These commits were written together; ``conflicts`` others were left out. It took ``seconds``."""
        ...

    def failed(self) -> None:
        """A transaction was not written, or the file not opened."""
        ...


class Unobserved:
    """Nobody looks."""

    def opened(self, store: Store) -> None:
        """Nothing."""

    def committed(self, commits: Sequence[Sequence[Change]], conflicts: int, seconds: float) -> None:
        """Nothing."""

    def failed(self) -> None:
        """Nothing."""


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

    def __init__(self, path: Path, clock: Callable[[], float], *, keep_corrupt: bool, observer: Observer) -> None:
        """``clock`` names a damaged file's time; ``keep_corrupt`` leaves it in place, and raises instead."""
        self._path = path
        self._clock = clock
        self._keep_corrupt = keep_corrupt
        self._observer = observer
        self._store: Store | None = None
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Commit | _Ask[Any] | None] = SimpleQueue()
        self._closed = False
        #: How many damaged journals were set aside.
        self.set_aside = 0
        #: Why it could not be written when that was last tried; empty if it could.
        self.problem = ""
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Callable[[], float],
        *,
        keep_corrupt: bool = False,
        observer: Observer | None = None,
    ) -> Self:
        """Open or create the journal. Raises JournalCorruptError (``keep_corrupt``), JournalError (newer version)."""
        journal = cls(path, clock, keep_corrupt=keep_corrupt, observer=observer or Unobserved())
        try:
            await asyncio.to_thread(journal._opened)
        except JournalUnavailableError as error:
            journal.problem = str(error)
            log.error("going on without a journal until it can be had", error=str(error))
            journal._tell(journal._observer.failed)
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
        return await self.ask(lambda store: store.deliveries_of(container_id))

    async def executions_of(self, container_id: str) -> list[Operation]:
        """The kubelet's own runs of a container's preStop, oldest first. Raises JournalUnavailableError."""
        return await self.ask(lambda store: store.executions_of(container_id))

    async def find(self, key: str) -> Found:
        """The delivery whose id is this or, of all, begins so.

        Raises UnknownDeliveryError, AskedWronglyError (more than one), JournalUnavailableError.
        """
        found = await self.ask(lambda store: _find(store, key))
        if isinstance(found, HookshimError):
            raise found
        return found

    async def open_work(self) -> list[tuple[Operation, list[Delivery]]]:
        """Every open operation with its deliveries, oldest first. Raises JournalUnavailableError."""
        return await self.ask(_open_work)

    async def open_work_of(self, container_id: str) -> list[tuple[Operation, list[Delivery]]]:
        """The same of one container. Raises JournalUnavailableError."""
        return await self.ask(lambda store: _open_work(store, container_id))

    async def open_attempts(self) -> list[tuple[str, int]]:
        """Of every open delivery, its id and the number of its current attempt. Raises JournalUnavailableError."""
        return await self.ask(lambda store: store.open_attempts())

    async def born(self) -> float:
        """When the journal was begun, in seconds since the epoch. Raises JournalUnavailableError."""
        return await self.ask(lambda store: store.born())

    async def expire(self, before: float, limit: int = 100) -> int:
        """Delete at most ``limit`` operations done before ``before``; how many they were.

        Raises JournalUnavailableError.
        """
        return await self.ask(lambda store: store.expire(before, limit))

    async def close(self) -> None:
        """Write what was handed in, and close the file. Later calls raise JournalUnavailableError."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def ask(self, query: Callable[[Store], T]) -> T:
        """What ``query`` reads, on the journal's own thread: only what is quick. Raises JournalUnavailableError."""
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
        groups = [commit.changes for commit in commits]
        try:
            results = list(self._use(lambda store: self._commit_to(store, groups)))
        except JournalError as error:
            self.problem = str(error)
            results = [error] * len(commits)
            self._tell(self._observer.failed)
        except Exception as error:
            # A bug in one commit must not end the thread that all others wait for.
            log.exception("the journal met a bug")
            results = [JournalUnavailableError(f"the journal met a bug: {error}")] * len(commits)
            self._tell(self._observer.failed)
        self._call(lambda: _resolve_all(commits, results))

    def _commit_to(self, store: Store, groups: Sequence[Sequence[Change]]) -> list[JournalConflictError | None]:
        began = time.monotonic()
        results = store.commit(groups)
        self.problem = ""
        seconds = time.monotonic() - began
        written = [group for group, conflict in zip(groups, results, strict=True) if conflict is None]
        self._tell(lambda: self._observer.committed(written, len(groups) - len(written), seconds))
        return results

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception:
            log.exception("whoever observes the journal met a bug")

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
                self._begin()
            except JournalCorruptError as error:
                if self._keep_corrupt:
                    raise
                self._set_aside(error)
        return self._store or self._begin()

    def _begin(self) -> Store:
        store = self._store = Store.open(self._path)
        self._tell(lambda: self._observer.opened(store))
        return store

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
        self._commit_to(self._begin(), [[InsertEvent(event)]])

    def _call(self, callback: Callable[[], object]) -> None:
        # A loop that is closed has nobody left who waits.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)


def _find(store: Store, key: str) -> Found | HookshimError:
    try:
        return find(store, key)
    except (UnknownDeliveryError, AskedWronglyError) as error:
        return error


def _open_work(store: Store, container_id: str | None = None) -> list[tuple[Operation, list[Delivery]]]:
    by_operation: dict[str, list[Delivery]] = {}
    for delivery in store.deliveries_of_open_operations(container_id):
        by_operation.setdefault(delivery.operation_id, []).append(delivery)
    return [(operation, by_operation.get(operation.id, [])) for operation in store.open_operations(container_id)]


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
