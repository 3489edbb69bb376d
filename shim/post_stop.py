"""postStop: what is told of a container's end, at least once, however it ended and whoever was there to see it.

A removed container has neither annotations nor a name, so who it is and what it declares is written down while it
lives: with its start, or when a container is found running that has no such record. From its end on, each hook is
sent until it succeeds or its time is over, over restarts and reboots. Nothing here holds up an end or a removal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from shim import texts
from shim.actions import Declared, LifecycleHandler
from shim.changes import Change, InsertOperation, UpdateOperation
from shim.countdown import Countdown
from shim.drafts import Drafts
from shim.errors import RuntimeCallError
from shim.hooks import pause
from shim.ledger import Ledger
from shim.lifecycle import handler_from_json
from shim.moves import inserted, moved, opened, postponed, sent, settled
from shim.ports import Attempt, Container, Pod
from shim.records import (
    ContainerState,
    Delivery,
    DeliveryState,
    Ending,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)
from shim.table import DeliveryEvent, OperationEvent
from shim.tools import Tools

log = structlog.get_logger(__name__)

#: Seconds for one attempt: nobody waits for it, but a receiver that hangs must not be waited for all day.
ATTEMPT = 30.0

#: How many attempts run at once: a node's containers may all end in the same moment.
AT_ONCE = 64


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
        self.ended = any(delivery.state is not DeliveryState.ARMED for delivery in deliveries)

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
        for index in range(len(self.deliveries)):
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
            self.deliveries[index], change = opened(delivery, DeliveryEvent.ENDED)
            self.ledger.owe(change)

    def send(self, index: int) -> None:
        """One more attempt of one of them begins."""
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


class PostStops:
    """The postStop hooks of all containers."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._watches: dict[str, Watch] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._adopting = asyncio.Lock()

    def arm(self, container: Container, hooks: Sequence[Declared]) -> Watch:
        """Records of the hooks of a container that is about to start or runs; nothing is committed yet."""
        drafts = Drafts(self._tools)
        operation = drafts.operation(container, OperationKind.END, Reason.ENDED, 0)
        if container.state.stoppable:
            operation = replace(operation, state=OperationState.FORWARDED)
        deliveries = drafts.deliveries(operation, hooks, DeliveryState.ARMED)
        return Watch(self._tools, operation, deliveries)

    def watch(self, watch: Watch) -> None:
        """Its records are in the journal: wait for its container's end."""
        self._watches[watch.operation.container.id] = watch

    def of(self, container_id: str) -> Watch | None:
        """What is watched of this container."""
        return self._watches.get(container_id)

    def ran(self, container_id: str) -> bool:
        """Whether a watched container is known to have run."""
        watch = self._watches.get(container_id)
        return watch is not None and watch.operation.state is OperationState.FORWARDED

    async def adopt(self, container: Container, hooks: Sequence[Declared]) -> None:
        """Watch a running container that has no record yet. Raises JournalUnavailableError."""
        async with self._adopting:
            await self._adopt(container, hooks)

    async def _adopt(self, container: Container, hooks: Sequence[Declared]) -> None:
        if container.ref.id in self._watches:
            return
        recorded = await self._tools.journal.deliveries_of(container.ref.id)
        if any(delivery.hook is Hook.POST_STOP and delivery.state is not DeliveryState.VOID for delivery in recorded):
            return
        watch = self.arm(container, hooks)
        await watch.ledger.write(*watch.inserted())
        self.watch(watch)
        # It may have ended since it was found running, when nobody was to be told.
        await self._look_at(container.ref.id)

    def resume(self, operation: Operation, deliveries: Sequence[Delivery]) -> None:
        """Go on with an operation that recovery found open."""
        watch = Watch(self._tools, operation, deliveries)
        self.watch(watch)
        if watch.ended:
            self._begin(watch)

    def ended(self, container_id: str, ending: Ending | None) -> None:
        """A container has ended (None: it is gone, and nobody knows how it ended)."""
        watch = self._watches.get(container_id)
        if watch is None or watch.ended:
            return
        # What has run is told of, whatever the runtime has forgotten.
        if watch.operation.state is OperationState.ACCEPTED and (ending is None or not ending.started):
            watch.never()
        else:
            watch.tell(ending if ending is not None and ending.finished_at else self._unknown(ending))
        self._begin(watch)

    async def look(self) -> None:
        """Find out which of the watched have ended unseen. Raises RuntimeCallError."""
        for container_id in [one for one, watch in self._watches.items() if not watch.ended]:
            try:
                await self._look_at(container_id)
            except RuntimeCallError as error:
                if error.ambiguous:
                    raise
                # One that the runtime cannot tell about must not keep the others from being told of.
                log.exception("the end of a container cannot be looked for", container=container_id)

    async def _look_at(self, container_id: str) -> None:
        state = await self._tools.runtime.state(container_id)
        if state is None:
            self.ended(container_id, None)
        elif state is ContainerState.EXITED:
            ending = await self._tools.runtime.ending(container_id)
            if ending is not None and not ending.started:
                await self._tools.runtime.clear_leftover(container_id)
            self.ended(container_id, ending)
        elif state.stoppable and (watch := self._watches.get(container_id)) is not None:
            watch.started()
            await watch.ledger.note()

    def _unknown(self, ending: Ending | None = None) -> Ending:
        """An end of which nobody knows when it was: it counts from now."""
        now = self._tools.clock.wall()
        if ending is not None:
            return replace(ending, finished_at=now)
        return Ending(started=True, exit_code=None, reason="Unknown", finished_at=now)

    def changed(self, watch: Watch) -> None:
        """Write what has become of a watch, and forget one that is over."""
        if watch.operation.state is OperationState.DONE:
            self._watches.pop(watch.operation.container.id, None)
        self._tools.tasks.spawn(watch.ledger.settle(), f"postStop {watch.operation.container.id}", patient=True)

    def _begin(self, watch: Watch) -> None:
        self._tools.tasks.spawn(self._tell_all(watch), f"postStop {watch.operation.container.id}", patient=True)

    async def _tell_all(self, watch: Watch) -> None:
        # How it ended, before it is removed and while others are told of theirs.
        await watch.ledger.note()
        hooks = [
            self._tools.tasks.spawn(self._tell(watch, index), f"postStop {delivery.id}", patient=True)
            for index, delivery in enumerate(watch.deliveries)
            if delivery.state.open
        ]
        if hooks:
            await asyncio.wait(hooks)
        if any(delivery.state.open for delivery in watch.deliveries):
            # Left to the next start: this process ends, or has met a bug that the task has logged.
            return
        if watch.operation.state is not OperationState.DONE:
            watch.over()
        self.changed(watch)

    async def _tell(self, watch: Watch, index: int) -> None:
        """Send one hook until it has arrived or its time is over; they begin in order and wait for none that failed."""
        try:
            await self._send_until_over(watch, index)
        except Exception:
            log.exception("a postStop met a bug and is left to the next start", delivery=watch.deliveries[index].id)

    async def _send_until_over(self, watch: Watch, index: int) -> None:
        clock, handler = self._tools.clock, handler_from_json(watch.deliveries[index].handler)
        ending = watch.operation.ending or self._unknown()
        until = ending.finished_at + (handler.timeout or self._tools.settings.post_stop)
        while True:
            if (next_at := watch.deliveries[index].next_attempt_at) is not None:
                # Never longer than a pause is: the node's clock may have been set back since.
                await asyncio.sleep(min(max(0.0, next_at - clock.wall()), handler.retry.max_backoff))
            async with self._slots:
                watch.send(index)
                await watch.ledger.note()
                outcome = await self._attempt(watch, index, handler, ending)
            tries = watch.deliveries[index].attempts - watch.deliveries[index].interruptions
            if outcome.succeeded:
                watch.settle(index, outcome, DeliveryEvent.SUCCEEDED)
                return
            seconds = pause(handler.retry, tries)
            enough = handler.retry.attempts is not None and tries >= handler.retry.attempts
            if enough or outcome.permanent or clock.wall() + seconds > until:
                watch.settle(index, outcome, DeliveryEvent.FAILED)
                return
            watch.postpone(index, outcome, seconds)
            await watch.ledger.note()

    async def _attempt(self, watch: Watch, index: int, handler: LifecycleHandler, ending: Ending) -> Outcome:
        delivery = watch.deliveries[index]
        container = await self._container(watch)
        attempt = Attempt(
            delivery.id,
            delivery.attempts,
            delivery.hook,
            handler,
            container,
            ATTEMPT,
            source=delivery.source,
            ending=ending,
        )
        budget = Countdown(self._tools.clock, self._tools.clock.boottime() + ATTEMPT)
        work = asyncio.create_task(self._tools.handlers[type(handler.action)].deliver(attempt), name=delivery.id)
        over = asyncio.create_task(budget.over(), name=f"budget {delivery.id}")
        try:
            await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            why = texts.timed_out(ATTEMPT)
        except Exception as error:
            log.exception("a handler raised", delivery=delivery.id, container=container.ref.id)
            why = f"internal error: {type(error).__name__}"
        finally:
            for task in (work, over):
                task.cancel()
            await asyncio.wait({work, over})
        return Outcome(texts.failed(handler.action, container.ref, why))

    async def _container(self, watch: Watch) -> Container:
        """The container as far as it is still known: it may have been removed."""
        ref = watch.operation.container
        try:
            found = await self._tools.runtime.find(ref.id)
        except RuntimeCallError:
            found = None
        pod = Pod(ref.sandbox_id, ref.pod, ref.namespace, ref.uid, {}, (), host_network=False)
        return found or Container(ref, ContainerState.EXITED, {}, pod)
