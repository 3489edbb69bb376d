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
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from shim.errors import RuntimeCallError
from shim.failpoints import Failpoint
from shim.lifecycle import KEY, to_json
from shim.plan import Settings
from shim.records import ContainerRef, DeliveryState, Event, Hook, Operation
from shim.store import Store
from tests.engine.chance import Chance
from tests.engine.seeded_loop import SeededLoop, SeededTask
from tests.engine.sim_callers import Callers
from tests.engine.sim_containerd import Behaviour, SimContainer, SimContainerd
from tests.engine.sim_daemon import Daemon, SimClock
from tests.engine.sim_ports import Faults, HandlerCall, Script, SimRules
from tests.engine.virtual_time import VirtualLoop

#: What a pause is of what it is about, and seconds that even the quickest may take.
_PACES = (0.0, 0.3, 1.0, 1.0, 1.0, 1.7, 4.0)
_MOMENT = 0.001

#: A declaration that is none.
MALFORMED = '{"preStop": {"exec": {}}}'


class World:
    """Everything there is. ``close`` it."""

    def __init__(self, settings: Settings | None = None, chance: Chance | None = None) -> None:
        """With ``chance``, what is not certain comes from it, and every detail is in the trace."""
        self.settings = settings or Settings()
        self._wordy = chance is not None
        self._pace = chance.of("pace") if chance else None
        self.loop: asyncio.AbstractEventLoop = SeededLoop(chance.of("order")) if chance else VirtualLoop()
        self.loop.set_exception_handler(self._loop_error)
        self._own: set[asyncio.Task[Any]] = set()
        self._logging = structlog.get_config()
        structlog.configure(
            processors=[self._log],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            logger_factory=structlog.PrintLoggerFactory(),
        )
        self.clock = SimClock(self.loop, chance.of("ids") if chance else None)
        #: Every operation as it was accepted, and when.
        self.operations: dict[str, tuple[float, Operation]] = {}
        #: What was reached, how often.
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.lines: list[tuple[float, str]] = []
        self._origin = 0
        clients = Callers(self)
        self.callers = clients.all
        self.start, self.stop, self.stop_pod, self.starts = (
            clients.start,
            clients.stop,
            clients.stop_pod,
            clients.starts,
        )
        self.remove, self.remove_pod = clients.remove, clients.remove_pod
        self.retry, self.skip = clients.retry, clients.skip
        self.faults = Faults()
        #: Containerd may have refused a look-up, so that open work was left to the next start of the daemon.
        self.refused = False
        self.containerd = SimContainerd(self.loop, self.spawn, self.trace, self._exited)
        database = sqlite3.connect(":memory:", isolation_level=None)
        database.execute("PRAGMA foreign_keys = ON")
        self.store = Store(database)
        self.store._migrate(Path(":memory:"))
        self.disk_full = self.disk_gone = False
        #: The journal could not be read for a while, so that what it held was done once more, and it says so.
        self.unread = False
        self.sync, self.latency = 0.001, 0.002
        #: Records of what happened may be missing, so that it may happen again.
        self.disk_was_bad = False
        self.all: list[SimContainer] = []
        self.scripts: dict[tuple[str, Hook], Script] = {}
        self.rules = SimRules()
        self.processes: dict[tuple[str, int], asyncio.Task[bool]] = {}
        self.known: set[tuple[str, int]] = set()
        self.successes: Counter[str] = Counter()
        self.calls: list[HandlerCall] = []
        self.announced: list[Event] = []
        self.history: dict[str, list[DeliveryState]] = {}
        self.conflicts: list[str] = []
        #: What must never happen: bugs that were logged, exceptions that nobody took.
        self.errors: list[str] = []
        self.logged: list[str] = []
        self.kill_at: set[Failpoint] = set()
        #: The daemon is killed at the place after so many.
        self.steps_left: int | None = None
        #: And its successor at the place after so many of its own.
        self.more_steps: int | None = None
        self.downtime = 0.1
        #: How often a daemon has ended, and the node.
        self.ends = self.reboots = 0
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

    def detail(self, text: str) -> None:
        """Write a line if the trace is to tell everything."""
        if self._wordy:
            self.trace(f"  {text}")

    def count(self, *what: str) -> None:
        """Note that this was reached."""
        self.counts[what] += 1

    def accepted(self, operation: Operation) -> None:
        """An operation is about to be written, perhaps not for the first time."""
        self.operations.setdefault(operation.id, (self.loop.time(), operation))

    def pause(self, seconds: float) -> float:
        """About so many seconds."""
        if self._pace is None:
            return seconds
        return self._pace.choice(_PACES) * (seconds or _MOMENT)

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
        if self.more_steps is not None:
            self.steps_left, self.more_steps = self.more_steps, None
        self.daemon = Daemon(self)
        task = self.loop.create_task(self.daemon.serve(), name="daemon")
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append("".join(traceback.format_exception(error)))

    def _exited(self, container_id: str) -> None:
        if self._pace is None:
            self._tell(self.daemon, container_id)
        else:
            self.loop.call_later(self.pause(self.latency), self._tell, self.daemon, container_id)

    def _tell(self, daemon: Daemon, container_id: str) -> None:
        if daemon.serving:
            daemon.engine.exited(container_id)

    def kill(self, downtime: float = 0.1) -> None:
        """SIGKILL now; a new daemon comes after ``downtime`` seconds."""
        self.downtime = downtime
        self.daemon.die()

    def killed(self) -> None:
        """The daemon has died: bury it, and start another."""
        self.trace("hookshim is killed")
        self.spawn(self._again(self.downtime))

    async def _again(self, seconds: float) -> None:
        self.ends += 1
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
            for task in sorted(tasks, key=_age):
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
        self.clock.reboot()
        self.containerd.reboot()
        self.kill()

    # --- containers and callers

    def create(
        self,
        post_start: Script | None = None,
        pre_stop: Script | None = None,
        behaviour: Behaviour | None = None,
        *,
        post_stop: Script | None = None,
        malformed: bool = False,
    ) -> SimContainer:
        """A container with these hooks, CREATED; or with a declaration that cannot be read."""
        name = f"c{len(self.all) + 1}"
        ref = ContainerRef(name, f"pod{len(self.all) % 2 + 1}", "main", "web", "default", "uid")
        declared = {}
        for hook, script in zip(Hook, (post_start, pre_stop, post_stop), strict=True):
            if script is not None and not malformed:
                self.scripts[name, hook] = script
                declared[str(hook)] = json.loads(to_json(script.handler("hook")))
        annotations = {KEY: json.dumps(declared)} if declared else {}
        if malformed:
            annotations = {KEY: MALFORMED}
        container = SimContainer(ref, annotations, behaviour or Behaviour(), malformed)
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

    # --- what went wrong

    def _loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"asyncio: {context}")

    def _log(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        text = str(event.get("event"))
        self.logged.append(text)
        if self._wordy:
            self.detail(
                "log: " + " ".join([text, *(f"{key}={event[key]}" for key in ("container", "error") if key in event)])
            )
        # A handler's bug, and a look-up that containerd has refused, are logged in full.
        if text.startswith("the journal does not answer"):
            self.disk_was_bad = True
        if event.get("exc_info") and not isinstance(sys.exc_info()[1], ZeroDivisionError | RuntimeCallError):
            self.errors.append(f"{text}\n{traceback.format_exc()}")
        raise structlog.DropEvent


def _age(task: asyncio.Task[Any]) -> tuple[int, str]:
    """In an order that is the same in every run."""
    if isinstance(task, SeededTask):
        return task.serial, ""
    return len(task.get_name()), task.get_name()
