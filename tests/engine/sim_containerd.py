"""A containerd with its containers, as far as hookshim can tell it from a real one. It outlives every daemon.

What it does is what was measured on the real one: one TERM a container, a KILL at the end of the grace only while the
caller is still there, an OK for the stop of a container that is not running, a start that goes its own way when its
caller dies, an exec that ends some milliseconds before its container does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from shim.errors import RuntimeCallError
from shim.ports import Container, Pod
from shim.records import ContainerRef, ContainerState, Ending

T = TypeVar("T")

#: Seconds from the end of a container's processes to its CRI state.
REAP = 0.01

#: Seconds since the epoch at which virtual time begins.
EPOCH = 1_700_000_000.0

#: Seconds from KILL to the processes' end.
KILL = 0.02

STARTED, STOPPED, REMOVED = b"started", b"stopped", b"removed"

_SIGKILL, _SIGTERM = 137, 143


class CutStart(StrEnum):
    """What becomes of a StartContainer whose client dies."""

    RUNS = "runs"
    FAILS = "fails"
    NOTHING = "nothing"


class Trouble(StrEnum):
    """How a call goes wrong."""

    REFUSED = "a definite error, without effect"
    LOST_BEFORE = "the connection breaks, without effect"
    LOST_AFTER = "the connection breaks after the effect"
    HANGS = "no answer, and no effect"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a container behaves. Times in seconds; ``term_takes`` None ignores TERM, ``lives`` None lives on."""

    start_takes: float = 0.05
    starts: bool = True
    cut_start: CutStart = CutStart.RUNS
    start_trouble: Trouble | None = None
    start_trouble_lasts: bool = True
    term_takes: float | None = 1.0
    lives: float | None = None
    stop_troubles: tuple[Trouble, ...] = ()


@dataclass(slots=True)
class SimContainer:
    """One container, with what was done to it."""

    ref: ContainerRef
    annotations: dict[str, str]
    behaviour: Behaviour
    malformed: bool = False
    state: ContainerState = ContainerState.CREATED
    started: bool = False
    finished_at: float = 0.0
    starting: bool = False
    leftover: bool = False
    #: Which of the node's boots its sandbox is of.
    boot: int = 0
    #: Containerd refused to show it, so that it was ended without a look at its hooks.
    unseen: bool = False
    #: Its StartContainer was cut off, so that nobody but containerd knows of it until it runs.
    cut: bool = False
    #: Positions in the world's trace: where it began to run, and of each StopContainer that came before, while no
    #: start was known of.
    ran: int = -1
    idle_stops: list[int] = field(default_factory=list)
    #: Its processes are gone, which its execs see first.
    dying: asyncio.Event = field(default_factory=asyncio.Event)
    #: It is not running any more, as CRI has it.
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    #: (position in the world's trace, name) of each signal that a StopContainer sent.
    signals: list[tuple[int, str]] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)


class SimContainerd:
    """The containers of a node, and the calls that change them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        trace: Callable[[str], int],
        exited: Callable[[str], None],
    ) -> None:
        """``spawn`` runs its side of a call, ``trace`` writes a line and returns its position.

        ``exited`` is told of each container that ends while containerd is there, as its events tell it.
        """
        self._loop = loop
        self._spawn = spawn
        self._trace = trace
        self._exited = exited
        self._pods_stopped: set[str] = set()
        self._boots = 0
        self.containers: dict[str, SimContainer] = {}
        self.up = asyncio.Event()
        self.up.set()
        #: Set while it is not.
        self.down = asyncio.Event()
        #: How many calls hang; containerd's end ends them.
        self.hanging = 0

    def create(self, container: SimContainer) -> None:
        """CreateContainer."""
        container.boot = self._boots
        container.troubles = list(container.behaviour.stop_troubles)
        self.containers[container.ref.id] = container

    def remove(self, container: SimContainer) -> None:
        """RemoveContainer."""
        self._trace(f"{container.ref.id} is removed")
        self.containers.pop(container.ref.id, None)
        container.dying.set()
        container.ended.set()

    def away(self) -> None:
        """Containerd ends; its containers go on."""
        self._trace("containerd is away")
        self.up.clear()
        self.down.set()

    def back(self) -> None:
        """Containerd is there again."""
        self._trace("containerd is back")
        self.down = asyncio.Event()
        self.hanging = 0
        self.up.set()

    def reboot(self) -> None:
        """The machine starts anew: nothing runs."""
        self._boots += 1
        self.away()
        for container in self.containers.values():
            container.starting = container.leftover = False
            if container.state.stoppable:
                self._end(container)
        self.back()

    async def serve(self, work: Coroutine[Any, Any, T], within: float | None) -> T:
        """Carry out a client's call; cut off if the client leaves, its time is over or containerd ends."""
        task, down = self._spawn(work), self._spawn(self.down.wait())
        try:
            await asyncio.wait({task, down}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                result: T = task.result()
                return result
            if down.done():
                raise RuntimeCallError("UNAVAILABLE", "Socket closed")
            raise RuntimeCallError("DEADLINE_EXCEEDED", "Deadline Exceeded")
        finally:
            task.cancel()
            down.cancel()

    def snapshot(self, container_id: str) -> Container | None:
        """What ListContainers and PodSandboxStatus tell."""
        found = self.containers.get(container_id)
        if found is None:
            return None
        ref = found.ref
        pod = Pod(ref.sandbox_id, ref.pod, ref.namespace, ref.uid, {}, ("10.0.0.7",), host_network=False)
        return Container(ref, found.state, dict(found.annotations), pod)

    def ending(self, container_id: str) -> Ending | None:
        """What ContainerStatus tells."""
        found = self.containers.get(container_id)
        if found is None:
            return None
        return Ending(found.started, 0, "Completed" if found.started else "StartError", found.finished_at)

    def clear_leftover(self, container_id: str) -> None:
        """Delete the native task."""
        if container_id in self.containers:
            self.containers[container_id].leftover = False

    async def start(self, container_id: str) -> bytes:
        """StartContainer."""
        container = self.containers.get(container_id)
        if container is None:
            raise RuntimeCallError("NOT_FOUND", "container not found")
        if container.state is not ContainerState.CREATED or container.starting:
            raise RuntimeCallError("UNKNOWN", f"container is in {container.state} state")
        trouble = self._start_trouble(container)
        stopped = container.boot != self._boots or container.ref.sandbox_id in self._pods_stopped
        if trouble is Trouble.REFUSED or stopped:
            raise RuntimeCallError("FAILED_PRECONDITION", "sandbox is not ready")
        if trouble is Trouble.LOST_BEFORE:
            raise RuntimeCallError("UNAVAILABLE", "connection reset")
        if trouble is Trouble.HANGS:
            await self._hang()
        self._trace(f"{container_id} StartContainer")
        container.starting = True
        try:
            await asyncio.sleep(container.behaviour.start_takes)
        except asyncio.CancelledError:
            container.cut = True
            self._spawn(self._cut(container))
            raise
        container.starting = False
        if container_id not in self.containers:
            raise RuntimeCallError("NOT_FOUND", "container not found")
        if not container.behaviour.starts:
            self._start_failed(container)
            raise RuntimeCallError("UNKNOWN", "failed to start containerd task: no such file")
        self._run(container)
        if trouble is Trouble.LOST_AFTER:
            raise RuntimeCallError("UNAVAILABLE", "connection reset")
        return STARTED

    def _start_trouble(self, container: SimContainer) -> Trouble | None:
        trouble = container.behaviour.start_trouble
        if not container.behaviour.start_trouble_lasts:
            container.behaviour = replace(container.behaviour, start_trouble=None)
        return trouble

    async def _cut(self, container: SimContainer) -> None:
        await asyncio.sleep(container.behaviour.start_takes)
        if container.boot != self._boots or container.ref.id not in self.containers:
            return
        container.starting = False
        if container.behaviour.cut_start is CutStart.RUNS and container.behaviour.starts:
            self._run(container)
        elif container.behaviour.cut_start is not CutStart.NOTHING:
            self._start_failed(container)
            container.leftover = True

    def _run(self, container: SimContainer) -> None:
        container.ran = self._trace(f"{container.ref.id} runs")
        container.state, container.started = ContainerState.RUNNING, True
        if container.behaviour.lives is not None:
            self._later(container.behaviour.lives, container, 0)

    def _start_failed(self, container: SimContainer) -> None:
        self._trace(f"{container.ref.id} does not start")
        self._end(container)

    def _end(self, container: SimContainer) -> None:
        container.state, container.finished_at = ContainerState.EXITED, EPOCH + self._loop.time()
        container.dying.set()
        container.ended.set()

    async def stop(self, container_id: str, timeout: int) -> bytes:
        """StopContainer."""
        container = self.containers.get(container_id)
        at = self._trace(f"{container_id} StopContainer({timeout})")
        if container is None or not container.state.stoppable:
            self._idle(container, at)
            return STOPPED
        trouble = container.troubles.pop(0) if container.troubles else None
        if trouble is Trouble.REFUSED:
            raise RuntimeCallError("UNKNOWN", "an error occurs during waiting for container to be killed")
        if trouble is Trouble.LOST_BEFORE:
            raise RuntimeCallError("UNAVAILABLE", "connection reset")
        if trouble is Trouble.HANGS:
            await self._hang()
        if timeout > 0 and not any(name == "TERM" for _, name in container.signals):
            self._signal(container, "TERM")
            if container.behaviour.term_takes is not None:
                self._later(container.behaviour.term_takes, container, _SIGTERM)
        try:
            async with asyncio.timeout(timeout):
                await container.ended.wait()
        except TimeoutError:
            if not container.dying.is_set():
                self._signal(container, "KILL")
                self._later(KILL, container, _SIGKILL)
            await container.ended.wait()
        if trouble is Trouble.LOST_AFTER:
            raise RuntimeCallError("UNAVAILABLE", "connection reset")
        return STOPPED

    def _idle(self, container: SimContainer | None, at: int) -> None:
        if container is not None and container.state.startable and (container.cut or not container.starting):
            container.idle_stops.append(at)

    async def stop_pod(self, sandbox_id: str) -> bytes:
        """StopPodSandbox: kills what runs in it, without a TERM."""
        self._trace(f"StopPodSandbox({sandbox_id})")
        self._pods_stopped.add(sandbox_id)
        for container in self._of(sandbox_id):
            await self._kill(container)
        return STOPPED

    async def remove_pod(self, sandbox_id: str) -> bytes:
        """RemovePodSandbox: kills and removes what is in it."""
        self._trace(f"RemovePodSandbox({sandbox_id})")
        self._pods_stopped.add(sandbox_id)
        for container in self._of(sandbox_id):
            await self.remove_container(container.ref.id)
        return REMOVED

    async def remove_container(self, container_id: str) -> bytes:
        """RemoveContainer: kills what runs, without a TERM."""
        container = self.containers.get(container_id)
        if container is None:
            return REMOVED
        self._trace(f"{container_id} RemoveContainer")
        if container.starting:
            raise RuntimeCallError("UNKNOWN", "container is in starting state, can't be removed")
        await self._kill(container)
        if container.leftover:
            raise RuntimeCallError("UNKNOWN", "cannot delete running task")
        if container_id in self.containers:
            self.remove(container)
        return REMOVED

    def _of(self, sandbox_id: str) -> list[SimContainer]:
        return [one for one in self.containers.values() if one.ref.sandbox_id == sandbox_id]

    async def _kill(self, container: SimContainer) -> None:
        if container.state.stoppable:
            if not container.dying.is_set():
                self._signal(container, "KILL")
                self._later(KILL, container, _SIGKILL)
            await container.ended.wait()

    async def _hang(self) -> None:
        self._trace("a call hangs")
        self.hanging += 1
        await asyncio.Event().wait()

    def _signal(self, container: SimContainer, name: str) -> None:
        container.signals.append((self._trace(f"{container.ref.id} gets {name}"), name))

    def _later(self, seconds: float, container: SimContainer, code: int) -> None:
        self._loop.call_later(seconds, self.exit, container, code)

    def exit(self, container: SimContainer, code: int = 0) -> None:
        """The container's processes end."""
        if container.state.stoppable and not container.dying.is_set():
            container.dying.set()
            self._loop.call_later(REAP, self._reap, container, code)

    def _reap(self, container: SimContainer, code: int) -> None:
        if container.state.stoppable:
            self._trace(f"{container.ref.id} exits with {code}")
            self._end(container)
            if self.up.is_set():
                self._exited(container.ref.id)
