"""One container's writing hand: what is done to the table's records, in order, and what the disk still owes.

Accepting needs the journal (``write``). What has happened already is recorded if it can be (``note``): a disk that
is full then keeps nothing from being stopped, and the missing records are written with the next commit that works.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from shim import texts
from shim.changes import Change, InsertEvent, UpdateDelivery, UpdateOperation
from shim.errors import JournalConflictError, JournalUnavailableError
from shim.records import ANNOUNCED, Delivery, DeliveryState, Operation, OperationState, Outcome
from shim.table import DeliveryEvent, OperationEvent, next_delivery, next_operation
from shim.tools import Tools

log = structlog.get_logger(__name__)


#: Seconds that something which has happened waits for its record: a disk that hangs must not keep containers alive.
PATIENCE = 5.0


class Ledger:
    """Writes the records of one container's operations."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._owed: tuple[Change, ...] = ()
        self._paying: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def write(self, *changes: Change) -> None:
        """Commit before a side effect. Raises JournalUnavailableError; then nothing was accepted."""
        async with self._writing:
            if self._paying is not None:
                await asyncio.wait({self._paying})
            if wanted := (*self._owed, *changes):
                await self._tools.journal.commit(*wanted)
            self._owed = ()
        self._announce(changes)

    async def note(self, *changes: Change) -> None:
        """Record what happened. Never raises, and never waits long: what cannot be written now is owed."""
        async with self._writing:
            self._owed = (*self._owed, *changes)
            if self._paying is None or self._paying.done():
                self._paying = self._tools.tasks.spawn(self._pay(), "commit")
            await asyncio.wait({self._paying}, timeout=PATIENCE)
            if not self._paying.done():
                log.error("the journal does not answer: going on without waiting for the record", seconds=PATIENCE)
        self._announce(changes)

    async def _pay(self) -> None:
        """Write what is owed, in its order: a change is handed in only when the one that it builds on is written."""
        while wanted := self._owed:
            try:
                await self._tools.journal.commit(*wanted)
            except JournalUnavailableError as error:
                log.error("the journal cannot be written: going on without a record", error=str(error))
                return
            except JournalConflictError:
                log.exception("the journal does not agree with what happened; its own record stands")
            self._owed = self._owed[len(wanted) :]

    @property
    def owes(self) -> bool:
        """Whether something has happened that is not written."""
        return bool(self._owed)

    async def settle(self) -> None:
        """Write what is still owed, for as long as it takes."""
        async for attempt in AsyncRetrying(
            wait=wait_exponential(0.5, max=30), retry=retry_if_exception_type(JournalUnavailableError)
        ):
            with attempt:
                await self.write()

    def moved(self, operation: Operation, event: OperationEvent, error: str = "") -> tuple[Operation, Change]:
        """The operation after ``event``, and the change that says so."""
        state = next_operation(operation.kind, operation.state, event)
        finished = self._tools.clock.wall() if state is OperationState.DONE else None
        after = replace(operation, state=state, finished_at=finished, error=error)
        return after, UpdateOperation(after, operation.state)

    def sent(self, delivery: Delivery, *before: DeliveryEvent) -> tuple[Delivery, Change]:
        """The delivery with one more attempt begun, after the events ``before`` it."""
        after = replace(
            delivery, state=_walk(delivery.state, *before, DeliveryEvent.SEND), attempts=delivery.attempts + 1
        )
        return after, UpdateDelivery(after, delivery.state)

    def settled(self, delivery: Delivery, outcome: Outcome, *events: DeliveryEvent) -> tuple[Delivery, list[Change]]:
        """The delivery with its outcome, and the changes that say so: its row, and an event if people should hear."""
        at = self._tools.clock.wall()
        after = replace(delivery, state=_walk(delivery.state, *events), outcome=outcome, finished_at=at)
        changes: list[Change] = [UpdateDelivery(after, delivery.state)]
        if after.state in ANNOUNCED:
            changes.append(InsertEvent(texts.event(at, after)))
        return after, changes

    def _announce(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if isinstance(change, InsertEvent):
                self._tools.announce(change.event)


def _walk(state: DeliveryState, *events: DeliveryEvent) -> DeliveryState:
    for event in events:
        state = next_delivery(state, event)
    return state
