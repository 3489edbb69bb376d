"""The hooks of one operation, delivered one after another, each with all of its attempts.

A start's and a stop's differ in what ends them early; what became of each is recorded here, and the changes of the
last are left to the operation, which commits them with its own next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import structlog
from tenacity import AsyncRetrying, RetryCallState, wait_exponential, wait_random

from shim import texts
from shim.actions import LifecycleHandler, OnFailure, Retry
from shim.attempt import Result, carry_out
from shim.changes import Change, NoteExecution
from shim.countdown import Countdown
from shim.failpoints import Failpoint
from shim.ledger import Ledger
from shim.lifecycle import handler_from_json
from shim.moves import hurried, opened, postponed, sent, settled, withdrawn
from shim.ports import Attempt, Container
from shim.records import Delivery, DeliveryState, Execution, Hook, Outcome
from shim.table import DeliveryEvent
from shim.tools import Tools
from shim.waking import Flag

log = structlog.get_logger(__name__)

_RAN = {Hook.POST_START: Failpoint.POST_START_RAN, Hook.PRE_STOP: Failpoint.PRE_STOP_RAN}

#: What becomes of the hooks that come after one that ended so, and why.
_AFTER_EXIT = (DeliveryEvent.NOT_DUE, texts.ENDED_FIRST)
_AFTER_FAILURE = (DeliveryEvent.NOT_DUE, texts.EARLIER_FAILED)
_AFTER_STOP = (DeliveryEvent.GIVEN_UP, texts.STOPPED)
_AFTER_GRACE = (DeliveryEvent.GIVEN_UP, texts.NO_TIME_LEFT)


class HookRun:
    """Delivers ``deliveries`` in their order.

    Afterwards, ``failure`` is of a PostStart that is to end its container, ``exited`` says that the container ended
    by itself, ``cut`` that a stop has kept one of them from succeeding.
    """

    def __init__(self, tools: Tools, ledger: Ledger, container: Container, deliveries: Sequence[Delivery]) -> None:
        self._tools = tools
        self._ledger = ledger
        self._container = container
        self.deliveries = list(deliveries)
        self.failure: Outcome | None = None
        self.exited = False
        self.cut = False
        self._stopped = Flag()
        self._withdrawn = [Flag() for _ in self.deliveries]
        self._hurried = [asyncio.Event() for _ in self.deliveries]
        self._changes: list[Change] = []
        self._committed = Failpoint.HOOK_SENT
        self._writing: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Whether any of them has no outcome yet."""
        return any(delivery.state.open for delivery in self.deliveries)

    def foresee(self) -> None:
        """The first one is about to be due: let its handler look up what it will need."""
        first = next((delivery for delivery in self.deliveries if delivery.state.open), None)
        if first is not None and (handler := self._tools.foreseeing(first)):
            handler.foresee(self._container)

    def stop(self) -> None:
        """End the one that runs, and let none begin."""
        self._stopped.set()

    def opened(self) -> list[Change]:
        """Make all that are armed due; the first will be so by being sent."""
        changes: list[Change] = []
        for index, delivery in enumerate(self.deliveries[1:], start=1):
            if delivery.state is DeliveryState.ARMED:
                self.deliveries[index], change = opened(delivery, DeliveryEvent.STARTED)
                changes.append(change)
        return changes

    def find(self, delivery_id: str) -> int | None:
        """Where a delivery is among these, if it is."""
        return next((index for index, one in enumerate(self.deliveries) if one.id == delivery_id), None)

    async def withdraw(self, index: int, why: str) -> None:
        """Take an open one back for its owner: recorded first, then an attempt that runs is ended.

        Nothing is awaited between a look at a delivery's state and the record of the next: whoever comes first moves
        it, and the ledger writes in that order.
        """
        self.deliveries[index], changes = withdrawn(self._tools.clock.wall(), self.deliveries[index], why)
        await self._ledger.note(*changes)
        await self._tools.hit(Failpoint.OWNER_ACCEPTED)
        self._withdrawn[index].set()

    async def hurry(self, index: int) -> None:
        """Let one that waits for its next attempt have it now."""
        self.deliveries[index], change = hurried(self._tools.clock.wall(), self.deliveries[index])
        await self._ledger.note(change)
        await self._tools.hit(Failpoint.OWNER_ACCEPTED)
        self._hurried[index].set()

    def skip(self, source: str, why: str) -> list[Change]:
        """Leave out those that ``source`` has declared."""
        self._changes = []
        for index, delivery in enumerate(self.deliveries):
            if delivery.source == source and delivery.state is DeliveryState.PENDING:
                self._settle(index, Outcome(why), DeliveryEvent.NOT_DUE)
        return self._changes

    def settled(self, why: str, *events: DeliveryEvent) -> list[Change]:
        """The same outcome for all that are open, ``why`` in the handlers' sentences unless it is empty."""
        self._changes = []
        for index, delivery in enumerate(self.deliveries):
            if delivery.state.open:
                self._settle(index, Outcome(self._text(delivery, why) if why else ""), *events)
        return self._changes

    async def go(
        self,
        countdown: Countdown,
        changes: Sequence[Change] = (),
        *,
        again: bool = False,
        committed: Failpoint = Failpoint.HOOK_SENT,
    ) -> list[Change]:
        """Deliver all that are open, within ``countdown``; the last outcomes' changes, which are not committed yet.

        ``changes`` are committed with what begins the first, and ``committed`` stands behind that. ``again``: recovery
        has found them open.
        """
        self._changes = list(changes)
        self._committed = committed
        rest: tuple[DeliveryEvent, str] | None = None
        begun = False
        for index, delivery in enumerate(self.deliveries):
            if not delivery.state.open:
                continue
            if delivery.state is not DeliveryState.DELIVERING:
                rest = rest or self._too_late(countdown, begun=begun)
                if rest is not None:
                    self._leave_out(index, *rest)
                    continue
            result = await self._deliver(index, countdown, again=again)
            again, begun = False, True
            if result is None:
                continue
            self._settle(index, result.outcome, result.event)
            rest = self._after(index, result)
        return self._changes

    def _leave_out(self, index: int, event: DeliveryEvent, why: str) -> None:
        delivery = self.deliveries[index]
        text = why if event is DeliveryEvent.NOT_DUE else self._text(delivery, why)
        first = (DeliveryEvent.STARTED,) if delivery.state is DeliveryState.ARMED else ()
        self._settle(index, Outcome(text), *first, event)

    def _too_late(self, countdown: Countdown, *, begun: bool) -> tuple[DeliveryEvent, str] | None:
        if self._stopped.is_set():
            self.cut = True
            return _AFTER_STOP
        # The first one gets its chance, however little is left.
        return _AFTER_GRACE if begun and countdown.left() == 0 else None

    def _after(self, index: int, result: Result) -> tuple[DeliveryEvent, str] | None:
        if result.event is DeliveryEvent.CONTAINER_EXITED or self.exited:
            # Under the hook, or between two of its attempts.
            self.exited = True
            return _AFTER_EXIT
        if result.event in (DeliveryEvent.FAILED, DeliveryEvent.GIVEN_UP):
            if self._stopped.is_set():
                self.cut = True
                return _AFTER_STOP
            delivery = self.deliveries[index]
            handler = handler_from_json(delivery.handler)
            # One that its owner has asked for again ends nobody: its container has lived on without it.
            kills = handler.on_failure is OnFailure.KILL and delivery.retried_at is None
            if delivery.hook is Hook.POST_START and kills:
                self.failure = result.outcome
                return _AFTER_FAILURE
        return None

    def _settle(self, index: int, outcome: Outcome, *events: DeliveryEvent) -> None:
        self.deliveries[index], changes = settled(self._tools.clock.wall(), self.deliveries[index], outcome, *events)
        self._changes += changes

    async def _deliver(self, index: int, countdown: Countdown, *, again: bool) -> Result | None:
        """One hook, with all of its attempts. It is delivering or pending afterwards; None: its owner took it back."""
        handler = handler_from_json(self.deliveries[index].handler)
        clock = self._tools.clock
        own = Countdown(clock, None if handler.timeout is None else clock.boottime() + handler.timeout)
        bounds = (countdown, own)
        find = again and self.deliveries[index].state is DeliveryState.DELIVERING
        while True:
            if not find:
                await self._send(index, again=again)
            result = None if self._taken_back(index) else await self._attempt(index, handler, bounds, find=find)
            if result is None or self._taken_back(index):
                return None
            if result.event is DeliveryEvent.INTERRUPTED:
                find, again = False, True
                if (given_up := self._given_up(index)) is not None:
                    return given_up
                continue
            await self._tools.hit(_RAN[self.deliveries[index].hook])
            find = again = False
            last = None if self._taken_back(index) else await self._pause(index, handler.retry, result, bounds)
            if self._taken_back(index):
                return None
            if last is not None:
                return last

    def _taken_back(self, index: int) -> bool:
        return not self.deliveries[index].state.open

    def _given_up(self, index: int) -> Result | None:
        """The end of a delivery that was interrupted too often."""
        delivery = self.deliveries[index]
        times = delivery.interruptions + 1
        if times < self._tools.settings.max_interruptions:
            return None
        self.deliveries[index] = replace(delivery, interruptions=times)
        return Result(DeliveryEvent.FAILED, Outcome(self._text(delivery, texts.interrupted(times))))

    async def _send(self, index: int, *, again: bool) -> None:
        delivery = self.deliveries[index]
        if delivery.state is DeliveryState.DELIVERING and not again:
            # Accepted in this very moment, with its first attempt.
            await self._commit()
            return
        if again:
            await self._tools.hit(Failpoint.RECOVERY_SEND)
            if self._taken_back(index):
                return
        self._hurried[index].clear()
        foreseeing = self._tools.foreseeing(delivery)
        execution = foreseeing.begins if foreseeing else None
        self.deliveries[index], changes = sent(self._tools.clock.wall(), delivery, execution)
        self._changes += changes
        committed, self._committed = Failpoint.RECOVERY_SENT if again else self._committed, Failpoint.HOOK_SENT
        changes, self._changes = self._changes, []
        writing = self._write(changes, committed)
        if foreseeing:
            self._writing = self._tools.tasks.spawn(writing, f"send {delivery.id}")
        else:
            await writing

    async def _write(self, changes: Sequence[Change], committed: Failpoint) -> None:
        await self._ledger.note(*changes)
        await self._tools.hit(committed)

    async def _sent(self) -> None:
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def _attempt(
        self, index: int, handler: LifecycleHandler, bounds: tuple[Countdown, ...], *, find: bool
    ) -> Result:
        delivery = self.deliveries[index]
        left = [seconds for bound in bounds if (seconds := bound.left()) is not None]
        attempt = Attempt(
            delivery.id,
            delivery.attempts,
            delivery.hook,
            handler,
            self._container,
            min(left, default=None),
            source=delivery.source,
            execution=delivery.execution,
            record=partial(self._record, delivery.id, delivery.attempts),
            sent=self._sent,
        )
        result = await carry_out(self._tools, attempt, bounds, self._stopped, self._withdrawn[index], find=find)
        # One that was refused may have been so before it was written down.
        await self._sent()
        return result

    async def _record(self, delivery_id: str, number: int, execution: Execution) -> None:
        await self._sent()
        await self._ledger.note(NoteExecution(delivery_id, number, execution))

    async def _pause(self, index: int, retry: Retry, result: Result, bounds: tuple[Countdown, ...]) -> Result | None:
        """Wait until a hook that failed may be tried again; None then, and the last word if it may not."""
        tries = self.deliveries[index].tries
        if result.event is not DeliveryEvent.FAILED or self._stopped.is_set() or result.outcome.permanent:
            return result
        if retry.attempts is not None and tries >= retry.attempts:
            return result
        seconds = pause(retry, tries)
        if any(left is not None and left <= seconds for left in (bound.left() for bound in bounds)):
            return result
        now = self._tools.clock.wall()
        self.deliveries[index], changes = postponed(now, self.deliveries[index], result.outcome, now + seconds)
        self._changes += changes
        await self._commit()
        await self._tools.hit(Failpoint.HOOK_POSTPONED)
        return await self._idle(index, seconds, result, bounds)

    async def _idle(self, index: int, seconds: float, result: Result, bounds: tuple[Countdown, ...]) -> Result | None:
        what = f"{self.deliveries[index].id} before its next attempt"
        ended = asyncio.create_task(self._tools.runtime.wait_ended(self._container.ref.id), name=f"ended {what}")
        stop = asyncio.create_task(self._stopped.wait(), name=f"stop {what}")
        over = [asyncio.create_task(bound.over(), name=f"budget {what}") for bound in bounds]
        asked = {
            asyncio.create_task(event.wait(), name=f"owner {what}")
            for event in (self._hurried[index], self._withdrawn[index])
        }
        tasks: set[asyncio.Task[object]] = {ended, stop, *over, *asked}
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if ended in done and ended.exception() is None:
            self.exited = True
            return Result(DeliveryEvent.NOT_DUE, Outcome(texts.ENDED_FIRST))
        if stop in done:
            return Result(DeliveryEvent.GIVEN_UP, Outcome(self._text(self.deliveries[index], texts.STOPPED)))
        return Result(DeliveryEvent.GIVEN_UP, result.outcome) if done - asked else None

    async def _commit(self) -> None:
        changes, self._changes = self._changes, []
        if changes:
            await self._ledger.note(*changes)

    def _text(self, delivery: Delivery, why: str) -> str:
        return texts.failed(handler_from_json(delivery.handler).action, self._container.ref, why)


def pause(retry: Retry, tries: int) -> float:
    """Seconds before the next attempt after ``tries`` that failed."""
    state = RetryCallState(retry_object=AsyncRetrying(), fn=None, args=(), kwargs={})
    state.attempt_number = tries
    grows = wait_exponential(multiplier=retry.backoff, max=retry.max_backoff) + wait_random(0, retry.backoff)
    return min(grows(state), retry.max_backoff)
