"""Carries out what ``shim.recovery`` decides: at the start of the daemon, every open operation is taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from shim.actor import Actor
from shim.errors import HookshimError, JournalUnavailableError, RuntimeCallError
from shim.failpoints import Failpoint
from shim.ledger import PATIENCE
from shim.moves import moved
from shim.ports import Container
from shim.post_stop import PostStops
from shim.records import ContainerState, Delivery, Ending, Operation, OperationKind
from shim.recovery import Now, Verdict, reconcile
from shim.table import OperationEvent
from shim.tools import Tools

log = structlog.get_logger(__name__)

#: Seconds between two looks whether a container that had work of this process's own has none any more.
LATER = 1.0

_Work = list[tuple[Operation, list[Delivery]]]


class Resumption:
    """Takes up open work. ``actor`` keeps a container's actor, ``busy`` tells whether it has one already."""

    def __init__(
        self,
        tools: Tools,
        post_stops: PostStops,
        actor: Callable[[str], AbstractContextManager[Actor]],
        busy: Callable[[str], bool],
    ) -> None:
        self._tools = tools
        self._post_stops = post_stops
        self._actor = actor
        self._busy = busy
        self._postponed: set[str] = set()
        self._taken: set[str] = set()
        self._complete = False

    async def run(self) -> None:
        """Reconcile all of it. Raises RuntimeCallError (ambiguous) and JournalUnavailableError; run it again then."""
        await self._tools.hit(Failpoint.RECOVERY_RECONCILE)
        for container_id, work in (await self._open()).items():
            # It has an actor if an earlier run has come as far, or if the journal could not be read until now.
            if self._busy(container_id):
                self._postpone(container_id)
            else:
                await self._container(container_id, work)
        self._complete = not self._postponed
        await self._tools.hit(Failpoint.RECOVERY_RECONCILED)

    async def take_up(self, container_id: str) -> None:
        """Take up what is open of one container, before it is called for: callers may be let in before the recovery.

        Raises RuntimeCallError, and JournalUnavailableError, also if the journal does not answer.
        """
        if self._complete or container_id in self._taken:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                work = (await self._open()).get(container_id, [])
        except TimeoutError:
            raise JournalUnavailableError(f"the journal has not answered for {PATIENCE:g} s") from None
        await self._container(container_id, work)
        self._taken.add(container_id)

    def _postpone(self, container_id: str) -> None:
        if container_id not in self._postponed:
            self._postponed.add(container_id)
            self._tools.tasks.spawn(self._later(container_id), f"recovery {container_id}", patient=True)

    async def _open(self) -> dict[str, _Work]:
        by_container: dict[str, _Work] = {}
        for operation, deliveries in await self._tools.journal.open_work():
            by_container.setdefault(operation.container.id, []).append((operation, deliveries))
        return by_container

    async def _later(self, container_id: str) -> None:
        """Reconcile what is still open of a container when this process has done what it was asked for."""
        while True:
            await asyncio.sleep(LATER)
            try:
                if not self._busy(container_id):
                    work = (await self._open()).get(container_id, [])
                    if not self._busy(container_id):
                        await self._container(container_id, work)
                        self._postponed.discard(container_id)
                        self._complete = not self._postponed
                        return
            except HookshimError as error:
                log.warning("open work cannot be taken up yet", container=container_id, error=str(error))

    async def _container(self, container_id: str, work: _Work) -> None:
        try:
            container = await self._tools.runtime.find(container_id)
            ending = await self._ending(container, work)
            now = Now(at=self._tools.clock.wall(), boot_id=self._tools.clock.boot_id)
            # A postStop before the start that begins it, a start before the stop that ends its PostStart.
            for operation, deliveries in sorted(work, key=lambda item: _ORDER.index(item[0].kind)):
                match operation.kind:
                    case OperationKind.END:
                        if self._post_stops.of(container_id) is None:
                            self._post_stops.resume(operation, deliveries)
                    case OperationKind.EXEC:
                        change = moved(now.at, operation, OperationEvent.END, "hookshim ended before the answer")[1]
                        await self._apply(Verdict((change,)), container_id, container)
                    case _:
                        verdict = reconcile(now, operation, deliveries, container, ending)
                        await self._apply(verdict, container_id, container)
        except RuntimeCallError as error:
            if error.ambiguous:
                raise
            log.exception("open work cannot be reconciled with the runtime and is left", container=container_id)
        except JournalUnavailableError:
            raise
        except Exception:
            # One row that cannot be moved must not keep the node's containers from being served.
            log.exception("open work cannot be moved and is left", container=container_id)

    async def _ending(self, container: Container | None, work: _Work) -> Ending | None:
        if container is None or container.state is not ContainerState.EXITED:
            return None
        ending = await self._tools.runtime.ending(container.ref.id)
        starting = (OperationKind.START, OperationKind.END)
        if ending is not None and not ending.started and any(op.kind in starting for op, _ in work):
            await self._tools.runtime.clear_leftover(container.ref.id)
        return ending

    async def _apply(self, verdict: Verdict, container_id: str, container: Container | None) -> None:
        with self._actor(container_id) as actor:
            await actor.note(verdict.changes)
            if verdict.operation is not None and container is not None:
                actor.resume(container, verdict.operation, verdict.deliveries)


_ORDER = (OperationKind.EXEC, OperationKind.END, OperationKind.START, OperationKind.STOP)
