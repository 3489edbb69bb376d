"""A node to run the engine on: simulated containerd, handlers, disk, callers and time, and a daemon that can be killed.

A killed daemon stops at the place where it stands; its tasks are ended, and none of its ports lets anything more
through to the world. Then a new one recovers from the same journal, as ``server.daemon`` does it.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from shim.engine import Engine
from shim.errors import (
    ClosingError,
    HookFailedError,
    JournalUnavailableError,
    RuntimeCallError,
    StoppedError,
)
from shim.failpoints import Failpoint
from shim.lifecycle import KEY, ExecAction, HttpGetAction
from shim.plan import Settings
from shim.records import ContainerRef, ContainerState, DeliveryState, Event, Hook
from shim.store import Store
from shim.tools import Tools
from tests.engine.sim_containerd import Behaviour, SimContainer, SimContainerd
from tests.engine.sim_ports import HandlerCall, Script, SimFailpoints, SimHandler, SimJournal, SimRuntime
from tests.engine.virtual_time import VirtualLoop

_CODES = {
    HookFailedError: "FAILED_PRECONDITION",
    StoppedError: "ABORTED",
    JournalUnavailableError: "UNAVAILABLE",
    ClosingError: "UNAVAILABLE",
}

_ACTIONS = {"exec": {"exec": {"command": ["/hook"]}}, "http": {"httpGet": {"port": 80}}}


class SimClock:
    """shim.ports.Clock over virtual time; ids are counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ids = 0
        self._booted = -1000.0
        self.boot_id = "boot1"

    def reboot(self) -> None:
        """Another boot, whose clock begins anew."""
        self._booted = self._loop.time()
        self.boot_id = f"boot{int(self.boot_id[4:]) + 1}"

    def wall(self) -> float:
        """Seconds since an epoch."""
        return 1_700_000_000.0 + self._loop.time()

    def boottime(self) -> float:
        """Seconds of this boot."""
        return self._loop.time() - self._booted

    def new_id(self) -> str:
        """The next number."""
        self._ids += 1
        return f"id{self._ids}"


@dataclass(slots=True)
class Caller:
    """A client's call; ``answer`` is ``OK``, an error's code, ``left``, or empty while it waits."""

    what: str
    container: SimContainer
    answer: str = ""
    message: str = ""
    #: The container's state at the answer, and the answer's position in the world's trace.
    state: ContainerState | None = None
    at: int = -1


class Daemon:
    """One life of hookshim."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.alive = True
        self.serving = False
        self.runtime = SimRuntime(world, self.step)
        handler = SimHandler(world, self.step)
        self.tools = Tools(
            runtime=self.runtime,
            handlers={ExecAction: handler, HttpGetAction: handler},
            journal=SimJournal(world, self.step),
            clock=world.clock,
            settings=world.settings,
            failpoints=SimFailpoints(self.step, self.die, world.kill_at),
            announce=self._announce,
        )
        self.engine = Engine(self.tools)

    async def step(self) -> None:
        """Pass a place where the daemon can be killed. A dead one gets no further."""
        if self.alive and self._world.steps_left is not None:
            self._world.steps_left -= 1
            if self._world.steps_left < 0:
                self.die()
        if not self.alive:
            raise asyncio.CancelledError

    def die(self) -> None:
        """SIGKILL."""
        if self.alive:
            self.alive = self.serving = False
            self._world.steps_left = None
            self._world.killed()

    async def serve(self) -> None:
        """Recover, for as long as it takes, then let callers in."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((RuntimeCallError, JournalUnavailableError)),
            wait=wait_exponential(0.1, max=2),
        ):
            with attempt:
                await self._world.containerd.up.wait()
                await self.engine.recover()
        self.serving = True

    def _announce(self, event: Event) -> None:
        if self.alive:
            self._world.announced.append(event)


class World:
    """Everything there is. ``close`` it."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._loop_error)
        self._own: set[asyncio.Task[Any]] = set()
        self._logging = structlog.get_config()
        structlog.configure(
            processors=[self._log],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            logger_factory=structlog.PrintLoggerFactory(),
        )
        self.clock = SimClock(self.loop)
        self.lines: list[tuple[float, str]] = []
        self._origin = 0
        self.containerd = SimContainerd(self.loop, self.spawn, self.trace)
        database = sqlite3.connect(":memory:", isolation_level=None)
        database.execute("PRAGMA foreign_keys = ON")
        self.store = Store(database)
        self.store._migrate(Path(":memory:"))
        self.disk_full = False
        self.disk_was_full = False
        self.all: list[SimContainer] = []
        self.scripts: dict[tuple[str, Hook], Script] = {}
        self.calls: list[HandlerCall] = []
        self.callers: list[Caller] = []
        self.announced: list[Event] = []
        self.history: dict[str, list[DeliveryState]] = {}
        self.conflicts: list[str] = []
        #: What must never happen: bugs that were logged, exceptions that nobody took.
        self.errors: list[str] = []
        self.logged: list[str] = []
        self.kill_at: set[Failpoint] = set()
        #: The daemon is killed at the place after so many.
        self.steps_left: int | None = None
        self.downtime = 0.1
        self.crashes = self.reboots = 0
        self._booted: list[int] = []
        self._burying: asyncio.Task[None] | None = None
        self.daemon: Daemon
        self._boot()
        self.run(0.01)

    def close(self) -> None:
        """End what is left."""
        self.daemon.alive = False
        self.loop.run_until_complete(self.spawn(self._bury(everything=True)))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.store.close()
        structlog.configure(**self._logging)

    # --- time and tasks

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` as the world's, which no death of a daemon ends."""
        task = self.loop.create_task(work)
        self._own.add(task)
        task.add_done_callback(self._spawned)
        return task

    def _spawned(self, task: asyncio.Task[Any]) -> None:
        self._own.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, RuntimeCallError):
            self.errors.append("".join(traceback.format_exception(error)))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run_until_complete(self.spawn(asyncio.sleep(seconds)))

    def run_until(self, done: Callable[[], bool], limit: float) -> bool:
        """Let time pass until ``done``, at most ``limit`` seconds; whether it is."""
        end = self.loop.time() + limit
        while not done() and self.loop.time() < end:
            self.run(0.5)
        return done()

    def trace(self, text: str) -> int:
        """Write a line; returns its position."""
        self.lines.append((self.loop.time(), text))
        return len(self.lines) - 1

    def forget(self) -> None:
        """Begin the story here, at time 0."""
        self._origin = len(self.lines)
        self.lines.append((self.loop.time(), ""))

    def story(self) -> str:
        """What has happened since ``forget``: tenths of seconds and what was done, a line each."""
        begin = self.lines[self._origin][0]
        return "".join(f"{at - begin:5.1f} {text}\n" for at, text in self.lines[self._origin + 1 :])

    # --- the daemon

    def _boot(self) -> None:
        self.daemon = Daemon(self)
        task = self.loop.create_task(self.daemon.serve(), name="daemon")
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append("".join(traceback.format_exception(error)))

    def kill(self, downtime: float = 0.1) -> None:
        """SIGKILL now; a new daemon comes after ``downtime`` seconds."""
        self.downtime = downtime
        self.daemon.die()

    def killed(self) -> None:
        """The daemon has died: bury it, and start another."""
        self.crashes += 1
        self.trace("hookshim is killed")
        self._burying = self.spawn(self._again(self.downtime))

    async def _again(self, seconds: float) -> None:
        await self._bury()
        await asyncio.sleep(seconds)
        self._boot()

    async def _bury(self, *, everything: bool = False) -> None:
        """End the tasks of a dead daemon; its ports raise CancelledError wherever its ``finally`` blocks go."""
        spared = {asyncio.current_task()} if everything else self._own
        for _ in range(100):
            tasks = {task for task in asyncio.all_tasks() if task not in spared and not task.done()}
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
        self.errors.append("the dead daemon does not end")

    def terminate(self, drain: float) -> None:
        """SIGTERM, and a new daemon when it has ended."""
        if self.daemon.alive and self.daemon.serving:
            self.trace("hookshim is terminated")
            self.spawn(self._terminate(self.daemon, drain))

    async def _terminate(self, daemon: Daemon, drain: float) -> None:
        draining = self.loop.create_task(daemon.engine.drain(drain))
        await asyncio.wait({draining})
        if daemon.alive:
            daemon.alive = daemon.serving = False
            self.steps_left = None
            await self._again(0.1)

    def reboot(self) -> None:
        """The node is switched off and on."""
        self.trace("the node is rebooted")
        self.reboots += 1
        self._booted.append(len(self.lines))
        self.clock.reboot()
        self.containerd.reboot()
        self.kill()

    # --- containers and callers

    def create(
        self,
        post_start: Script | None = None,
        pre_stop: Script | None = None,
        behaviour: Behaviour | None = None,
    ) -> SimContainer:
        """A container with these hooks, CREATED."""
        name = f"c{len(self.all) + 1}"
        ref = ContainerRef(name, "pod", "main", "web", "default", "uid")
        declared = {}
        for hook, script in ((Hook.POST_START, post_start), (Hook.PRE_STOP, pre_stop)):
            if script is not None:
                self.scripts[name, hook] = script
                declared[str(hook)] = _ACTIONS[script.kind]
        annotations = {KEY: json.dumps(declared)} if declared else {}
        container = SimContainer(ref, annotations, behaviour or Behaviour())
        self.containerd.create(container)
        self.all.append(container)
        return container

    def running(
        self, post_start: Script | None = None, pre_stop: Script | None = None, behaviour: Behaviour | None = None
    ) -> SimContainer:
        """A container that was started through hookshim a while ago; the story begins now."""
        container = self.create(post_start, pre_stop, behaviour)
        start = self.start(container)
        assert self.run_until(lambda: bool(start.answer), 60)
        assert start.answer == "OK"
        self.forget()
        return container

    def start(self, container: SimContainer, leave: float | None = None, deadline: float | None = None) -> Caller:
        """StartContainer of a caller that leaves after ``leave`` seconds, or has a ``deadline``."""
        caller = Caller("start", container)
        request = container.ref.id.encode()

        async def call(daemon: Daemon) -> bytes:
            found = await daemon.runtime.find(container.ref.id)
            answer = found and await daemon.engine.start(found, request, (), deadline)
            return answer or await daemon.runtime.start(request, (), deadline)

        self._call(caller, call, leave, deadline)
        return caller

    def stop(self, container: SimContainer, timeout: int, leave: float | None = None) -> Caller:
        """StopContainer of a caller that leaves after ``leave`` seconds."""
        caller = Caller(f"stop({timeout})", container)

        async def call(daemon: Daemon) -> bytes:
            found = await daemon.runtime.find(container.ref.id)
            answer = found and await daemon.engine.stop(found, timeout, b"", ())
            return answer if answer is not None else await daemon.runtime.stop(container.ref.id, timeout, b"", (), 1e9)

        self._call(caller, call, leave, None)
        return caller

    def _call(
        self,
        caller: Caller,
        call: Callable[[Daemon], Coroutine[Any, Any, bytes]],
        leave: float | None,
        deadline: float | None,
    ) -> None:
        self.callers.append(caller)
        self.trace(f"{caller.container.ref.id} → {caller.what}")
        self.spawn(self._wait(caller, call, leave, deadline))

    async def _wait(
        self,
        caller: Caller,
        call: Callable[[Daemon], Coroutine[Any, Any, bytes]],
        leave: float | None,
        deadline: float | None,
    ) -> None:
        daemon = self.daemon
        if not daemon.serving:
            self._answered(caller, "UNAVAILABLE", "hookshim does not serve yet")
            return
        work = self.loop.create_task(call(daemon))
        await asyncio.wait({work}, timeout=min((one for one in (leave, deadline) if one is not None), default=None))
        if not work.done():
            work.cancel()
            self._answered(caller, "left" if deadline is None else "DEADLINE_EXCEEDED")
            with suppress(asyncio.CancelledError, Exception):
                await work
        elif work.cancelled():
            self._answered(caller, "UNAVAILABLE", "connection lost")
        elif (error := work.exception()) is None:
            self._answered(caller, "OK")
        elif isinstance(error, RuntimeCallError):
            self._answered(caller, error.code, error.message)
        elif type(error) in _CODES:
            self._answered(caller, _CODES[type(error)], str(error))
        else:
            self.errors.append("".join(traceback.format_exception(error)))

    def _answered(self, caller: Caller, answer: str, message: str = "") -> None:
        caller.answer, caller.message = answer, message
        caller.state = caller.container.state if caller.container.ref.id in self.containerd.containers else None
        caller.at = self.trace(f"{caller.container.ref.id} {caller.what} → {answer}")

    # --- what went wrong

    def _loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"asyncio: {context}")

    def _log(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        text = str(event.get("event"))
        self.logged.append(text)
        if event.get("exc_info") and not isinstance(sys.exc_info()[1], ZeroDivisionError):
            self.errors.append(f"{text}\n{traceback.format_exc()}")
        raise structlog.DropEvent
