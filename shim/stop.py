"""A stop of one container, from its acceptance until the container is not running.

PreStop runs first, then what is left of the grace is forwarded. Every caller that comes meanwhile joins it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from shim import texts
from shim.attempt import EXIT_WINDOW
from shim.changes import Change, UpdateOperation
from shim.countdown import Countdown
from shim.errors import RuntimeCallError
from shim.failpoints import Failpoint
from shim.hooks import HookRun
from shim.kubelet import Flight
from shim.ledger import Ledger
from shim.moves import moved
from shim.plan import MINIMUM_GRACE, grace_left, stop_budget
from shim.ports import Container, Metadata
from shim.records import KUBELET, Delivery, Operation, OperationState
from shim.table import OperationEvent
from shim.tools import Tools
from shim.waking import first_of

log = structlog.get_logger(__name__)

#: Seconds that a forwarded stop may take beyond its grace: after KILL, containerd waits for as long as it is let.
FORWARD_MARGIN = 120.0

#: Seconds between two looks at a container that is about to have ended.
LOOK = 0.05

#: Seconds between two tries to finish a stop that containerd answered with an error.
RETRY_MIN, RETRY_MAX = 0.2, 30.0


class StopRun:
    """One open stop operation, and the callers that wait for it."""

    def __init__(
        self,
        tools: Tools,
        ledger: Ledger,
        container: Container,
        operation: Operation,
        deliveries: Sequence[Delivery],
        request: bytes = b"",
        metadata: Metadata = (),
        flights: Sequence[Flight] = (),
    ) -> None:
        """``deliveries`` are its PreStop hooks; the first is being delivered already if it was just accepted.

        ``flights`` are the kubelet's own runs of its hook, which are waited for.
        ``request`` and ``metadata`` are the first caller's, and are forwarded.
        """
        self._tools = tools
        self._ledger = ledger
        self._container = container
        self._operation = operation
        self.hooks = HookRun(tools, ledger, container, deliveries)
        self._request = request
        self._metadata = metadata
        self._countdown = Countdown(tools.clock, operation.deadline)
        self._waiting: list[asyncio.Future[bytes]] = []
        self._nudge = asyncio.Event()
        self._hurried = False
        self._flights = flights
        self.ended = asyncio.Event()

    def wait(self) -> asyncio.Future[bytes]:
        """The runtime's answer to the next StopContainer that ends; raises RuntimeCallError."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._nudge.set()
        return answer

    async def join(self, timeout: int, until: float) -> None:
        """Take another caller's ``timeout`` into account: the countdown may get shorter, never longer.

        One that sends 0 wants a kill: the hook keeps its budget, and what is forwarded after it is the minimum.
        ``until``: the end of its countdown while the kubelet's own hook is open, which has the pod's grace.
        """
        now = self._tools.clock.boottime()
        budget: float = stop_budget(timeout, self._container, self._tools.settings)
        if any(delivery.source == KUBELET and delivery.state.open for delivery in self.hooks.deliveries):
            budget = max(budget, until - now)
        merged = min(filter(None, (self._operation.timeout, timeout)), default=0)
        if timeout == 0 and merged:
            self._hurried = True
            if self._operation.state is OperationState.FORWARDED:
                budget = MINIMUM_GRACE
        shorter = self._countdown.shorten(now + budget)
        if shorter or merged != self._operation.timeout:
            self._operation = replace(self._operation, deadline=self._countdown.deadline, timeout=merged)
            await self._ledger.note(UpdateOperation(self._operation, self._operation.state))

    async def go(self, post_start: asyncio.Event | None = None, *, again: bool = False) -> None:
        """Carry the operation out, after ``post_start`` is set. Ends only when the container is not running.

        ``again``: recovery has found it open.
        """
        if post_start is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._countdown.left()):
                    await post_start.wait()
        await self._tools.hit(Failpoint.STOP_ACCEPTED)
        changes = await self._land() if self._flights else []
        if self.hooks.open:
            if again:
                # A hook that is sent again gets a chance, also if the grace is over.
                earliest = self._tools.clock.boottime() + MINIMUM_GRACE
                self._countdown = Countdown(self._tools.clock, max(self._countdown.deadline or earliest, earliest))
            changes = await self.hooks.go(self._countdown, changes, again=again)
            if self.hooks.exited:
                await self._ends()
        if self._operation.state is OperationState.ACCEPTED:
            changes.append(self._move(OperationEvent.HOOKS_ENDED))
        response = await self._finish(changes)
        await self._tools.hit(Failpoint.STOP_ANSWERED)
        await self._ledger.note(self._move(OperationEvent.END))
        await self._tools.hit(Failpoint.STOP_COMMITTED)
        self.ended.set()
        self._answer(response)

    async def _land(self) -> list[Change]:
        """Wait for the kubelet's own run of its hook, within the grace that it began with, and this countdown.

        Only what the runtime did not answer is made up for: one that goes on is left so, as a kubelet leaves it.
        """
        grace = max(flight.operation.deadline or 0.0 for flight in self._flights) - self._tools.clock.boottime()
        landed = asyncio.create_task(_landed(self._flights), name="ExecSync")
        over = asyncio.create_task(self._countdown.over(), name="grace of an ExecSync")
        tasks = (landed, over)
        try:
            await asyncio.wait(tasks, timeout=max(0.0, grace), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if any(flight.ended.is_set() and not flight.operation.error for flight in self._flights):
            return self.hooks.skip(KUBELET, texts.KUBELET_RAN)
        if all(flight.ended.is_set() for flight in self._flights):
            return []
        return self.hooks.skip(KUBELET, texts.KUBELET_RUNS)

    async def kill(self) -> None:
        """Stop the container with nothing but the runtime: for when ``go`` has met a bug."""
        container_id, timeout = self._container.ref.id, self._operation.timeout
        try:
            response = await self._tools.runtime.stop(
                container_id, timeout, self._request, self._metadata, within=timeout + FORWARD_MARGIN
            )
        except RuntimeCallError as error:
            self._answer(error)
        else:
            self._answer(response)
        self.ended.set()

    async def _finish(self, changes: list[Change]) -> bytes:
        """Forward until the container is not running; ``changes`` are committed before the first time."""
        pause = RETRY_MIN
        first = True
        while True:
            if self._operation.state is OperationState.HOOKS_DONE:
                changes.append(self._move(OperationEvent.FORWARD))
            if changes:
                await self._ledger.note(*changes)
            await self._tools.hit(Failpoint.PRE_STOP_COMMITTED)
            try:
                return await self._forward()
            except RuntimeCallError as error:
                log.warning(
                    "the runtime did not stop the container; trying again",
                    container=self._container.ref.id,
                    error=str(error),
                )
                await self._ledger.note(self._move(OperationEvent.FORWARD_FAILED, str(error)))
                changes = []
                if first and not error.ambiguous and await self._ends():
                    # It ended by itself in that moment: asked again, the runtime has its regular answer.
                    first = False
                    continue
                first = False
                self._nudge.clear()
                self._answer(error)
            await self._pause(pause)
            pause = min(pause * 2, RETRY_MAX)
            if not await self._running():
                return b""

    async def _forward(self) -> bytes:
        """StopContainer with what is left of the grace, and once more whenever that gets less."""
        calls: list[asyncio.Task[bytes]] = []
        moved = self._countdown.moved
        try:
            while True:
                self._countdown.noticed()
                seconds = self._grace_left()
                call = self._tools.runtime.stop(
                    self._container.ref.id, seconds, self._request, self._metadata, within=seconds + FORWARD_MARGIN
                )
                calls.append(asyncio.create_task(call, name=f"StopContainer {self._container.ref.id}"))
                while not moved.done():
                    await first_of(moved, *calls)
                    if ended := [call for call in calls if call.done()]:
                        good = [call for call in ended if call.exception() is None]
                        if good or len(ended) == len(calls):
                            return (good or ended)[0].result()
                        calls = [call for call in calls if not call.done()]
        finally:
            if rest := [task for task in calls if not task.done()]:
                for task in rest:
                    task.cancel()
                await asyncio.wait(rest)

    def _grace_left(self) -> int:
        timeout = self._operation.timeout
        left = 0.0 if self._hurried else self._countdown.left()
        return timeout if left is None else grace_left(timeout, left)

    async def _ends(self) -> bool:
        """Whether the container is not running, or is not very soon: its state follows its end."""
        until = self._tools.clock.boottime() + EXIT_WINDOW
        while running := await self._running():
            if self._tools.clock.boottime() >= until:
                break
            await asyncio.sleep(LOOK)
        return not running

    async def _running(self) -> bool:
        try:
            state = await self._tools.runtime.state(self._container.ref.id)
        except RuntimeCallError:
            return True
        return state is not None and state.stoppable

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nudge.wait()

    def _move(self, event: OperationEvent, error: str = "") -> Change:
        self._operation, change = moved(self._tools.clock.wall(), self._operation, event, error)
        return change

    def _answer(self, answer: bytes | RuntimeCallError) -> None:
        for waiting in self._waiting:
            if waiting.done():
                continue
            if isinstance(answer, bytes):
                waiting.set_result(answer)
            else:
                waiting.set_exception(answer)
                waiting.exception()  # its caller may have left
        self._waiting.clear()


async def _landed(flights: Sequence[Flight]) -> None:
    for flight in flights:
        await flight.ended.wait()
