"""What every actor is given: the ports, the settings, and tasks that somebody owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import structlog

from shim.actions import Action, Declared
from shim.failpoints import Failpoint, Failpoints
from shim.lifecycle import handler_from_json
from shim.plan import Settings
from shim.ports import Clock, Container, Foreseeing, Handler, Journal, Rules, Runtime
from shim.records import Delivery, Event

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Tasks:
    """The engine's tasks: each has a name, none is forgotten, all are ended by ``cancel``."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._patient: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T], name: str, *, patient: bool = False) -> asyncio.Task[T]:
        """Run ``work`` as a task of its own, whoever waits for it.

        ``patient``: it may go on for hours, is as well done by the next daemon, and no shutdown waits for it.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        if patient:
            self._patient.add(task)
        task.add_done_callback(self._ended)
        return task

    async def idle(self) -> None:
        """Return when no task is left but patient ones."""
        while waited := self._tasks - self._patient:
            await asyncio.wait(waited)

    async def cancel(self) -> None:
        """End all tasks that are left; what they were at stays in the journal as it is."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._patient.discard(task)
        if not task.cancelled():
            # Taking the exception here keeps asyncio from complaining about a caller that has left.
            task.exception()


class NoRules:
    """The rules of a node whose owner has made none."""

    generation = 0

    def matching(self, _container: Container) -> Sequence[Declared]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class Tools:
    """The engine's ports and settings, one set a daemon."""

    runtime: Runtime
    handlers: Mapping[type[Action], Handler]
    journal: Journal
    clock: Clock
    settings: Settings = field(default_factory=Settings)
    rules: Rules = field(default_factory=NoRules)
    failpoints: Failpoints = field(default_factory=Failpoints)
    tasks: Tasks = field(default_factory=Tasks)
    announce: Callable[[Event], None] = lambda _event: None

    def foreseeing(self, delivery: Delivery) -> Foreseeing | None:
        """Its handler, if that prepares its work."""
        handler: object = self.handlers.get(type(handler_from_json(delivery.handler).action))
        # isinstance of a protocol takes longer than many a step of a delivery.
        return cast("Foreseeing", handler) if hasattr(handler, "foresee") else None

    async def hit(self, name: Failpoint) -> None:
        """Pass a failpoint."""
        await self.failpoints.hit(name)
