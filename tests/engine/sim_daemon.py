"""One life of a simulated hookshim: the engine over its ports, from its recovery to the place where it is killed.

What ``server.daemon`` and ``server.watch`` do around the engine is done here in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from shim.actions import ExecAction, HttpGetAction, RunAction
from shim.engine import Engine
from shim.errors import HookshimError, JournalUnavailableError, RuntimeCallError
from shim.failpoints import Failpoint, Failpoints
from shim.plan import Settings
from shim.records import Event
from shim.tools import Tools
from tests.engine.sim_containerd import EPOCH
from tests.engine.sim_handler import SimHandler
from tests.engine.sim_ports import Host, SimJournal, SimRuntime, Step

#: Seconds after containerd is back for each look at what has ended; before the first, the pause of ``server.watch``.
_LOOKS = (0.0, 2.0)
_PAUSE = 1.0


class SimClock:
    """shim.ports.Clock over virtual time; ids are counted, or drawn as a node's are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: Random | None = None) -> None:
        self._loop = loop
        self._chance = chance
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
        """The next number, or any."""
        if self._chance is not None:
            return f"{self._chance.getrandbits(64):016x}"
        self._ids += 1
        return f"id{self._ids}"


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
        handler = SimHandler(world, self.step, lambda: self.alive)
        self.tools = Tools(
            runtime=self.runtime,
            handlers={ExecAction: handler, HttpGetAction: handler, RunAction: handler},
            journal=SimJournal(world, self.step),
            clock=world.clock,
            settings=world.settings,
            rules=world.rules,
            failpoints=SimFailpoints(world, self.step, self.die, world.kill_at),
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
            after=self._again,
        ):
            with attempt:
                if not self.serving:
                    await self._world.containerd.up.wait()
                await self.engine.recover()
        self.serving = True
        await self._watch()

    def _again(self, state: RetryCallState) -> None:
        if state.outcome and isinstance(state.outcome.exception(), JournalUnavailableError):
            # What was open is not known, but no container may wait for a disk to be stopped.
            self.serving = self.alive

    async def _watch(self) -> None:
        """Look at what has ended, now and after each time that containerd was away: its events were lost."""
        while True:
            for pause in _LOOKS:
                await asyncio.sleep(pause)
                with suppress(HookshimError):
                    await self.engine.adopt()
                    for container_id in await self.runtime.ended():
                        await self.engine.found_ended(container_id)
            await self._world.containerd.down.wait()
            await asyncio.sleep(_PAUSE)
            await self._world.containerd.up.wait()

    def _announce(self, event: Event) -> None:
        if self.alive:
            self._world.announced.append(event)
