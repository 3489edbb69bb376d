"""The ports of one simulated daemon. Each is a place where it can be killed, and lets nothing of a dead one through."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from shim.actions import Action, Declared, ExecAction, HttpGetAction, LifecycleHandler, OnFailure, Retry, RunAction
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
from shim.lookup import find
from shim.ports import Container, Metadata
from shim.records import RULE, ContainerState, Delivery, DeliveryState, Ending, Found, Hook, Operation
from shim.store import Store
from tests.engine.sim_containerd import EPOCH, SimContainer, SimContainerd

T = TypeVar("T")

#: Seconds that a look-up may take, as in ``server.runtime``.
ASK = 10.0


@dataclass(frozen=True, slots=True)
class Script:
    """What a hook's handler does: ``succeed``, ``fail``, ``hang``, ``raise`` or ``exit`` (its container) in seconds.

    The first ``fails`` of its attempts fail, whatever it does then. ``survives``: its process outlives hookshim and is
    found again. The others are what is declared beside the handler.
    """

    what: str
    takes: float = 0.0
    kind: str = "exec"
    fails: int = 0
    survives: bool = False
    timeout: float | None = None
    attempts: int | None = 1
    ignore: bool = False

    def policy(self) -> tuple[Retry, OnFailure]:
        """What is declared beside the handler and its timeout."""
        return Retry(self.attempts), OnFailure.IGNORE if self.ignore else OnFailure.KILL

    def handler(self, name: str) -> LifecycleHandler:
        """The declaration, of a hook that ``name`` tells from others."""
        actions: dict[str, Action] = {
            "exec": ExecAction((f"/{name}",)),
            "http": HttpGetAction(80),
            "run": RunAction((f"/{name}",)),
        }
        return LifecycleHandler(actions[self.kind], self.timeout, *self.policy())


@dataclass(frozen=True, slots=True)
class HandlerCall:
    """A handler was called; ``at`` is the position in the world's trace."""

    at: int
    delivery_id: str
    attempt: int
    hook: Hook
    container_id: str
    started: bool
    time: float


class SimRules:
    """shim.ports.Rules: the hooks that the node's owner gives to every container, now."""

    def __init__(self) -> None:
        self.generation = 0
        #: All that there ever were, by the name that is in their command.
        self.scripts: dict[str, tuple[Hook, Script]] = {}
        self._now: list[str] = []

    def replace(self, rules: Sequence[tuple[Hook, Script]]) -> None:
        """From now on these, in their order."""
        self.generation += 1
        self._now = [f"rule{self.generation}-{number}" for number in range(len(rules))]
        self.scripts.update(zip(self._now, rules, strict=True))

    def matching(self, _container: Container) -> list[Declared]:
        """All of them."""
        found = [(name, *self.scripts[name]) for name in self._now]
        return [Declared(hook, script.handler(name), f"{RULE}{name}") for name, hook, script in found]


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
    rules: SimRules
    #: What must never happen.
    errors: list[str]
    #: Records of what happened may be missing, so that it may happen again.
    disk_was_bad: bool
    #: Of each attempt, the process that outlives hookshim; those whose end, or whose kill, hookshim knows of.
    processes: dict[tuple[str, int], asyncio.Task[bool]]
    known: set[tuple[str, int]]
    #: How often a delivery has succeeded.
    successes: Counter[str]
    loop: asyncio.AbstractEventLoop
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

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` as the world's."""
        ...

    def accepted(self, operation: Operation) -> None:
        """An operation is about to be written, perhaps not for the first time."""
        ...

    def pause(self, seconds: float) -> float:
        """About so many seconds."""
        ...


#: Passed at every place where the daemon can die; never returns if it does.
Step = Callable[[], Awaitable[None]]


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

    async def find_all(self, container_ids: Collection[str]) -> dict[str, Container]:
        """ListContainers and PodSandboxStatus."""
        containerd = self._host.containerd
        found = await self._ask(lambda: [containerd.snapshot(each) for each in containerd.containers])
        return {one.ref.id: one for one in found if one is not None and one.ref.id in container_ids}

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

    async def find(self, key: str) -> Found:
        """From the store."""
        return await self._read(lambda: find(self._host.store, key))

    async def born(self) -> float:
        """The beginning of virtual time."""
        return await self._read(lambda: EPOCH)

    async def open_work(self) -> list[tuple[Operation, list[Delivery]]]:
        """From the store."""
        return await self._read(lambda: open_work(self._host.store))

    async def open_work_of(self, container_id: str) -> list[tuple[Operation, list[Delivery]]]:
        """From the store."""
        return await self._read(lambda: open_work(self._host.store, container_id))

    async def _read(self, query: Callable[[], T]) -> T:
        await self._step()
        async with self._writing:
            if self._host.disk_gone:
                self._host.count("journal", "gone")
                raise JournalUnavailableError("the journal cannot be read: disk I/O error")
            return query()


def open_work(store: Store, container_id: str | None = None) -> list[tuple[Operation, list[Delivery]]]:
    """Every open operation, or of one container, with its deliveries."""
    deliveries, operations = store.deliveries_of_open_operations(container_id), store.open_operations(container_id)
    return [(each, [one for one in deliveries if one.operation_id == each.id]) for each in operations]


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
