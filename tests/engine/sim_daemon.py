"""One life of a simulated hookshim: the engine over its ports, from its recovery to the place where it is killed."""

from __future__ import annotations

import asyncio
from typing import Protocol

from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from shim.engine import Engine
from shim.errors import JournalUnavailableError, RuntimeCallError
from shim.failpoints import Failpoint
from shim.lifecycle import ExecAction, HttpGetAction
from shim.plan import Settings
from shim.records import Event
from shim.tools import Tools
from tests.engine.sim_containerd import EPOCH
from tests.engine.sim_ports import Host, SimFailpoints, SimHandler, SimJournal, SimRuntime


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
        return EPOCH + self._loop.time()

    def boottime(self) -> float:
        """Seconds of this boot."""
        return self._loop.time() - self._booted

    def new_id(self) -> str:
        """The next number."""
        self._ids += 1
        return f"id{self._ids}"


class Node(Host, Protocol):
    """What a daemon needs of the world around it."""

    settings: Settings
    clock: SimClock
    announced: list[Event]
    kill_at: set[Failpoint]
    steps_left: int | None

    def killed(self) -> None:
        """The daemon has just died."""
        ...


class Daemon:
    """One life of hookshim."""

    def __init__(self, world: Node) -> None:
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
                for container in list(self._world.containerd.containers.values()):
                    if not container.state.stoppable:
                        await self.engine.found_ended(container.ref.id)
        self.serving = True

    def _announce(self, event: Event) -> None:
        if self.alive:
            self._world.announced.append(event)
