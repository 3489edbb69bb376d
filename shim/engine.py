"""The engine's front: starts and stops of containers come in, what they came to goes out.

What is accepted runs in tasks of the engine's own: a caller that leaves takes nothing with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import structlog

from shim import plan
from shim.actor import Actor
from shim.caller import Caller
from shim.errors import (
    ClosingError,
    DeclarationError,
    HookshimError,
    JournalUnavailableError,
    PodStoppingError,
    RuntimeCallError,
)
from shim.failpoints import Failpoint
from shim.ledger import PATIENCE
from shim.lifecycle import Lifecycle, effective
from shim.memory import Memory
from shim.ports import Container, Ending, Metadata
from shim.records import ContainerState, Delivery, Operation, OperationKind, Reason
from shim.recovery import Now, Verdict, reconcile
from shim.tools import Tools

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: Containers without hooks that are remembered: more than a node has.
_HOOKLESS = 4096

#: Seconds between looks at a container whose end was announced: the runtime's state follows its event.
_STATE_PAUSES = (0.02, 0.1, 0.5, 2.0, 5.0)


class Engine:
    """All containers' actors. One a daemon; belongs to one event loop."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._actors: dict[str, Actor] = {}
        self._stopping: Counter[str] = Counter()
        self._hookless: Memory[str] = Memory(_HOOKLESS)
        self._closing = False

    def hookless(self, container_id: str) -> bool:
        """Whether a whole id is known to be a container's without hooks, so that nobody has to be asked about it.

        Annotations never change. A container of a pod that is being stopped is asked about all the same.
        """
        return self._hookless.get(container_id) not in (None, *self._stopping)

    def check(self, name: str, annotations: dict[str, str], pod_annotations: dict[str, str]) -> None:
        """Raise DeclarationError if a container declared so could not be started."""
        effective(name, annotations, pod_annotations)

    async def start(
        self, container: Container, request: bytes, metadata: Metadata, seconds_left: float | None
    ) -> bytes | None:
        """StartContainer, returned when its PostStart has an outcome; None: no hooks here, forward it untouched.

        ``container`` as the runtime has just shown it, ``request`` the caller's message. Raises DeclarationError,
        JournalUnavailableError and ClosingError (nothing was done), RuntimeCallError (the runtime's own answer),
        HookFailedError and StoppedError.
        """
        if container.ref.sandbox_id in self._stopping:
            raise PodStoppingError(
                f"the pod {container.ref.pod_text} is being stopped: container {container.ref.name} is not started"
            )
        known = container.ref.id in self._actors
        if not known and not container.state.startable:
            return None
        lifecycle = plan.lifecycle(container)
        if not known and lifecycle == Lifecycle():
            self._hookless.put(container.ref.id, container.ref.sandbox_id)
            return None
        self._refuse_if_closing()
        with self._actor(container.ref.id) as actor:
            caller = Caller()
            work = actor.start(container, lifecycle, request, metadata, seconds_left, caller)
            return await _wait(actor.spawn(work, f"StartContainer {container.ref.id}"), caller)

    async def stop(self, container: Container, timeout: int, request: bytes, metadata: Metadata) -> bytes | None:
        """StopContainer with its PreStop; None: no hooks here, forward it untouched. ``timeout`` in seconds.

        What is forwarded in the end is ``request`` with what is left of the timeout.

        Raises ClosingError (nothing was done) and RuntimeCallError (the runtime's own answer).
        """
        if container.ref.id not in self._actors and not self._has_hooks(container):
            return None
        self._refuse_if_closing()
        with self._actor(container.ref.id) as actor:
            caller = Caller()
            work = actor.stop(container, plan.clamp(timeout), caller, request, metadata)
            return await _wait(actor.spawn(work, f"StopContainer {container.ref.id}"), caller)

    async def end(self, container: Container, reason: Reason, caller: Caller | None = None) -> None:
        """PreStop, and the kill, of a container that a call other than StopContainer is about to kill.

        Nothing happens if it has no hooks or does not run. ``caller`` is the pod's, if it is one's. Raises what
        ``stop`` raises.
        """
        if container.ref.id not in self._actors and not (container.state.stoppable and self._has_hooks(container)):
            return
        self._refuse_if_closing()
        with self._actor(container.ref.id) as actor:
            caller = caller or Caller()
            work = actor.stop(container, 0, caller, reason=reason)
            await _wait(actor.spawn(work, f"{reason} {container.ref.id}"), caller)

    async def end_pod(self, sandbox_id: str, reason: Reason) -> None:
        """``end`` for all containers of a pod at once; meanwhile, nothing in it is started.

        Raises what ``end`` raises.
        """
        caller = Caller()
        work = self._end_pod(sandbox_id, reason, caller)
        await _wait(self._tools.tasks.spawn(work, f"{reason} {sandbox_id}"), caller)

    async def _end_pod(self, sandbox_id: str, reason: Reason, caller: Caller) -> None:
        ended: set[str] = set()
        with ExitStack() as marks:
            while containers := [
                container
                for container in await self._tools.runtime.in_pod(sandbox_id, self._may_run)
                if container.ref.id not in ended
            ]:
                # The same pod may be stopped by several callers: each counts.
                marks.enter_context(self._no_starts(containers[0].ref.sandbox_id))
                ended.update(container.ref.id for container in containers)
                work = [self.end(container, reason, caller) for container in containers]
                results = await asyncio.gather(*work, return_exceptions=True)
                for result in results:
                    if isinstance(result, BaseException):
                        raise result

    def _may_run(self, container_id: str, state: ContainerState) -> bool:
        return (state.stoppable and not self.hookless(container_id)) or container_id in self._actors

    @contextmanager
    def _no_starts(self, sandbox_id: str) -> Iterator[None]:
        self._stopping[sandbox_id] += 1
        try:
            yield
        finally:
            self._stopping[sandbox_id] -= 1
            if not self._stopping[sandbox_id]:
                del self._stopping[sandbox_id]

    def exited(self, container_id: str) -> None:
        """The runtime says that a container has just ended: if nobody stopped it, its PreStop leaves a record."""
        if not self._closing and not self.hookless(container_id):
            self._tools.tasks.spawn(self._exited(container_id, since=0.0), f"exited {container_id}")

    async def found_ended(self, container_id: str) -> None:
        """The same for a container that is found ended: its end counts if the journal can know of it.

        What ended before the journal was begun, or would not be kept any more, is not recorded.
        """
        kept = self._tools.clock.wall() - self._tools.settings.retention
        await self._exited(container_id, since=max(kept, await self._tools.journal.born()))

    async def _exited(self, container_id: str, since: float) -> None:
        try:
            container = await self._find_ended(container_id)
            if container is None or not self._has_hooks(container):
                return
            action = plan.lifecycle(container).pre_stop
            ending = await self._tools.runtime.ending(container_id) if action is not None else None
            if action is None or ending is None:
                return
            if ending.started and ending.finished_at >= since:
                with self._actor(container.ref.id) as actor:
                    # A disk that hangs must not hold the actor: its pod may be about to be stopped.
                    async with asyncio.timeout(PATIENCE):
                        await actor.ended_by_itself(container, action, ending)
        except (HookshimError, TimeoutError) as error:
            log.warning("the end of a container is not recorded", container=container_id, error=repr(error))

    async def _find_ended(self, container_id: str) -> Container | None:
        """The container once its state says what the event has said; None if it is gone or goes on running."""
        for pause in _STATE_PAUSES:
            container = await self._tools.runtime.find(container_id)
            if container is None or container.state is ContainerState.EXITED or not self._has_hooks(container):
                return container
            await asyncio.sleep(pause)
        return None

    async def recover(self) -> int:
        """Reconcile the journal with the runtime, and set going what is open. Returns how many operations are.

        Raises RuntimeCallError while the runtime does not answer, and JournalUnavailableError; call it again then.
        """
        await self._tools.hit(Failpoint.RECOVERY_RECONCILE)
        by_container: dict[str, list[tuple[Operation, list[Delivery]]]] = {}
        for operation, deliveries in await self._tools.journal.open_work():
            by_container.setdefault(operation.container.id, []).append((operation, deliveries))
        for container_id, work in by_container.items():
            # An actor is there if an earlier call of recover() has come as far as this container.
            if container_id not in self._actors:
                await self._recover(container_id, work)
        await self._tools.hit(Failpoint.RECOVERY_RECONCILED)
        return len(self._actors)

    async def _recover(self, container_id: str, work: list[tuple[Operation, list[Delivery]]]) -> None:
        try:
            container = await self._tools.runtime.find(container_id)
            ending = await self._ending(container, work)
            # The stop first: a PostStart that is open beside it is not sent again.
            work.sort(key=lambda item: item[0].kind is OperationKind.START)
            now = Now(
                at=self._tools.clock.wall(),
                boot_id=self._tools.clock.boot_id,
                max_interruptions=self._tools.settings.max_interruptions,
                stopping=work[0][0].kind is OperationKind.STOP,
            )
            for operation, deliveries in work:
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

    async def _ending(self, container: Container | None, work: list[tuple[Operation, list[Delivery]]]) -> Ending | None:
        if container is None or container.state is not ContainerState.EXITED:
            return None
        ending = await self._tools.runtime.ending(container.ref.id)
        if ending is not None and not ending.started and any(op.kind is OperationKind.START for op, _ in work):
            await self._tools.runtime.clear_leftover(container.ref.id)
        return ending

    async def _apply(self, verdict: Verdict, container_id: str, container: Container | None) -> None:
        if verdict.kill and container is not None:
            with self._actor(container_id) as actor:
                actor.spawn(actor.kill(container, list(verdict.changes)), f"kill {container_id}")
            return
        with self._actor(container_id) as actor:
            await actor.note(verdict.changes)
            if verdict.operation is not None and container is not None:
                actor.resume(container, verdict.operation, verdict.delivery)

    async def drain(self, seconds: float) -> None:
        """Take no new work, give what runs ``seconds`` to end, and leave the rest to the journal."""
        self._closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._tools.tasks.idle()
        except TimeoutError:
            log.info("leaving open work to the next start", operations=len(self._actors))
        await self._tools.tasks.cancel()

    def _has_hooks(self, container: Container) -> bool:
        try:
            if plan.lifecycle(container) != Lifecycle():
                return True
        except DeclarationError:
            return True
        self._hookless.put(container.ref.id, container.ref.sandbox_id)
        return False

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise ClosingError("hookshim is shutting down; try again")

    @contextmanager
    def _actor(self, container_id: str) -> Iterator[Actor]:
        actor = self._actors.get(container_id)
        if actor is None:
            actor = self._actors[container_id] = Actor(self._tools, container_id, self._drop)
        with actor.used():
            yield actor

    def _drop(self, actor: Actor) -> None:
        self._actors.pop(actor.container_id, None)


async def _wait(work: asyncio.Task[T], caller: Caller) -> T:
    """Wait for ``work`` without owning it: it goes on when the caller leaves, if it was accepted."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        caller.left = True
        raise
