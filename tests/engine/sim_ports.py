"""The ports of one simulated daemon. Each is a place where it can be killed, and lets nothing of a dead one through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from shim.actions import ExecAction
from shim.changes import (
    BeginAttempt,
    Change,
    EndAttempt,
    InsertDelivery,
    InsertEvent,
    InsertOperation,
    NoteExecution,
    UpdateDelivery,
    UpdateOperation,
)
from shim.errors import JournalConflictError, JournalUnavailableError, RuntimeCallError
from shim.failpoints import Failpoint, Failpoints
from shim.ports import Attempt, Container, Metadata
from shim.records import ContainerState, Delivery, DeliveryState, Ending, Hook, Operation, Outcome
from shim.store import Store
from tests.engine.sim_containerd import EPOCH, SimContainer, SimContainerd

T = TypeVar("T")

#: Seconds that a look-up may take, as in ``server.runtime``.
ASK = 10.0


@dataclass(frozen=True, slots=True)
class Script:
    """What a hook's handler does: ``succeed``, ``fail``, ``hang``, ``raise`` or ``exit`` (its container) in seconds."""

    what: str
    takes: float = 0.0
    kind: str = "exec"


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """A handler was called; ``at`` is the position in the world's trace."""

    at: int
    delivery_id: str
    attempt: int
    hook: Hook
    container_id: str
    started: bool


class ReadFault(StrEnum):
    """How a look-up goes wrong."""

    LOST = "the connection breaks"
    HANGS = "no answer"
    REFUSED = "a definite error"


class Faults:
    """What goes wrong with the look-ups to come, in their order."""

    def __init__(self) -> None:
        self.to_come: list[ReadFault | None] = []

    def next(self) -> ReadFault | None:
        """What goes wrong with this one."""
        return self.to_come.pop(0) if self.to_come else None


class Host(Protocol):
    """What a daemon's ports need of the world around it."""

    containerd: SimContainerd
    all: list[SimContainer]
    store: Store
    disk_full: bool
    #: Nor can it be read.
    disk_gone: bool
    #: Seconds of one fsync, and that an answer is on its way: what was read may be stale when it arrives.
    sync: float
    latency: float
    faults: Faults
    conflicts: list[str]
    calls: list[HandlerCall]
    scripts: dict[tuple[str, Hook], Script]
    history: dict[str, list[DeliveryState]]

    def trace(self, text: str) -> int:
        """Write a line; returns its position."""
        ...

    def detail(self, text: str) -> None:
        """Write a line if somebody wants them all."""
        ...

    def count(self, *what: str) -> None:
        """Note that this was reached."""
        ...

    def accepted(self, operation: Operation) -> None:
        """An operation is about to be written, perhaps not for the first time."""
        ...

    def pause(self, seconds: float) -> float:
        """About so many seconds."""
        ...


#: Passed at every place where the daemon can die; never returns if it does.
Step = Callable[[], Awaitable[None]]


class SimFailpoints(Failpoints):
    """Every failpoint is one of the places; ``armed`` ones kill for certain."""

    def __init__(self, host: Host, step: Step, die: Callable[[], None], armed: set[Failpoint]) -> None:
        """``armed`` is shared with the world: each kills once."""
        super().__init__()
        self._host, self._step, self._die, self._kill = host, step, die, armed

    async def hit(self, name: Failpoint) -> None:
        """Pass ``name``, perhaps for the last time."""
        self._host.count("failpoint", name)
        if name in self._kill:
            self._kill.discard(name)
            self._host.count("killed at", name)
            self._host.detail(f"at {name}:")
            self._die()
        await self._step()


class SimRuntime:
    """shim.ports.Runtime over the simulated containerd."""

    def __init__(self, host: Host, step: Step) -> None:
        self._host, self._step = host, step

    async def _ask(self, read: Callable[[], T]) -> T:
        await self._step()
        self._reach()
        if (fault := self._host.faults.next()) is not None:
            await self._fail(fault)
        value = read()
        await asyncio.sleep(self._host.pause(self._host.latency))
        self._reach()
        await self._step()
        return value

    async def _fail(self, fault: ReadFault) -> None:
        self._host.count("read fault", fault.name)
        self._host.detail(f"a look-up: {fault}")
        if fault is ReadFault.HANGS:
            with suppress(TimeoutError):
                async with asyncio.timeout(ASK):
                    await self._host.containerd.down.wait()
            self._reach()
            raise RuntimeCallError("DEADLINE_EXCEEDED", "Deadline Exceeded")
        await asyncio.sleep(self._host.pause(self._host.latency))
        if fault is ReadFault.LOST:
            raise RuntimeCallError("UNAVAILABLE", "connection reset")
        raise RuntimeCallError("UNKNOWN", "failed to list: metadata store: bad")

    def _reach(self) -> None:
        if not self._host.containerd.up.is_set():
            raise RuntimeCallError("UNAVAILABLE", "connection refused")

    async def find(self, container_id: str) -> Container | None:
        """ListContainers and PodSandboxStatus."""
        return await self._ask(lambda: self._host.containerd.snapshot(container_id))

    async def in_pod(self, sandbox_id: str, wanted: Callable[[str, ContainerState], bool]) -> list[Container]:
        """ListContainers and PodSandboxStatus."""
        containerd = self._host.containerd
        found = await self._ask(lambda: [containerd.snapshot(each) for each in containerd.containers])
        mine = [one for one in found if one is not None and one.ref.sandbox_id == sandbox_id]
        return [one for one in mine if wanted(one.ref.id, one.state)]

    async def state(self, container_id: str) -> ContainerState | None:
        """ListContainers."""
        found = await self.find(container_id)
        return None if found is None else found.state

    async def ending(self, container_id: str) -> Ending | None:
        """ContainerStatus."""
        return await self._ask(lambda: self._host.containerd.ending(container_id))

    async def start(self, request: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """StartContainer; the request is the id."""
        await self._step()
        self._reach()
        answer = await self._host.containerd.serve(self._host.containerd.start(request.decode()), timeout)
        await self._step()
        return answer

    async def stop(self, container_id: str, timeout: int, request: bytes, metadata: Metadata, within: float) -> bytes:
        """StopContainer."""
        await self._step()
        self._reach()
        answer = await self._host.containerd.serve(self._host.containerd.stop(container_id, timeout), within)
        await self._step()
        return answer

    async def stop_pod(self, sandbox_id: str) -> None:
        """StopPodSandbox, as a front door forwards it."""
        await self._step()
        self._reach()
        await self._host.containerd.serve(self._host.containerd.stop_pod(sandbox_id), None)

    async def remove(self, container_id: str) -> None:
        """RemoveContainer, as a front door forwards it."""
        await self._step()
        self._reach()
        await self._host.containerd.serve(self._host.containerd.remove_container(container_id), None)

    async def remove_pod(self, sandbox_id: str) -> None:
        """RemovePodSandbox, as a front door forwards it."""
        await self._step()
        self._reach()
        await self._host.containerd.serve(self._host.containerd.remove_pod(sandbox_id), None)

    async def ended(self) -> list[str]:
        """ListContainers: the ids of all that have ended."""
        found = self._host.containerd.containers
        return await self._ask(lambda: [each for each, one in found.items() if one.state is ContainerState.EXITED])

    async def wait_ended(self, container_id: str) -> None:
        """Return when containerd is there and says that the container is not running."""
        await self._step()
        while True:
            await self._host.containerd.up.wait()
            container = self._host.containerd.containers.get(container_id)
            if container is None or not container.state.stoppable:
                return
            await container.ended.wait()
            await asyncio.sleep(self._host.pause(0))

    async def exec(self, request: bytes, metadata: Metadata) -> bytes:
        """ExecSync is not simulated."""
        raise NotImplementedError

    async def running(self) -> list[Container]:
        """ListContainers by state."""
        containerd = self._host.containerd
        found = await self._ask(lambda: [containerd.snapshot(each) for each in containerd.containers])
        return [one for one in found if one is not None and one.state is ContainerState.RUNNING]

    async def clear_leftover(self, container_id: str) -> None:
        """Tasks.Delete."""
        await self._ask(lambda: self._host.containerd.clear_leftover(container_id))


class SimHandler:
    """shim.ports.Handler for both kinds, after the script of the container's hook."""

    def __init__(self, host: Host, step: Step) -> None:
        self._host, self._step = host, step

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Do what the script says; an exec ends with its container."""
        container_id = attempt.container.ref.id
        await self._step()
        # One that is gone by now counts too.
        container = next(each for each in self._host.all if each.ref.id == container_id)
        at = self._host.trace(f"{container_id} {attempt.hook} handler, attempt {attempt.number}")
        self._host.calls.append(
            HandlerCall(at, attempt.delivery_id, attempt.number, attempt.hook, container_id, container.started)
        )
        script = self._host.scripts[container_id, attempt.hook]
        if script.what == "hang" or script.takes > 0 or script.what == "exit":
            await self._work(container, script)
        await self._step()
        self._host.detail(f"{container_id} {attempt.hook} handler, attempt {attempt.number}: {script.what}")
        if container.dying.is_set() and isinstance(attempt.handler.action, ExecAction):
            return Outcome("exited with 137", exit_status=137)
        if script.what == "raise":
            raise ZeroDivisionError("a bug in the handler")
        return Outcome() if script.what == "succeed" else Outcome("exited with 1", exit_status=1)

    async def find(self, attempt: Attempt) -> Outcome | None:
        """Nothing of an attempt survives its daemon here."""
        await self._step()
        return None

    async def _work(self, container: SimContainer, script: Script) -> None:
        dying = container.dying if script.kind == "exec" else asyncio.Event()
        try:
            async with asyncio.timeout(None if script.what == "hang" else script.takes):
                await dying.wait()
        except TimeoutError:
            if script.what == "exit":
                self._host.containerd.exit(container)


class SimJournal:
    """shim.ports.Journal over a store that outlives the daemon. A commit is written whole or not at all."""

    def __init__(self, host: Host, step: Step) -> None:
        self._host, self._step = host, step
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def commit(self, *changes: Change) -> None:
        """Write; cancelling the caller does not take it back."""
        await self._step()
        for change in changes:
            if isinstance(change, InsertOperation):
                self._host.accepted(change.operation)
        task = asyncio.create_task(self._write(changes), name="journal")
        self._tasks.add(task)
        task.add_done_callback(self._written)
        await asyncio.shield(task)
        await self._step()

    def _written(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever handed it in may have left.
            task.exception()

    async def _write(self, changes: tuple[Change, ...]) -> None:
        async with self._writing:
            await asyncio.sleep(self._host.pause(self._host.sync))
            if self._host.disk_full:
                self._host.count("journal", "full")
                self._host.trace("journal: disk full")
                raise JournalUnavailableError("the journal cannot be written: database or disk is full")
            [problem] = self._host.store.commit([changes])
            if problem is not None:
                self._host.conflicts.append(str(problem))
                raise JournalConflictError(str(problem))
            if changes:
                self._host.trace(f"journal: {', '.join(filter(None, map(_words, changes)))}")
            for change in changes:
                if isinstance(change, InsertDelivery | UpdateDelivery):
                    self._host.history.setdefault(change.delivery.id, []).append(change.delivery.state)

    async def deliveries_of(self, container_id: str) -> list[Delivery]:
        """From the store."""
        return await self._read(lambda: self._host.store.deliveries_of(container_id))

    async def executions_of(self, container_id: str) -> list[Operation]:
        """From the store."""
        return await self._read(lambda: self._host.store.executions_of(container_id))

    async def born(self) -> float:
        """The beginning of virtual time."""
        return await self._read(lambda: EPOCH)

    async def open_work(self) -> list[tuple[Operation, list[Delivery]]]:
        """From the store."""
        return await self._read(lambda: open_work(self._host.store))

    async def _read(self, query: Callable[[], T]) -> T:
        await self._step()
        async with self._writing:
            if self._host.disk_gone:
                self._host.count("journal", "gone")
                raise JournalUnavailableError("the journal cannot be read: disk I/O error")
            return query()


def open_work(store: Store) -> list[tuple[Operation, list[Delivery]]]:
    """Every open operation with its deliveries."""
    deliveries = store.deliveries_of_open_operations()
    return [(each, [one for one in deliveries if one.operation_id == each.id]) for each in store.open_operations()]


def _words(change: Change) -> str:
    match change:
        case InsertOperation(operation):
            return f"{operation.kind} {operation.state}"
        case UpdateOperation(operation, expected):
            same = operation.state is expected
            return f"{operation.kind} {'shortened' if same else operation.state}"
        case InsertDelivery(delivery) | UpdateDelivery(delivery):
            return f"{delivery.hook} {delivery.state}"
        case InsertEvent(event):
            return f"event {event.reason}"
        case BeginAttempt() | NoteExecution() | EndAttempt():
            return ""
