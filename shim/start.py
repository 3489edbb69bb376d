"""A start of one container, from its acceptance until its PostStart has an outcome.

The forwarded StartContainer may end without telling whether it had its effect (the runtime went away, the caller's
deadline passed): then only the container's state tells, and a container that is still CREATED tells nothing yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum, auto

import structlog

from shim import texts
from shim.changes import Change
from shim.countdown import Countdown
from shim.errors import HookFailedError, HookshimError, RuntimeCallError, StoppedError
from shim.failpoints import Failpoint
from shim.hooks import HookRun
from shim.ledger import Ledger
from shim.moves import moved
from shim.ports import Container, Metadata
from shim.records import ContainerState, Delivery, Operation, OperationState
from shim.table import DeliveryEvent, OperationEvent
from shim.tools import Tools
from shim.watch import Watch

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
    """One StartContainer that the engine makes, and the PostStart hooks that are due after it, if there are any.

    ``heard`` is set when the runtime has answered, or cannot (``in_doubt``); ``answered`` when it is known what became
    of the container: it is ``started`` or never will be by this call.
    """

    def __init__(
        self,
        tools: Tools,
        ledger: Ledger,
        container: Container,
        operation: Operation | None,
        deliveries: Sequence[Delivery],
        watch: Watch | None,
        kill: Kill,
    ) -> None:
        """``operation`` is None for a container without a PostStart, ``watch`` for one without a postStop."""
        self._tools = tools
        self._ledger = ledger
        self._container = container
        self._operation = operation
        self.hooks = HookRun(tools, ledger, container, deliveries)
        self._kill = kill
        self.watch = watch
        self.hooked = operation is not None
        self._look = asyncio.Event()
        self.heard = asyncio.Event()
        self.answered = asyncio.Event()
        self.in_doubt = False
        self.started = False
        self.ended = asyncio.Event()
        self.error: HookshimError | None = None

    def stop(self) -> None:
        """A stop was accepted: end the PostStart that is running or to come."""
        self.hooks.stop()
        self._look.set()

    async def go(self, request: bytes, metadata: Metadata, seconds_left: float | None) -> bytes:
        """Forward, and deliver PostStart. The runtime's answer, once the hook has an outcome.

        Raises RuntimeCallError (the start failed, or is ``in_doubt``: then ``resume`` goes on without this caller),
        HookFailedError (the container has ended then), StoppedError.

        After the caller's deadline nothing is forwarded: there may be another container in its place by then.
        """
        if seconds_left == 0:
            await self._never()
            self._end()
            raise RuntimeCallError("DEADLINE_EXCEEDED", "the deadline passed before the container was started")
        self.hooks.foresee()
        try:
            response = await self._tools.runtime.start(request, metadata, seconds_left)
        except RuntimeCallError as error:
            if error.ambiguous:
                log.warning("a StartContainer is in doubt", container=self._container.ref.id, error=str(error))
                self.in_doubt = True
                self.heard.set()
            else:
                await self._settle(definite=True)
            raise
        await self._tools.hit(Failpoint.START_ANSWERED)
        await self._hook()
        if self.error:
            raise self.error
        return response

    async def hear(self, waited: Countdown) -> None:
        """Wait for what the runtime says, for another caller. Raises RuntimeCallError at that one's deadline."""
        try:
            async with asyncio.timeout(waited.left()):
                await self.heard.wait()
        except TimeoutError:
            text = "the deadline passed while another StartContainer of the container was not answered"
            raise RuntimeCallError("DEADLINE_EXCEEDED", text) from None

    async def join(self, request: bytes, metadata: Metadata, left: float | None) -> bytes:
        """The runtime's own answer to another caller's StartContainer, when PostStart has ended. Raises as ``go``."""
        try:
            response = await self._tools.runtime.start(request, metadata, left)
        finally:
            self._look.set()
        await self.ended.wait()
        if self.error:
            raise self.error
        return response

    async def resume(self) -> None:
        """Find out what became of a start in doubt, or go on with a PostStart that recovery found open."""
        if self._operation and self._operation.state is OperationState.FORWARDED:
            await self._hook()
        else:
            self.in_doubt = True
            self.heard.set()
            await self._settle(definite=False)

    async def _settle(self, *, definite: bool) -> None:
        """``definite``: the runtime has answered, so that CREATED means that it was not started."""
        fate = await self._fate(definite=definite)
        if fate is Fate.RUNNING:
            await self._hook()
            return
        if fate is Fate.ENDED:
            await self._record(texts.NOT_RUNNING, DeliveryEvent.STARTED, DeliveryEvent.NOT_RUNNING)
        else:
            await self._never()
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
        self.started = True
        self.heard.set()
        if self.watch is not None:
            self.watch.started()
            # Before anybody is told: it may have ended and be removed when the next daemon looks.
            await self.watch.ledger.note()
        self.answered.set()
        if self._operation is None:
            self._end()
            return
        again = self._operation.state is OperationState.FORWARDED
        changes = [] if again else self._started(self._operation)
        countdown = Countdown(self._tools.clock, None)
        changes = await self.hooks.go(countdown, changes, again=again, committed=Failpoint.START_COMMITTED)
        changes.append(self._over())
        if self.hooks.failure is not None:
            # Its stop is committed with the failure, and done before anybody is told.
            await self._kill(changes)
            self.error = HookFailedError(texts.post_start_refusal(self.hooks.failure.error))
        else:
            await self._ledger.note(*changes)
            if self.hooks.cut:
                self.error = StoppedError(f"PostStart handler: {texts.STOPPED}: the container is being stopped")
        await self._tools.hit(Failpoint.POST_START_COMMITTED)
        self._end()

    def _started(self, operation: Operation) -> list[Change]:
        now = self._tools.clock.wall()
        self._operation, change = moved(now, operation, OperationEvent.STARTED)
        return [change, *self.hooks.opened()]

    async def _never(self) -> None:
        if self.watch is not None:
            self.watch.never()
            # Before the next start is let in: it would take the record for its own.
            await self.watch.ledger.note()
        await self._record("", DeliveryEvent.START_FAILED)

    async def _record(self, why: str, *events: DeliveryEvent) -> None:
        if self._operation is not None:
            await self._ledger.note(*self.hooks.settled(why, *events), self._over())

    def _over(self) -> Change:
        assert self._operation is not None  # noqa: S101 - its callers have looked
        self._operation, change = moved(self._tools.clock.wall(), self._operation, OperationEvent.END)
        return change

    def refuse_to_be_overtaken(self, container: Container) -> None:
        """Raise RuntimeCallError for a stop that would be answered OK before its ``container`` runs.

        A start in doubt may never have been made, so that a stop after it is all that there is. The calls that end a
        pod or remove a container have more to do than to stop, and are never in the way.
        """
        if container.state.startable and not self.answered.is_set() and not self.in_doubt:
            raise RuntimeCallError(
                "UNAVAILABLE",
                f"container {container.ref.name} of pod {container.ref.pod_text} is not stopped: containerd has not "
                "answered its StartContainer within the timeout; try again",
            )

    def close(self) -> None:
        """Let nobody wait any longer, whatever happened."""
        self._end()

    def _end(self) -> None:
        self.heard.set()
        self.answered.set()
        self.ended.set()
