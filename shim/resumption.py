"""Carries out what ``shim.recovery`` decides: at the start of the daemon, every open operation is taken up again.

First all are compared with the runtime, which is asked once for all containers; then, a few at a time, what is left to
do is gone on with: a node's thousand hooks must not keep its callers waiting. Whoever asks for a container in between
finds it gone on with, since ``go_on`` comes before him.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

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
from shim.together import each, gently
from shim.tools import Tools

log = structlog.get_logger(__name__)

#: Seconds between two looks whether a container that had work of this process's own has none any more.
LATER = 1.0

#: How many containers are reconciled at once.
AT_ONCE = 32

_Work = list[tuple[Operation, list[Delivery]]]

#: What the runtime knows of a container: None if it is gone.
_Found = dict[str, Container | None]


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is left to do for a container, whose actor is ``kept`` for that."""

    actor: Actor
    container: Container
    go: Sequence[tuple[Operation, Sequence[Delivery]]]
    kept: ExitStack


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
        self._ready: dict[str, _Ready] = {}
        self._postponed: set[str] = set()
        self._taken: set[str] = set()
        self._taking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ran = self._complete = False

    async def run(self) -> None:
        """Reconcile all of it. Raises RuntimeCallError (ambiguous) and JournalUnavailableError; run it again then."""
        await self._tools.hit(Failpoint.RECOVERY_RECONCILE)
        work = await self._open()
        found = await self._find(work.keys() - self._taken)

        async def take(container_id: str) -> None:
            # It has an actor if callers were let in before the journal could be read.
            if self._busy(container_id) and container_id not in self._taken:
                self._postpone(container_id)
            else:
                await self._take(container_id, work[container_id], found)

        try:
            await each(AT_ONCE, work, take)
        finally:
            self._tools.tasks.spawn(gently([*self._ready], self.go_on), "recovery", patient=True)
        self._ran = True
        self._completed()
        await self._tools.hit(Failpoint.RECOVERY_RECONCILED)

    def go_on(self, container_id: str) -> None:
        """Go on with what is left to do for a container, if that has not begun yet."""
        if (ready := self._ready.pop(container_id, None)) is None:
            return
        with ready.kept:
            try:
                for operation, deliveries in ready.go:
                    ready.actor.resume(ready.container, operation, deliveries)
            except Exception:
                # Neither the others nor whoever wants something of this container is to suffer from that.
                log.exception("open work cannot be gone on with and is left", container=container_id)

    async def take_up(self, container_id: str) -> None:
        """Take up what is open of one container, before it is called for: callers may be let in before the recovery.

        Raises RuntimeCallError, and JournalUnavailableError, also if the journal does not answer.
        """
        with self._actor(container_id) as actor:
            # What runs here is this process's own, and in the journal by now; what is not waits for it to end.
            if self._complete or container_id in self._taken or actor.runs:
                return
        try:
            async with asyncio.timeout(PATIENCE):
                work = await self._tools.journal.open_work_of(container_id)
        except TimeoutError:
            raise JournalUnavailableError(f"the journal has not answered for {PATIENCE:g} s") from None
        await self._take(container_id, work)
        self.go_on(container_id)

    def _postpone(self, container_id: str) -> None:
        if container_id not in self._postponed:
            self._postponed.add(container_id)
            self._tools.tasks.spawn(self._later(container_id), f"recovery {container_id}", patient=True)

    def _completed(self) -> None:
        """If nothing is postponed, nobody asks any more what was taken."""
        if self._ran and not self._postponed:
            self._complete = True
            self._taken.clear()
            self._taking.clear()

    async def _open(self) -> dict[str, _Work]:
        by_container: dict[str, _Work] = {}
        for operation, deliveries in await self._tools.journal.open_work():
            by_container.setdefault(operation.container.id, []).append((operation, deliveries))
        return by_container

    async def _find(self, container_ids: Collection[str]) -> _Found | None:
        """What the runtime knows of them now, in one answer; None: each is to be asked for.

        It may be old by a moment when it is used. That is no harm: a container that is gone or has ended stays so, and
        of one that is not, whatever goes on with it asks again.
        """
        if not container_ids:
            return {}
        try:
            known = await self._tools.runtime.find_all(container_ids)
        except RuntimeCallError as error:
            if error.ambiguous:
                raise
            log.warning("the runtime does not tell of all containers at once; asking for each", error=str(error))
            return None
        return {container_id: known.get(container_id) for container_id in container_ids}

    async def _later(self, container_id: str) -> None:
        """Reconcile what is still open of a container when this process has done what it was asked for."""
        while True:
            await asyncio.sleep(LATER)
            try:
                if not self._busy(container_id):
                    work = await self._tools.journal.open_work_of(container_id)
                    if not self._busy(container_id):
                        await self._take(container_id, work)
                        self.go_on(container_id)
                        self._postponed.discard(container_id)
                        self._completed()
                        return
            except HookshimError as error:
                log.warning("open work cannot be taken up yet", container=container_id, error=str(error))

    async def _take(self, container_id: str, work: _Work, found: _Found | None = None) -> None:
        """Reconcile a container's open work, unless that was done; what is left to do is ready then."""
        async with self._taking[container_id]:
            if not (self._complete or container_id in self._taken):
                await self._container(container_id, work, found)
                self._taken.add(container_id)

    async def _container(self, container_id: str, work: _Work, found: _Found | None) -> None:
        verdicts: list[Verdict] = []
        try:
            if found is not None:
                container = found.get(container_id)
            else:
                container = await self._tools.runtime.find(container_id) if work else None
            ending = await self._ending(container, work)
            now = Now(at=self._tools.clock.wall(), boot_id=self._tools.clock.boot_id)
        except RuntimeCallError as error:
            if error.ambiguous:
                raise
            log.exception("open work cannot be reconciled with the runtime and is left", container=container_id)
            return
        try:
            # A postStop before the start that begins it, a start before the stop that ends its PostStart.
            for operation, deliveries in sorted(work, key=lambda item: _ORDER.index(item[0].kind)):
                match operation.kind:
                    case OperationKind.END:
                        if self._post_stops.of(container_id) is None:
                            self._post_stops.resume(operation, deliveries)
                    case OperationKind.EXEC:
                        change = moved(now.at, operation, OperationEvent.END, "hookshim ended before the answer")[1]
                        verdicts.append(Verdict((change,)))
                    case _:
                        verdicts.append(reconcile(now, operation, deliveries, container, ending))
        except Exception:
            # One row that cannot be moved must not keep the node's containers from being served.
            log.exception("open work cannot be moved and is left", container=container_id)
        if verdicts:
            await self._apply(verdicts, container_id, container)

    async def _ending(self, container: Container | None, work: _Work) -> Ending | None:
        """How it ended, where that makes a difference: a start may have failed."""
        starting = any(operation.kind in (OperationKind.START, OperationKind.END) for operation, _ in work)
        if container is None or container.state is not ContainerState.EXITED or not starting:
            return None
        ending = await self._tools.runtime.ending(container.ref.id)
        if ending is not None and not ending.started:
            await self._tools.runtime.clear_leftover(container.ref.id)
        return ending

    async def _apply(self, verdicts: Sequence[Verdict], container_id: str, container: Container | None) -> None:
        with ExitStack() as kept:
            actor = kept.enter_context(self._actor(container_id))
            await actor.note([change for verdict in verdicts for change in verdict.changes])
            go = [(verdict.operation, verdict.deliveries) for verdict in verdicts if verdict.operation is not None]
            if go and container is not None:
                # All at once: a start that is gone on with alone would not know of its stop.
                self._ready[container_id] = _Ready(actor, container, go, kept.pop_all())


_ORDER = (OperationKind.EXEC, OperationKind.END, OperationKind.START, OperationKind.STOP)
