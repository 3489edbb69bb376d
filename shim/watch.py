"""One container whose end is to be told of: its records, and their moves. The telling is ``shim.post_stop``'s.

Nothing is awaited between a look at a record and the change that is owed for it: whoever comes first moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from shim.changes import Change, InsertOperation, UpdateOperation
from shim.failpoints import Failpoint
from shim.ledger import Ledger
from shim.moves import hurried, inserted, moved, opened, postponed, sent, settled, withdrawn
from shim.records import Delivery, DeliveryState, Ending, Operation, OperationState, Outcome
from shim.table import DeliveryEvent, OperationEvent
from shim.tools import Tools


class Watch:
    """One container whose end is to be told of: its records, from its start until all is told.

    What happens to it is recorded with the ledger's next commit, in the order in which it happened.
    """

    def __init__(self, tools: Tools, operation: Operation, deliveries: Sequence[Delivery]) -> None:
        self._tools = tools
        self.ledger = Ledger(tools)
        self.operation = operation
        self.deliveries = list(deliveries)
        self._started_at = 0.0
        closed = (DeliveryState.ARMED, DeliveryState.SKIPPED)
        self.ended = operation.ending is not None or any(delivery.state not in closed for delivery in deliveries)
        #: What its owner has said of each: that it is not to be told, or at once.
        self.withdrawn = [asyncio.Event() for _ in deliveries]
        self.hurried = [asyncio.Event() for _ in deliveries]
        #: Those that are being told.
        self.telling: set[asyncio.Task[None]] = set()

    def inserted(self) -> list[Change]:
        """The changes that begin it."""
        return [InsertOperation(self.operation), *(change for one in self.deliveries for change in inserted(one))]

    def started(self) -> None:
        """Its container has run.

        That is written at once, not when its PostStart is over: of one that is gone then, nothing else tells it.
        """
        if self.operation.state is OperationState.ACCEPTED:
            self._started_at = self._tools.clock.wall()
            self._move(OperationEvent.STARTED)
            self._tools.tasks.spawn(self.ledger.note(), f"started {self.operation.container.id}")

    def never(self) -> None:
        """Its container was never started: there is nothing to tell."""
        if self.ended:
            return
        for index, delivery in enumerate(self.deliveries):
            if delivery.state.open:
                self.settle(index, Outcome(), DeliveryEvent.START_FAILED)
        self.over()

    def tell(self, ending: Ending) -> None:
        """This is how its container ended: its hooks are due."""
        self.started()
        self.ended = True
        if not ending.started_at:
            # Of one that was removed before it could be asked about, the runtime's event tells the end alone.
            ending = replace(ending, started_at=self._started_at)
        self.operation = replace(self.operation, ending=ending)
        self.ledger.owe(UpdateOperation(self.operation, self.operation.state))
        for index, delivery in enumerate(self.deliveries):
            if delivery.state.open:
                self.deliveries[index], change = opened(delivery, DeliveryEvent.ENDED)
                self.ledger.owe(change)

    def find(self, delivery_id: str) -> int | None:
        """Where a delivery is among these, if it is."""
        return next((index for index, one in enumerate(self.deliveries) if one.id == delivery_id), None)

    async def withdraw(self, index: int, why: str) -> None:
        """Take an open one back for its owner: recorded first, then an attempt that runs is ended."""
        self.deliveries[index], changes = withdrawn(self._tools.clock.wall(), self.deliveries[index], why)
        self.ledger.owe(*changes)
        if not self.ended and not any(delivery.state.open for delivery in self.deliveries):
            self.over()
        await self.ledger.note()
        await self._tools.hit(Failpoint.OWNER_ACCEPTED)
        self.withdrawn[index].set()

    async def hurry(self, index: int) -> None:
        """Let one that waits for its next attempt have it now."""
        self.deliveries[index], change = hurried(self._tools.clock.wall(), self.deliveries[index])
        await self.ledger.note(change)
        await self._tools.hit(Failpoint.OWNER_ACCEPTED)
        self.hurried[index].set()

    def send(self, index: int) -> None:
        """One more attempt of one of them begins."""
        self.hurried[index].clear()
        self.deliveries[index], changes = sent(self._tools.clock.wall(), self.deliveries[index])
        self.ledger.owe(*changes)

    def postpone(self, index: int, outcome: Outcome, seconds: float) -> None:
        """An attempt has failed, and the next one begins in ``seconds``."""
        now = self._tools.clock.wall()
        self.deliveries[index], changes = postponed(now, self.deliveries[index], outcome, now + seconds)
        self.ledger.owe(*changes)

    def settle(self, index: int, outcome: Outcome, event: DeliveryEvent) -> None:
        """One of them has its outcome."""
        self.deliveries[index], changes = settled(self._tools.clock.wall(), self.deliveries[index], outcome, event)
        self.ledger.owe(*changes)

    def over(self) -> None:
        """Nothing is left to be told."""
        self.ended = True
        self._move(OperationEvent.END)

    def _move(self, event: OperationEvent) -> None:
        self.operation, change = moved(self._tools.clock.wall(), self.operation, event)
        self.ledger.owe(change)
