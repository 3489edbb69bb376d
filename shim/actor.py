"""One container's actor: it admits starts and stops one at a time, and never waits for a hook while it does.

What it has admitted runs in tasks of its own, so that a stop is admitted in every state, also while PostStart hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import structlog

from shim import naming, plan, texts
from shim.actions import Declared
from shim.caller import Caller
from shim.changes import Change
from shim.countdown import Countdown
from shim.drafts import Drafts, accepted
from shim.errors import JournalUnavailableError, RuntimeCallError
from shim.failpoints import Failpoint
from shim.hooks import HookRun
from shim.kept import Kept
from shim.kubelet import KubeletExecs
from shim.ports import Container, Metadata
from shim.post_stop import PostStops
from shim.records import (
    KUBELET,
    ContainerState,
    Delivery,
    DeliveryState,
    Ending,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Reason,
)
from shim.start import StartRun
from shim.stop import FORWARD_MARGIN, StopRun
from shim.tools import Tools
from shim.watch import Watch

log = structlog.get_logger(__name__)

#: Seconds that a stop waits for a start in doubt: the runtime has gone away, or the start was never made.
DOUBT = 2.0


class Actor(Kept):
    """The open work of one container."""

    def __init__(
        self,
        tools: Tools,
        post_stops: PostStops,
        kubelet: KubeletExecs,
        container_id: str,
        drop: Callable[[str], None],
        take_up: Callable[[str], Awaitable[None]],
    ) -> None:
        """``drop`` is called when nothing is open here any more, ``take_up`` resumes what recovery has not come to."""
        super().__init__(tools, container_id, drop)
        self._post_stops = post_stops
        self._kubelet = kubelet
        self._take_up = take_up
        self._drafts = Drafts(tools)
        self._admission = asyncio.Lock()
        self._start: StartRun | None = None
        self._stop: StopRun | None = None

    @property
    def runs(self) -> list[HookRun]:
        """The hooks that are open here."""
        return [run.hooks for run in (self._start, self._stop) if run is not None]

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Let no start and no stop in meanwhile. Raises what ``take_up`` raises, which comes first."""
        async with self._admission:
            await self._take_up(self._id)
            yield

    async def accept(self, changes: Sequence[Change], void: Callable[[], Sequence[Change]]) -> None:
        """Commit what something is accepted with, or not: ``void`` are the changes then if the disk is only late.

        Raises JournalUnavailableError.
        """
        if self._ledger.owes:
            await self._ledger.note()
        await self._ledger.accept(*changes, void=lambda: self._owe(void()))

    @naming.about
    async def start(
        self,
        container: Container,
        declared: Sequence[Declared],
        request: bytes,
        metadata: Metadata,
        left: float | None,
        caller: Caller,
    ) -> bytes | None:
        """StartContainer with its PostStart; None if the runtime's own answer is all there is to it.

        Raises what StartRun.go raises, CallerLeftError and JournalUnavailableError: then nothing was started.
        """
        waited = Countdown(self._tools.clock, None if left is None else self._tools.clock.boottime() + left)
        while True:
            async with self._admission:
                await self._take_up(self._id)
                run, fresh = self._start, False
                if run is None:
                    if not container.state.startable or not declared:
                        return None
                    run, fresh = await self._accept_start(container, declared, caller), True
                    self._start = run
            if fresh:
                await self._tools.hit(Failpoint.START_ACCEPTED)
                return await self._first(run, request, metadata, waited.left())
            await run.hear(waited)
            if run.in_doubt or run.started:
                return await run.join(request, metadata, waited.left())
            # It came to nothing, so that this one is the first.
            container = await self._look_again(container)

    async def _accept_start(self, container: Container, declared: Sequence[Declared], caller: Caller) -> StartRun:
        operation, deliveries, watch, changes = None, list[Delivery](), None, list[Change]()
        if self._ledger.owes:
            await self._ledger.note()
        hooks = plan.of(declared, Hook.POST_START)
        if hooks and not await self._drafts.recorded(self._id, Hook.POST_START):
            operation = self._drafts.operation(container, OperationKind.START, Reason.START_CONTAINER, 0)
            deliveries = self._drafts.deliveries(operation, hooks, DeliveryState.ARMED)
            changes += accepted(operation, deliveries)
        told = plan.of(declared, Hook.POST_STOP)
        if told and not await self._drafts.recorded(self._id, Hook.POST_STOP):
            watch = self._post_stops.arm(container, told)
            changes += watch.inserted()
        if changes:
            await self._tools.hit(Failpoint.START_ACCEPT)
            caller.accept()
            try:
                await self._ledger.accept(*changes, void=partial(self._void, operation, deliveries, watch))
            except JournalUnavailableError as error:
                raise JournalUnavailableError(texts.not_started(container.ref, str(error))) from error
        if watch is not None:
            self._post_stops.watch(watch)
        return self._start_run(container, operation, deliveries, watch)

    def _void(self, operation: Operation | None, deliveries: Sequence[Delivery], watch: Watch | None) -> None:
        if operation is not None:
            self._owe(self._drafts.voided(operation, deliveries))
        if watch is not None:
            watch.never()
            self._post_stops.changed(watch)

    def _start_run(
        self,
        container: Container,
        operation: Operation | None,
        deliveries: Sequence[Delivery],
        watch: Watch | None = None,
    ) -> StartRun:
        async def kill(changes: list[Change]) -> None:
            await self.kill(container, changes)

        return StartRun(self._tools, self._ledger, container, operation, deliveries, watch, kill)

    async def _first(self, run: StartRun, request: bytes, metadata: Metadata, left: float | None) -> bytes:
        try:
            response = await run.go(request, metadata, left)
        except RuntimeCallError:
            if run.in_doubt:
                self.spawn(self._rest(run), f"start in doubt {self._id}")
            raise
        finally:
            if not run.in_doubt:
                self._close(run)
        return response

    async def _rest(self, run: StartRun) -> None:
        try:
            await run.resume()
        finally:
            self._close(run)

    def _close(self, run: StartRun) -> None:
        run.close()
        if run.watch is not None:
            self._post_stops.changed(run.watch)
        if self._start is run:
            self._start = None
        self._settle()

    @naming.about
    async def stop(
        self,
        container: Container,
        timeout: int,
        caller: Caller,
        request: bytes = b"",
        metadata: Metadata = (),
        reason: Reason = Reason.STOP_CONTAINER,
        left: float | None = None,
    ) -> bytes | None:
        """StopContainer with its PreStop; None if the runtime's own answer is all there is to it.

        ``left`` is the seconds that the caller still waits, which bound the kubelet's own hook.

        Raises RuntimeCallError: the runtime's answer to the forwarded call; the stop is tried again nevertheless.
        Raises CallerLeftError: nothing was done.
        """
        until = self._drafts.until(container, timeout, self._tools.clock.boottime(), left)
        waited: StartRun | None = None
        while True:
            start = self._under_way(waited)
            if start is not None:
                container = await self._after_start(start, container, timeout)
                if reason is Reason.STOP_CONTAINER:
                    start.refuse_to_be_overtaken(container)
                waited = start
            async with self._admission:
                if self._under_way(waited) is None:
                    answer = await self._admit_stop(container, timeout, until, request, metadata, reason, caller)
                    break
        return await answer if isinstance(answer, asyncio.Future) else answer

    def _under_way(self, waited: StartRun | None) -> StartRun | None:
        """A start that is not answered yet; one that was waited for in vain is not waited for again."""
        start = self._start
        return None if start is None or start is waited or start.answered.is_set() else start

    async def _admit_stop(
        self,
        container: Container,
        timeout: int,
        until: float,
        request: bytes,
        metadata: Metadata,
        reason: Reason,
        caller: Caller,
    ) -> asyncio.Future[bytes] | bytes | None:
        """Begin a stop, or join the one that is open: the answer that is to be waited for, or as ``stop``."""
        with suppress(JournalUnavailableError, RuntimeCallError):
            await self._take_up(self._id)
        run = self._stop
        if run is not None:
            caller.accept()
            # Before anything is awaited: its answer may come meanwhile.
            answer = run.wait()
            await run.join(timeout, until)
            return answer
        if container.state.startable:
            # It may have been started since it was looked up; under this lock it cannot be.
            container = await self._look_again(container)
        run = await self._accept_stop(container, timeout, until, request, metadata, reason, caller)
        if run is not None:
            return run.wait()
        if container.state.startable and reason is Reason.STOP_CONTAINER:
            # Made here, under the lock: passed on, it might meet a start that has waited for this.
            within = timeout + FORWARD_MARGIN
            return await self._tools.runtime.stop(self._id, timeout, request, metadata, within)
        return None

    async def _after_start(self, run: StartRun, container: Container, timeout: int) -> Container:
        """A stop that overtook a start would be answered and the container would run: let the start be answered."""
        budget = plan.stop_budget(timeout, container, self._tools.settings)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(budget, DOUBT) if run.in_doubt else budget):
                await run.answered.wait()
        return await self._look_again(container, started=run.started)

    async def _look_again(self, container: Container, *, started: bool = False) -> Container:
        """The container as it is now; ``started`` is what is known if the runtime cannot be asked.

        Raises RuntimeCallError if nothing is known: to go on with what was may be to kill what runs.
        """
        try:
            return await self._tools.runtime.find(self._id) or container
        except RuntimeCallError as error:
            if started:
                return replace(container, state=ContainerState.RUNNING)
            if error.ambiguous:
                raise
            return container

    async def _accept_stop(
        self,
        container: Container,
        timeout: int,
        until: float,
        request: bytes,
        metadata: Metadata,
        reason: Reason,
        caller: Caller,
    ) -> StopRun | None:
        if not container.state.stoppable:
            return None
        post_start = self._start if self._start is not None and self._start.hooked else None
        hooks, problem = self._drafts.pre_stops(container)
        due = bool(hooks or problem) and not await self._drafts.recorded(self._id, Hook.PRE_STOP)
        if not due and post_start is None:
            return None
        await self._tools.hit(Failpoint.STOP_ACCEPT)
        # Before the journal is asked: one that is answered meanwhile is not missed.
        flights = self._kubelet.in_flight(self._id) if due else ()
        ran = due and any(one.source == KUBELET for one in hooks) and await self._kubelet.ran(self._id)
        if ran:
            # What it took is gone from the grace already.
            budget = plan.stop_budget(timeout, container, self._tools.settings)
            until = min(until, self._tools.clock.boottime() + budget)
        operation = self._drafts.operation(container, OperationKind.STOP, reason, timeout, until)
        deliveries = self._drafts.due(operation, hooks, problem, ran=ran, at_once=not flights) if due else []
        caller.accept()
        run = StopRun(self._tools, self._ledger, container, operation, deliveries, request, metadata, flights)
        run.hooks.foresee()
        await self._ledger.note(*accepted(operation, deliveries))
        if post_start is not None:
            post_start.stop()
        self._spawn_stop(run, post_start.ended if post_start is not None else None)
        return run

    async def kill(self, container: Container, changes: list[Change]) -> None:
        """A PostStart failed: commit that together with the stop that it causes, and wait for the container's end."""
        async with self._admission:
            if self._stop is not None:
                # It waits for this PostStart to end, so it cannot be waited for here.
                await self._ledger.note(*changes)
                return
            hooks, problem = self._drafts.pre_stops(container)
            timeout = plan.grace(container, self._tools.settings)
            until = self._drafts.until(container, timeout, self._tools.clock.boottime(), None)
            operation = self._drafts.operation(container, OperationKind.STOP, Reason.POST_START_FAILED, timeout, until)
            due = bool(hooks or problem) and not await self._drafts.recorded(self._id, Hook.PRE_STOP)
            deliveries = self._drafts.due(operation, hooks, problem) if due else []
            await self._ledger.note(*changes, *accepted(operation, deliveries))
            await self._tools.hit(Failpoint.POST_START_COMMITTED)
            run = StopRun(self._tools, self._ledger, container, operation, deliveries)
            self._spawn_stop(run, None)
        await run.ended.wait()

    @naming.about
    async def ended_by_itself(self, container: Container, hooks: Sequence[Declared], ending: Ending) -> None:
        """Leave a record of each PreStop that was not due, unless there is one of it already."""
        async with self._admission:
            # What is owed has not reached the journal yet: it was stopped without a record.
            if self._stop is not None or self._ledger.owes:
                return
            deliveries = await self._tools.journal.deliveries_of(self._id)
            if any(delivery.hook is Hook.PRE_STOP for delivery in deliveries):
                return
            operation = self._drafts.operation(container, OperationKind.STOP, Reason.EXITED, 0)
            text = texts.ended_by_itself(ending.reason, ending.exit_code)
            skipped = self._drafts.deliveries(operation, hooks, DeliveryState.SKIPPED, text)
            done = replace(operation, state=OperationState.DONE, finished_at=operation.created_at)
            await self._ledger.write(*accepted(done, skipped))

    async def note(self, changes: Sequence[Change]) -> None:
        """Record what recovery has found out; if the disk does not let it, later."""
        if changes:
            await self._ledger.note(*changes)
        self._settle()

    @naming.about
    def resume(self, container: Container, operation: Operation, deliveries: Sequence[Delivery]) -> None:
        """Go on with an operation that recovery found open; a start before the stop that is to end its PostStart."""
        if operation.kind is OperationKind.START:
            watch = self._post_stops.of(self._id)
            start = self._start = self._start_run(container, operation, deliveries, watch)
            self.spawn(self._rest(start), f"resume start {self._id}")
            return
        post_start = self._start
        if post_start is not None:
            post_start.stop()
        stop = StopRun(self._tools, self._ledger, container, operation, deliveries)
        self._spawn_stop(stop, post_start.ended if post_start is not None else None, again=True)

    def _spawn_stop(self, run: StopRun, after: asyncio.Event | None, *, again: bool = False) -> None:
        self._stop = run
        self.spawn(self._run_stop(run, after, again=again), f"stop {self._id}")

    async def _run_stop(self, run: StopRun, after: asyncio.Event | None, *, again: bool) -> None:
        try:
            await run.go(after, again=again)
        except Exception:
            log.exception("a stop met a bug; stopping the container without it", container=self._id)
            await run.kill()
        finally:
            if self._stop is run:
                self._stop = None
        self._settle()
