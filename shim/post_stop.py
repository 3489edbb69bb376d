"""postStop: what is told of a container's end, at least once, however it ended and whoever was there to see it.

A removed container has neither annotations nor a name, so who it is and what it declares is written down while it
lives: with its start, or when a container is found running that has no such record. From its end on, each hook is
sent until it succeeds or its time is over, over restarts and reboots. Nothing here holds up an end or a removal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace

import structlog

from shim import naming, texts
from shim.actions import Declared, LifecycleHandler
from shim.countdown import Countdown
from shim.drafts import Drafts
from shim.errors import HookshimError, JournalConflictError, RuntimeCallError
from shim.failpoints import Failpoint
from shim.hooks import pause
from shim.lifecycle import handler_from_json
from shim.moves import reopened
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
from shim.table import DeliveryEvent
from shim.tools import Tools
from shim.watch import Watch

log = structlog.get_logger(__name__)

#: Seconds for one attempt: nobody waits for it, but a receiver that hangs must not be waited for all day.
ATTEMPT = 30.0

#: How many attempts run at once: a node's containers may all end in the same moment.
AT_ONCE = 64


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
            self._forget(watch)
        self._tools.tasks.spawn(watch.ledger.settle(), f"postStop {watch.operation.container.id}", patient=True)

    def _forget(self, watch: Watch) -> None:
        if self._watches.get(watch.operation.container.id) is watch:
            del self._watches[watch.operation.container.id]

    def _begin(self, watch: Watch) -> None:
        with naming.of(watch.operation.container):
            self._tools.tasks.spawn(self._tell_all(watch), f"postStop {watch.operation.container.id}", patient=True)

    async def _tell_all(self, watch: Watch) -> None:
        # How it ended, before it is removed and while others are told of theirs.
        await watch.ledger.note()
        for index, delivery in enumerate(watch.deliveries):
            if delivery.state.open:
                self._spawn(watch, index)
        while telling := {task for task in watch.telling if not task.done()}:
            # Its owner may ask for another one meanwhile.
            await asyncio.wait(telling)
        if any(delivery.state.open for delivery in watch.deliveries):
            # Left to the next start: this process ends, or has met a bug that the task has logged.
            return
        if watch.operation.state is not OperationState.DONE:
            watch.over()
        self.changed(watch)

    def _spawn(self, watch: Watch, index: int) -> None:
        self._keep(watch, self._tell(watch, index), f"postStop {watch.deliveries[index].id}")

    def _keep(self, watch: Watch, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` on a watch that is not over before it."""
        with naming.of(watch.operation.container):
            task = self._tools.tasks.spawn(work, name, patient=True)
        watch.telling.add(task)
        task.add_done_callback(watch.telling.discard)
        return task

    async def withdraw(self, watch: Watch, index: int, why: str) -> None:
        """Take an open one back for its owner."""
        await watch.withdraw(index, why)
        if watch.operation.state is OperationState.DONE:
            self.changed(watch)

    async def tell_again(self, operation: Operation, deliveries: Sequence[Delivery], delivery_id: str) -> None:
        """Tell one of these once more, which has failed, for as long as a new one: its operation may be over.

        Raises JournalConflictError and JournalUnavailableError: then nothing was done.
        """
        watch = self._watches.get(operation.container.id)
        if watch is None:
            if operation.state is not OperationState.DONE:
                raise JournalConflictError(f"operation {operation.id} is being written")
            watch = Watch(self._tools, operation, deliveries)
            self.watch(watch)
        index = watch.find(delivery_id)
        if index is None or (watch.operation.state is OperationState.DONE and watch.telling):
            raise JournalConflictError(f"{operation.container.name} is watched anew")
        work = self._reopen(watch, index)
        # Whoever asks may leave: it is finished all the same.
        await asyncio.shield(self._keep(watch, work, f"postStop {delivery_id} once more"))

    async def _reopen(self, watch: Watch, index: int) -> None:
        over = watch.operation.state is OperationState.DONE
        clock = self._tools.clock
        before = watch.operation, watch.deliveries[index]
        try:
            operation, delivery, changes = reopened(clock.wall(), clock.boot_id, *before)
            await watch.ledger.write(*changes)
        except HookshimError:
            if over:
                self._forget(watch)
            raise
        watch.operation, watch.deliveries[index] = operation, delivery
        await self._tools.hit(Failpoint.OWNER_ACCEPTED)
        if over:
            self._begin(watch)
        else:
            self._spawn(watch, index)

    async def _tell(self, watch: Watch, index: int) -> None:
        """Send one hook until it has arrived or its time is over; they begin in order and wait for none that failed."""
        try:
            await self._send_until_over(watch, index)
        except Exception:
            log.exception("a postStop met a bug and is left to the next start", delivery=watch.deliveries[index].id)

    async def _send_until_over(self, watch: Watch, index: int) -> None:
        clock, handler = self._tools.clock, handler_from_json(watch.deliveries[index].handler)
        ending = watch.operation.ending or self._unknown()
        begin = max(ending.finished_at, watch.deliveries[index].retried_at or 0.0)
        until = begin + (handler.timeout or self._tools.settings.post_stop)
        while True:
            await self._idle(watch, index, handler)
            async with self._slots:
                outcome = await self._attempt(watch, index, handler, ending)
            if outcome is None:
                return
            if outcome.succeeded:
                watch.settle(index, outcome, DeliveryEvent.SUCCEEDED)
                return
            tries = watch.deliveries[index].tries
            seconds = pause(handler.retry, tries)
            enough = handler.retry.attempts is not None and tries >= handler.retry.attempts
            if enough or outcome.permanent or clock.wall() + seconds > until:
                watch.settle(index, outcome, DeliveryEvent.FAILED)
                return
            watch.postpone(index, outcome, seconds)
            await watch.ledger.note()

    async def _idle(self, watch: Watch, index: int, handler: LifecycleHandler) -> None:
        """Wait until its next attempt is due, or its owner says something."""
        if (next_at := watch.deliveries[index].next_attempt_at) is None:
            return
        # Never longer than a pause is: the node's clock may have been set back since.
        seconds = min(max(0.0, next_at - self._tools.clock.wall()), handler.retry.max_backoff)
        await _first_of((watch.hurried[index], watch.withdrawn[index]), seconds)

    async def _attempt(self, watch: Watch, index: int, handler: LifecycleHandler, ending: Ending) -> Outcome | None:
        """One attempt; None: its owner has taken it back."""
        if not watch.deliveries[index].state.open:
            return None
        watch.send(index)
        await watch.ledger.note()
        outcome = None
        if watch.deliveries[index].state.open:
            outcome = await self._deliver(watch, index, handler, ending)
        return outcome if watch.deliveries[index].state.open else None

    async def _deliver(self, watch: Watch, index: int, handler: LifecycleHandler, ending: Ending) -> Outcome:
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
        with naming.attempting(attempt):
            work = asyncio.create_task(self._tools.handlers[type(handler.action)].deliver(attempt), name=delivery.id)
        over = asyncio.create_task(budget.over(), name=f"budget {delivery.id}")
        owner = asyncio.create_task(watch.withdrawn[index].wait(), name=f"owner {delivery.id}")
        try:
            await asyncio.wait({work, over, owner}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            why = texts.timed_out(ATTEMPT)
        except Exception as error:
            log.exception("a handler raised", delivery=delivery.id, container=container.ref.id)
            why = f"internal error: {type(error).__name__}"
        finally:
            for task in (work, over, owner):
                task.cancel()
            await asyncio.wait({work, over, owner})
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


async def _first_of(events: Sequence[asyncio.Event], seconds: float) -> None:
    """Return when one of them is set, or after so many seconds."""
    tasks = {asyncio.ensure_future(event.wait()) for event in events}
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
