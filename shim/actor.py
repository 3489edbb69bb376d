"""One container's actor: it admits starts and stops one at a time, and never waits for a hook while it does.

What it has admitted runs in tasks of its own, so that a stop is admitted in every state, also while PostStart hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from shim import plan, texts
from shim.caller import Caller
from shim.changes import Change, InsertDelivery, InsertEvent, InsertOperation
from shim.errors import DeclarationError, JournalUnavailableError, RuntimeCallError
from shim.failpoints import Failpoint
from shim.ledger import PATIENCE, Ledger
from shim.lifecycle import Action, Lifecycle, to_json
from shim.ports import Container, Ending, Metadata
from shim.records import (
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)
from shim.start import StartRun
from shim.stop import StopRun
from shim.tools import Tools

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: Seconds that a stop waits for a start in doubt: the runtime has gone away, or the start was never made.
DOUBT = 2.0


class Actor:
    """The open work of one container."""

    def __init__(self, tools: Tools, container_id: str, drop: Callable[[Actor], None]) -> None:
        """``drop`` is called when nothing is open here any more."""
        self._tools = tools
        self._id = container_id
        self._drop = drop
        self._ledger = Ledger(tools)
        self._admission = asyncio.Lock()
        self._start: StartRun | None = None
        self._stop: StopRun | None = None
        self._users = 0

    @property
    def container_id(self) -> str:
        """The container's whole id."""
        return self._id

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the actor; when nobody does any more, it is dropped."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                self._drop(self)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run ``work`` in a task of the engine's, and keep the actor meanwhile."""
        kept = ExitStack()
        kept.enter_context(self.used())
        task = self._tools.tasks.spawn(work, name)
        task.add_done_callback(lambda _task: kept.close())
        return task

    async def start(
        self,
        container: Container,
        lifecycle: Lifecycle,
        request: bytes,
        metadata: Metadata,
        left: float | None,
        caller: Caller,
    ) -> bytes | None:
        """StartContainer with its PostStart; None if the runtime's own answer is all there is to it.

        Raises what StartRun.go raises, CallerLeftError and JournalUnavailableError: then nothing was started.
        """
        arrived = self._tools.clock.boottime()
        async with self._admission:
            run, fresh = self._start, False
            if run is None:
                if not container.state.startable or lifecycle == Lifecycle():
                    return None
                run, fresh = await self._accept_start(container, lifecycle.post_start, caller), True
                self._start = run
        if fresh:
            await self._tools.hit(Failpoint.START_ACCEPTED)
        if left is not None:
            left = max(0.0, left - (self._tools.clock.boottime() - arrived))
        if fresh:
            return await self._first(run, request, metadata, left)
        try:
            response = await self._tools.runtime.start(request, metadata, left)
        finally:
            run.look()
        await run.ended.wait()
        if run.error:
            raise run.error
        return response

    async def _accept_start(self, container: Container, action: Action | None, caller: Caller) -> StartRun:
        operation, delivery = None, None
        if action is not None and not await self._recorded(Hook.POST_START):
            await self._tools.hit(Failpoint.START_ACCEPT)
            operation = self._operation(container, OperationKind.START, Reason.START_CONTAINER, 0)
            delivery = self._delivery(operation, Hook.POST_START, to_json(action), DeliveryState.ARMED)
            caller.accept()
            try:
                await self._ledger.write(InsertOperation(operation), InsertDelivery(delivery))
            except JournalUnavailableError as error:
                raise JournalUnavailableError(
                    f"container {container.ref.name} of pod {container.ref.pod_text} is not started, "
                    f"because its PostStart hook cannot be recorded: {error}"
                ) from error
        return self._start_run(container, operation, delivery)

    def _start_run(self, container: Container, operation: Operation | None, delivery: Delivery | None) -> StartRun:
        async def kill(changes: list[Change]) -> None:
            await self.kill(container, changes)

        return StartRun(self._tools, self._ledger, container, operation, delivery, kill)

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
        if self._start is run:
            self._start = None
        if self._ledger.owes:
            self.spawn(self._ledger.settle(), f"settle {self._id}")

    async def stop(
        self,
        container: Container,
        timeout: int,
        caller: Caller,
        request: bytes = b"",
        metadata: Metadata = (),
        reason: Reason = Reason.STOP_CONTAINER,
    ) -> bytes | None:
        """StopContainer with its PreStop; None if the runtime's own answer is all there is to it.

        Raises RuntimeCallError: the runtime's answer to the forwarded call; the stop is tried again nevertheless.
        Raises CallerLeftError: nothing was done.
        """
        arrived = self._tools.clock.boottime()
        async with self._admission:
            start = self._start
        if container.state.startable or (start is not None and not start.answered.is_set()):
            container = await self._after_start(start, container, timeout)
        async with self._admission:
            run = self._stop
            if run is None and container.state.startable:
                # It may have been started since it was looked up; under this lock it cannot be.
                container = await self._look_again(container)
            if run is None:
                run = await self._accept_stop(container, timeout, arrived, request, metadata, reason, caller)
                if run is None:
                    return None
                answer = run.wait()
            else:
                caller.accept()
                # Before anything is awaited: its answer may come meanwhile.
                answer = run.wait()
                await run.join(timeout)
        return await answer

    async def _after_start(self, run: StartRun | None, container: Container, timeout: int) -> Container:
        """A stop that overtook a start would be answered and the container would run: let the start be answered."""
        budget = plan.stop_budget(timeout, container, self._tools.settings)
        if run is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(budget, DOUBT) if run.in_doubt else budget):
                    await run.answered.wait()
        return await self._look_again(container)

    async def _look_again(self, container: Container) -> Container:
        with suppress(RuntimeCallError):
            return await self._tools.runtime.find(self._id) or container
        return container

    async def _accept_stop(
        self,
        container: Container,
        timeout: int,
        arrived: float,
        request: bytes,
        metadata: Metadata,
        reason: Reason,
        caller: Caller,
    ) -> StopRun | None:
        if not container.state.stoppable:
            return None
        post_start = self._start if self._start is not None and self._start.hooked else None
        problem, action = None, None
        try:
            action = plan.lifecycle(container).pre_stop
        except DeclarationError as error:
            problem = str(error)
        due = (action is not None or problem is not None) and not await self._recorded(Hook.PRE_STOP)
        if not due and post_start is None:
            return None
        await self._tools.hit(Failpoint.STOP_ACCEPT)
        operation = self._operation(container, OperationKind.STOP, reason, timeout, since=arrived)
        delivery = self._pre_stop(operation, action, problem) if due else None
        caller.accept()
        await self._ledger.note(*_accepted(operation, delivery))
        run = StopRun(self._tools, self._ledger, container, operation, delivery, request, metadata)
        if post_start is not None:
            post_start.stop()
        self._spawn_stop(run, post_start.ended if post_start is not None else None)
        return run

    def _pre_stop(self, operation: Operation, action: Action | None, problem: str | None) -> Delivery:
        if action is None:
            return self._delivery(operation, Hook.PRE_STOP, "{}", DeliveryState.FAILED, error=problem or "")
        skips = operation.reason is Reason.STOP_CONTAINER and not self._tools.settings.zero_timeout_runs
        if operation.timeout == 0 and skips:
            skipped = "skipped: timeout 0, and the configuration says so"
            return self._delivery(operation, Hook.PRE_STOP, to_json(action), DeliveryState.SKIPPED, error=skipped)
        return self._delivery(operation, Hook.PRE_STOP, to_json(action), DeliveryState.DELIVERING)

    async def kill(self, container: Container, changes: list[Change]) -> None:
        """A PostStart failed: commit that together with the stop that it causes, and wait for the container's end."""
        async with self._admission:
            if self._stop is not None:
                # It waits for this PostStart to end, so it cannot be waited for here.
                await self._ledger.note(*changes)
                return
            action = plan.lifecycle(container).pre_stop
            timeout = plan.grace(container, self._tools.settings)
            operation = self._operation(container, OperationKind.STOP, Reason.POST_START_FAILED, timeout)
            due = action is not None and not await self._recorded(Hook.PRE_STOP)
            delivery = self._pre_stop(operation, action, None) if due else None
            await self._ledger.note(*changes, *_accepted(operation, delivery))
            await self._tools.hit(Failpoint.POST_START_COMMITTED)
            run = StopRun(self._tools, self._ledger, container, operation, delivery)
            self._spawn_stop(run, None)
        await run.ended.wait()

    async def ended_by_itself(self, container: Container, action: Action, ending: Ending) -> None:
        """Leave one record of a PreStop that was not due, unless there is one of it already."""
        async with self._admission:
            # What is owed has not reached the journal yet: it was stopped without a record.
            if self._stop is not None or self._ledger.owes:
                return
            deliveries = await self._tools.journal.deliveries_of(self._id)
            if any(delivery.hook is Hook.PRE_STOP for delivery in deliveries):
                return
            operation = self._operation(container, OperationKind.STOP, Reason.EXITED, 0)
            text = texts.ended_by_itself(ending.reason, ending.exit_code)
            delivery = self._delivery(operation, Hook.PRE_STOP, to_json(action), DeliveryState.SKIPPED, error=text)
            done = replace(operation, state=OperationState.DONE, finished_at=operation.created_at)
            await self._ledger.write(InsertOperation(done), InsertDelivery(delivery))

    async def note(self, changes: Sequence[Change]) -> None:
        """Record what recovery has found out; if the disk does not let it, later."""
        if changes:
            await self._ledger.note(*changes)
        if self._ledger.owes:
            self.spawn(self._ledger.settle(), f"settle {self._id}")

    def resume(self, container: Container, operation: Operation, delivery: Delivery | None) -> None:
        """Go on with an operation that recovery found open."""
        if operation.kind is OperationKind.STOP:
            self._spawn_stop(StopRun(self._tools, self._ledger, container, operation, delivery), None)
            return
        run = self._start = self._start_run(container, operation, delivery)
        self.spawn(self._rest(run), f"resume start {self._id}")

    def _spawn_stop(self, run: StopRun, after: asyncio.Event | None) -> None:
        self._stop = run
        self.spawn(self._run_stop(run, after), f"stop {self._id}")

    async def _run_stop(self, run: StopRun, after: asyncio.Event | None) -> None:
        try:
            await run.go(after)
        except Exception:
            log.exception("a stop met a bug; stopping the container without it", container=self._id)
            await run.kill()
        finally:
            if self._stop is run:
                self._stop = None
        if self._ledger.owes:
            self.spawn(self._ledger.settle(), f"settle {self._id}")

    async def _recorded(self, hook: Hook) -> bool:
        """Whether this hook of the container has a record already: a repeated request only forwards."""
        try:
            async with asyncio.timeout(PATIENCE):
                deliveries = await self._tools.journal.deliveries_of(self._id)
        except (JournalUnavailableError, TimeoutError) as error:
            log.error("the journal cannot be read: taking the hook as not yet delivered", error=str(error))
            return False
        ended = (DeliveryState.VOID, DeliveryState.SKIPPED)
        return any(delivery.hook is hook and delivery.state not in ended for delivery in deliveries)

    def _operation(
        self, container: Container, kind: OperationKind, reason: Reason, timeout: int, since: float | None = None
    ) -> Operation:
        clock = self._tools.clock
        deadline = None
        if kind is OperationKind.STOP:
            now = clock.boottime() if since is None else since
            deadline = now + plan.stop_budget(timeout, container, self._tools.settings)
        return Operation(
            id=clock.new_id(),
            kind=kind,
            reason=reason,
            container=container.ref,
            state=OperationState.ACCEPTED,
            timeout=timeout,
            deadline=deadline,
            boot_id=clock.boot_id,
            created_at=clock.wall(),
        )

    def _delivery(
        self, operation: Operation, hook: Hook, handler: str, state: DeliveryState, error: str = ""
    ) -> Delivery:
        clock = self._tools.clock
        return Delivery(
            id=clock.new_id(),
            operation_id=operation.id,
            container=operation.container,
            hook=hook,
            position=0,
            handler=handler,
            state=state,
            created_at=clock.wall(),
            attempts=1 if state is DeliveryState.DELIVERING else 0,
            finished_at=None if state.open else clock.wall(),
            outcome=Outcome(error),
        )


def _accepted(operation: Operation, delivery: Delivery | None) -> list[Change]:
    changes: list[Change] = [InsertOperation(operation)]
    if delivery is not None:
        changes.append(InsertDelivery(delivery))
        if delivery.state is DeliveryState.FAILED:
            changes.append(InsertEvent(texts.event(delivery.created_at, delivery)))
    return changes
