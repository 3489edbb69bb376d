"""Takes the journal's events to one receiver, one after the other, until each is taken or refused for good.

What a receiver cannot take now waits in the journal, and holds up nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from server.sinks.aside import aside
from server.sinks.cursor import Cursor, CursorFile
from server.sinks.source import Source
from shim import outbox
from shim.errors import HookshimError, JournalError
from shim.outbox import Batch, Entry

log = structlog.get_logger(__name__)

#: Seconds: how old an event may be that a sink tells which never told any. A first start shall not flood its receiver.
FIRST_LOOK_BACK: Final = 3600.0

#: Events that are read at once.
_BATCH: Final = 100

#: Seconds between tries: at random up to the first, which doubles up to the second.
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0

#: Seconds after a failure that nobody expected.
_AFTER_BUG: Final = 30.0


class NotNowError(HookshimError):
    """The receiver cannot take an event now; it is to be tried again, not before ``after`` seconds."""

    def __init__(self, reason: str, after: float = 0) -> None:
        super().__init__(reason)
        self.after = after


class RefusedError(HookshimError):
    """The receiver will never take this event. ``kind`` names the cause, for which the reason says what to do.

    ``memory`` is what it wants remembered all the same.
    """

    def __init__(self, kind: str, reason: str, memory: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.memory = memory


class Receiver(Protocol):
    """Who is told."""

    @property
    def name(self) -> str:
        """A short name, in file names and log lines."""
        ...

    async def take(self, entry: Entry, memory: Mapping[str, Any]) -> Mapping[str, Any]:
        """Tell it one event; returns what to remember, from what was remembered last.

        Told again with the same ``memory`` (a process has died between) it is to have the same effect. Raises
        NotNowError, RefusedError.
        """
        ...


@dataclass(slots=True)
class Counts:
    """What became of the events since the start. ``gone``: the journal's retention came first."""

    taken: int = 0
    refused: int = 0
    gone: int = 0


class Courier:
    """One receiver's courier; ``run`` never returns."""

    def __init__(self, receiver: Receiver, source: Source, file: CursorFile) -> None:
        self.name = receiver.name
        self.counts = Counts()
        self._receiver = receiver
        self._source = source
        self._file = file
        self._cursor: Cursor | None = None
        self._refused: Counter[str] = Counter()
        self._log = log.bind(sink=receiver.name)

    async def run(self) -> None:
        """Tell every event, until cancelled."""
        self._cursor = await aside(self._file.load)
        while True:
            try:
                await self._retrying(self._tell_all)
                await self._source.changed()
            except Exception:  # noqa: BLE001 - a bug with one event is to be no other's end
                self._log.exception("a sink met a bug; it goes on where it was")
                await asyncio.sleep(_AFTER_BUG)

    async def _tell_all(self) -> None:
        while True:
            batch = await self._read()
            if batch is None:
                return
            if batch.gone:
                self.counts.gone += batch.gone
                self._log.error(
                    "events were deleted by the journal's retention before they could be told", events=batch.gone
                )
            memory = self._cursor.memory if self._cursor else {}
            if self._cursor is None or self._cursor.place != batch.place:
                await self._save(Cursor(batch.place, memory))
            for entry in batch.entries:
                await self._retrying(self._tell, entry)
            if not batch.entries:
                return

    async def _read(self) -> Batch | None:
        place = self._cursor.place if self._cursor else None
        since = time.time() - FIRST_LOOK_BACK
        try:
            return await self._source.read(lambda store: outbox.read(store, place, since, _BATCH))
        except JournalError as error:
            raise NotNowError(str(error)) from error

    async def _tell(self, entry: Entry) -> None:
        if self._cursor is None:
            raise RuntimeError("an entry without a place")
        memory = self._cursor.memory
        try:
            memory = await self._receiver.take(entry, memory)
            self.counts.taken += 1
        except RefusedError as error:
            memory = memory if error.memory is None else error.memory
            self._refuse(entry, error)
        await self._save(Cursor(outbox.Place(self._cursor.place.born, entry.id), memory))

    def _refuse(self, entry: Entry, error: RefusedError) -> None:
        self.counts.refused += 1
        self._refused[error.kind] += 1
        times = self._refused[error.kind]
        # Each is counted; the log is told at the first, second, fourth, eighth …
        if times.bit_count() == 1:
            self._log.warning(
                "an event is not told, and will not be",
                cause=error.kind,
                reason=str(error),
                times=times,
                event_reason=entry.event.reason,
                namespace=entry.event.container.namespace,
                pod=entry.event.container.pod,
                container=entry.event.container.id,
                container_name=entry.event.container.name,
                delivery=entry.event.delivery_id,
            )

    async def _save(self, cursor: Cursor) -> None:
        # In any case: what is not saved is told again after a restart, and not before.
        self._cursor = cursor
        try:
            await aside(lambda: self._file.save(cursor))
        except OSError as error:
            self._log.warning(
                "a sink's cursor cannot be written; what follows is told again after a restart",
                path=str(self._file.path),
                reason=error.strerror,
            )

    async def _retrying(self, work: Callable[..., Awaitable[None]], *arguments: Entry) -> None:
        backoff = wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(backoff(state), error.after if isinstance(error, NotNowError) else 0)

        def failed(state: RetryCallState) -> None:
            # A night without a receiver fills no disk.
            if state.attempt_number.bit_count() == 1:
                reason = str(state.outcome.exception()) if state.outcome else ""
                self._log.warning("events wait to be told", attempt=state.attempt_number, reason=reason)

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(NotNowError), wait=wait, before_sleep=failed, reraise=True
        ):
            with attempt:
                await work(*arguments)
                if attempt.retry_state.attempt_number > 1:
                    self._log.info("events are told again", attempt=attempt.retry_state.attempt_number)
