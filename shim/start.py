"""A start of one container, from its acceptance until its PostStart has an outcome.

The forwarded StartContainer may end without telling whether it had its effect (the runtime went away, the caller's
deadline passed): then only the container's state tells, and a container that is still CREATED tells nothing yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto

import structlog

from shim import texts
from shim.attempt import Result, carry_out
from shim.changes import Change
from shim.countdown import Countdown
from shim.errors import HookFailedError, HookshimError, RuntimeCallError, StoppedError
from shim.failpoints import Failpoint
from shim.ledger import Ledger
from shim.lifecycle import action_from_json
from shim.ports import Attempt, Container, Metadata
from shim.records import ContainerState, Delivery, DeliveryState, Operation, OperationState, Outcome
from shim.table import DeliveryEvent, OperationEvent
from shim.tools import Tools

log = structlog.get_logger(__name__)

#: Seconds between two looks at a container whose start is in doubt.
LOOK_MIN, LOOK_MAX = 0.1, 10.0

#: What a failed PostStart hands over: the changes of its own records, to be committed with the stop that they cause.
Kill = Callable[[list[Change]], Awaitable[None]]


class Fate(Enum):
    """What became of a StartContainer."""

    RUNNING = auto()
    ENDED = auto()
    NEVER = auto()


class StartRun:
    """One StartContainer that the engine makes, and the PostStart that is due after it, if there is one."""

    def __init__(
        self,
        tools: Tools,
        ledger: Ledger,
        container: Container,
        operation: Operation | None,
        delivery: Delivery | None,
        kill: Kill,
    ) -> None:
        """``operation`` and ``delivery`` are None for a container without a PostStart: nothing is recorded then."""
        self._tools = tools
        self._ledger = ledger
        self._container = container
        self._operation = operation
        self._delivery = delivery
        self._kill = kill
        self.hooked = delivery is not None
        self._stopped = asyncio.Event()
        self._look = asyncio.Event()
        self.answered = asyncio.Event()
        self.in_doubt = False
        self.ended = asyncio.Event()
        self.error: HookshimError | None = None

    def stop(self) -> None:
        """A stop was accepted: end the PostStart that is running or to come."""
        self._stopped.set()
        self._look.set()

    def look(self) -> None:
        """Another caller has tried to start the container: its state may have changed."""
        self._look.set()

    async def go(self, request: bytes, metadata: Metadata, seconds_left: float | None) -> bytes:
        """Forward, and deliver PostStart. The runtime's answer, once the hook has an outcome.

        Raises RuntimeCallError (the start failed, or is ``in_doubt``: then ``resume`` goes on without this caller),
        HookFailedError (the container has ended then), StoppedError.

        After the caller's deadline nothing is forwarded: there may be another container in its place by then.
        """
        if seconds_left == 0:
            await self._record(Outcome(), DeliveryEvent.START_FAILED)
            self._end()
            raise RuntimeCallError("DEADLINE_EXCEEDED", "the deadline passed before the container was started")
        try:
            response = await self._tools.runtime.start(request, metadata, seconds_left)
        except RuntimeCallError as error:
            if error.ambiguous:
                log.warning("a StartContainer is in doubt", container=self._container.ref.id, error=str(error))
                self.in_doubt = True
            else:
                await self._settle(definite=True)
            raise
        await self._tools.hit(Failpoint.START_ANSWERED)
        await self._hook()
        if self.error:
            raise self.error
        return response

    async def resume(self) -> None:
        """Find out what became of a start in doubt, or go on with a PostStart that recovery found open."""
        if self._operation and self._operation.state is OperationState.FORWARDED:
            await self._hook()
        else:
            self.in_doubt = True
            await self._settle(definite=False)

    async def _settle(self, *, definite: bool) -> None:
        """``definite``: the runtime has answered, so that CREATED means that it was not started."""
        fate = await self._fate(definite=definite)
        if fate is Fate.RUNNING:
            await self._hook()
            return
        if fate is Fate.ENDED:
            await self._missed()
        else:
            await self._record(Outcome(), DeliveryEvent.START_FAILED)
        self._end()

    async def _fate(self, *, definite: bool) -> Fate:
        pause = LOOK_MIN
        while True:
            self._look.clear()
            with suppress(RuntimeCallError):
                fate = await self._now()
                if fate is None and definite:
                    fate = Fate.NEVER
                if fate is not None:
                    return fate
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()
            pause = min(pause * 2, LOOK_MAX)

    async def _now(self) -> Fate | None:
        """What the container's state tells; None for CREATED, which tells nothing."""
        runtime, container_id = self._tools.runtime, self._container.ref.id
        state = await runtime.state(container_id)
        if state is ContainerState.CREATED:
            return None
        if state is not None and state.stoppable:
            return Fate.RUNNING
        ending = await runtime.ending(container_id)
        if ending is not None and ending.started:
            return Fate.ENDED
        if ending is not None:
            await runtime.clear_leftover(container_id)
        return Fate.NEVER

    async def _hook(self) -> None:
        """The container is started: deliver its PostStart, if it has one."""
        self.in_doubt = False
        self.answered.set()
        if self._operation is None or self._delivery is None:
            self._end()
            return
        await self._send(self._operation, self._delivery)
        result = await self._attempt()
        await self._tools.hit(Failpoint.POST_START_RAN)
        if result.event is not DeliveryEvent.FAILED:
            await self._record(result.outcome, result.event)
        elif self._stopped.is_set():
            await self._record(result.outcome, result.event)
            self.error = StoppedError(f"PostStart handler: {texts.STOPPED}: the container is being stopped")
        else:
            changes = self._ending(result.outcome, result.event)
            # Its stop is committed with the failure, and done before anybody is told.
            await self._kill(changes)
            self.error = HookFailedError(texts.post_start_refusal(result.outcome.error))
        await self._tools.hit(Failpoint.POST_START_COMMITTED)
        self._end()

    async def _send(self, operation: Operation, delivery: Delivery) -> None:
        changes: list[Change] = []
        again = delivery.state is DeliveryState.PENDING
        if again:
            await self._tools.hit(Failpoint.RECOVERY_SEND)
        if operation.state is OperationState.ACCEPTED:
            self._operation, change = self._ledger.moved(operation, OperationEvent.STARTED)
            changes.append(change)
        before = () if again else (DeliveryEvent.STARTED,)
        self._delivery, change = self._ledger.sent(delivery, *before)
        await self._ledger.note(*changes, change)
        await self._tools.hit(Failpoint.RECOVERY_SENT if again else Failpoint.START_COMMITTED)

    async def _attempt(self) -> Result:
        assert self._delivery is not None  # noqa: S101 - _hook() has looked
        attempt = Attempt(
            self._delivery.id,
            self._delivery.attempts,
            self._delivery.hook,
            action_from_json(self._delivery.handler),
            self._container,
            budget=None,
        )
        return await carry_out(self._tools, attempt, Countdown(self._tools.clock, None), self._stopped)

    async def _missed(self) -> None:
        if self._delivery is not None:
            action = action_from_json(self._delivery.handler)
            why = texts.failed(action, self._container.ref, texts.NOT_RUNNING)
            await self._record(Outcome(why), DeliveryEvent.STARTED, DeliveryEvent.NOT_RUNNING)

    async def _record(self, outcome: Outcome, *events: DeliveryEvent) -> None:
        if changes := self._ending(outcome, *events):
            await self._ledger.note(*changes)

    def _ending(self, outcome: Outcome, *events: DeliveryEvent) -> list[Change]:
        if self._operation is None or self._delivery is None:
            return []
        self._delivery, changes = self._ledger.settled(self._delivery, outcome, *events)
        self._operation, change = self._ledger.moved(self._operation, OperationEvent.END)
        return [*changes, change]

    def close(self) -> None:
        """Let nobody wait any longer, whatever happened."""
        self._end()

    def _end(self) -> None:
        self.answered.set()
        self.ended.set()
