"""The engine's front: starts and stops of containers come in, what they came to goes out.

What is accepted runs in tasks of the engine's own: a caller that leaves takes nothing with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

import structlog

from shim import plan
from shim.actions import Declared
from shim.actor import Actor
from shim.caller import Caller
from shim.errors import (
    ClosingError,
    DeclarationError,
    HookFailedError,
    HookshimError,
    PodStoppingError,
    StoppedError,
)
from shim.kubelet import Forward, KubeletExecs, runs_hook
from shim.ledger import PATIENCE
from shim.memory import Memory
from shim.owner import Done, Owner
from shim.ports import Container, Metadata
from shim.post_stop import PostStops
from shim.records import ContainerState, Ending, Hook, Reason
from shim.resumption import Resumption
from shim.tools import Tools

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: Containers without hooks that are remembered: more than a node has.
_REMEMBERED = 4096

#: Containers with hooks that are remembered with what they declare: more than end on a node at once.
_ENDING = 512

#: Seconds after which a call that was let pass has reached the runtime: until then, no start may overtake it.
_ON_ITS_WAY = 1.0

#: Seconds between looks at a container whose end was announced: the runtime's state follows its event.
_STATE_PAUSES = (0.02, 0.1, 0.5, 2.0, 5.0)


class Engine:
    """All containers' actors. One a daemon; belongs to one event loop."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._actors: dict[str, Actor] = {}
        self._stopping: Counter[str] = Counter()
        self._hookless: Memory[str] = Memory(_REMEMBERED)
        self._hooked: Memory[Container] = Memory(_ENDING)
        self._generation = tools.rules.generation
        self._post_stops = PostStops(tools)
        self._kubelet = KubeletExecs(tools)
        self._resumption = Resumption(tools, self._post_stops, self._actor, self._actors.__contains__)
        self._owner = Owner(tools, self._post_stops, self._actor)
        self._closing = False

    def hookless(self, container_id: str) -> bool:
        """Whether a whole id is known to be a container's without hooks, so that nobody has to be asked about it.

        Annotations never change, and the rules say when they do. A container of a pod that is being stopped is asked
        about all the same.
        """
        if self._generation != self._tools.rules.generation:
            self._generation = self._tools.rules.generation
            self._hookless.clear()
        return self._hookless.get(container_id) not in (None, *self._stopping)

    def check(self, name: str, annotations: dict[str, str], pod_annotations: dict[str, str]) -> None:
        """Raise DeclarationError if a container declared so could not be started."""
        plan.check(name, annotations, pod_annotations, self._tools.settings)

    async def start(
        self, container: Container, request: bytes, metadata: Metadata, seconds_left: float | None
    ) -> bytes | None:
        """StartContainer, returned when its PostStart has an outcome; None: no hooks here, forward it untouched.

        ``container`` as the runtime has just shown it, ``request`` the caller's message. Raises DeclarationError,
        JournalUnavailableError and ClosingError (nothing was done), RuntimeCallError (the runtime's own answer),
        HookFailedError and StoppedError.
        """
        known = container.ref.id in self._actors
        if not known and not container.state.startable:
            return None
        if container.ref.sandbox_id in self._stopping:
            raise PodStoppingError(
                f"the pod {container.ref.pod_text} is being stopped: container {container.ref.name} is not started"
            )
        if container.ref.id in self._stopping:
            raise PodStoppingError(
                f"container {container.ref.name} of pod {container.ref.pod_text} is being removed: it is not started"
            )
        declared = self._hooks(container)
        if not known and not declared:
            self._hookless.put(container.ref.id, container.ref.sandbox_id)
            return None
        self._refuse_if_closing()
        with self._actor(container.ref.id) as actor:
            caller = Caller()
            work = self._start(actor, container, declared, request, metadata, seconds_left, caller)
            return await _wait(actor.spawn(work, f"StartContainer {container.ref.id}"), caller)

    async def _start(
        self,
        actor: Actor,
        container: Container,
        declared: Sequence[Declared],
        request: bytes,
        metadata: Metadata,
        left: float | None,
        caller: Caller,
    ) -> bytes | None:
        try:
            response = await actor.start(container, declared, request, metadata, left, caller)
        except (HookFailedError, StoppedError):
            self._hooked.put(container.ref.id, container)
            raise
        if response is not None:
            # It may end and be removed before it can be asked about.
            self._hooked.put(container.ref.id, container)
        return response

    async def stop(
        self, container: Container, timeout: int, request: bytes, metadata: Metadata, seconds_left: float | None = None
    ) -> bytes | None:
        """StopContainer with its PreStop; None: no hooks here, forward it untouched. ``timeout`` in seconds.

        What is forwarded in the end is ``request`` with what is left of the timeout.

        Raises ClosingError (nothing was done) and RuntimeCallError (the runtime's own answer).
        """
        if container.ref.id not in self._actors and not self._has_hooks(container):
            return None
        self._refuse_if_closing()
        with self._actor(container.ref.id) as actor:
            caller = Caller()
            work = actor.stop(container, plan.clamp(timeout), caller, request, metadata, left=seconds_left)
            return await _wait(actor.spawn(work, f"StopContainer {container.ref.id}"), caller)

    async def end(self, container: Container, reason: Reason, caller: Caller | None = None) -> None:
        """PreStop, and the kill, of a container that a call other than StopContainer is about to kill.

        Nothing happens if it has no hooks or does not run. ``caller`` is the pod's, if it is one's. Raises what
        ``stop`` raises.
        """
        ended = container.state is ContainerState.EXITED
        if container.ref.id not in self._actors and (ended or not self._has_hooks(container)):
            return
        self._refuse_if_closing()
        with self._no_starts(container.ref.id), self._actor(container.ref.id) as actor:
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
            # Before the first look: one may be started in a pod that has none yet. The id may be a prefix still.
            marks.enter_context(self._no_starts(sandbox_id))
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
        ended = state is ContainerState.EXITED
        return (not ended and not self.hookless(container_id)) or container_id in self._actors

    @contextmanager
    def _no_starts(self, key: str) -> Iterator[None]:
        """Refuse starts in a sandbox, or of a container, until the call that ends it has reached the runtime."""
        self._stopping[key] += 1
        try:
            yield
        finally:
            asyncio.get_running_loop().call_later(_ON_ITS_WAY, self._starts_again, key)

    def _starts_again(self, key: str) -> None:
        self._stopping[key] -= 1
        if not self._stopping[key]:
            del self._stopping[key]

    async def exec(self, container: Container, command: Sequence[str], timeout: int, call: Forward) -> bytes | None:
        """ExecSync, if it is the kubelet's run of this container's preStop and that is to be seen to; else None.

        Raises what ``call`` raises, which makes the call.
        """
        if not runs_hook(container, command, timeout, self._tools.settings):
            return None
        self._refuse_if_closing()
        work = self._kubelet.run(container, call)
        return await asyncio.shield(self._tools.tasks.spawn(work, f"ExecSync {container.ref.id}"))

    async def retry(self, key: str) -> Done:
        """Send a delivery again for the node's owner, or now; ``key`` is its id, or the beginning of it.

        Raises UnknownDeliveryError, AskedWronglyError and RefusedError, and ClosingError, JournalUnavailableError and
        RuntimeCallError: nothing was done.
        """
        self._refuse_if_closing()
        return await asyncio.shield(self._tools.tasks.spawn(self._owner.retry(key), "owner's retry"))

    async def skip(self, key: str, reason: str) -> Done:
        """Take an open delivery back for the node's owner, and record the ``reason``. Raises as ``retry``."""
        self._refuse_if_closing()
        return await asyncio.shield(self._tools.tasks.spawn(self._owner.skip(key, reason), "owner's skip"))

    def declared(self, container: Container) -> tuple[list[Declared], str]:
        """The hooks that apply to a container now, in the order in which those of one moment run.

        And what is wrong with its own declaration, if anything is: all others are given then.
        """
        try:
            hooks, problem = self._hooks(container), ""
        except DeclarationError as error:
            kubelets = plan.kubelets(container, self._tools.settings)
            hooks, problem = (*kubelets, *self._tools.rules.matching(container)), str(error)
        return sorted(hooks, key=lambda one: list(Hook).index(one.hook)), problem

    def exited(self, container_id: str, seen: Ending | None = None) -> None:
        """The runtime says that a container has just ended: if nobody stopped it, its PreStop leaves a record.

        ``seen`` is what is known of that end if the container is gone before it can be asked about.
        """
        watched = self._post_stops.of(container_id) is not None
        if not self._closing and (watched or not self.hookless(container_id)):
            self._tools.tasks.spawn(self._exited(container_id, since=0.0, seen=seen), f"exited {container_id}")

    async def adopt(self) -> None:
        """Watch every container that runs and has a postStop, and find out which of the watched have ended unseen.

        Raises RuntimeCallError and JournalUnavailableError.
        """
        await self._post_stops.look()
        for container in await self._tools.runtime.running():
            with suppress(DeclarationError):
                if self._has_hooks(container):
                    self._hooked.put(container.ref.id, container)
                if hooks := plan.of(self._hooks(container), Hook.POST_STOP):
                    await self._post_stops.adopt(container, hooks)

    async def found_ended(self, container_id: str) -> None:
        """The same for a container that is found ended: its end counts if the journal can know of it.

        What ended before the journal was begun, or would not be kept any more, is not recorded.
        """
        kept = self._tools.clock.wall() - self._tools.settings.retention
        await self._exited(container_id, since=max(kept, await self._tools.journal.born()))

    async def _exited(self, container_id: str, since: float, seen: Ending | None = None) -> None:
        try:
            watched = self._post_stops.of(container_id) is not None
            container, ended = await self._find_ended(container_id, watched=watched)
            # It may have been adopted meanwhile.
            watched = self._post_stops.of(container_id) is not None
            if not ended or not (watched or (container is not None and self._has_hooks(container))):
                return
            ending = await self._tools.runtime.ending(container_id)
            if ending is None and (self._hooked.get(container_id) is not None or self._post_stops.ran(container_id)):
                # It is gone, and its task's event is all that is left; a start that failed has such an event, too.
                ending = seen
            if watched:
                self._post_stops.ended(container_id, ending)
            if container is None or ending is None or not ending.started or ending.finished_at < since:
                return
            if hooks := plan.of(self._hooks(container), Hook.PRE_STOP):
                with self._actor(container_id) as actor:
                    # A disk that hangs must not hold the actor: its pod may be about to be stopped.
                    async with asyncio.timeout(PATIENCE):
                        await actor.ended_by_itself(container, hooks, ending)
        except (HookshimError, TimeoutError) as error:
            log.warning("the end of a container is not recorded", container=container_id, error=repr(error))

    async def _find_ended(self, container_id: str, *, watched: bool) -> tuple[Container | None, bool]:
        """The container once its state says what the event has said, and whether it has ended.

        One that was removed at once is as it was last seen; None if it never was.
        """
        for pause in _STATE_PAUSES:
            container = await self._tools.runtime.find(container_id)
            if container is None:
                return self._hooked.get(container_id), True
            if container.state is ContainerState.EXITED or not (watched or self._has_hooks(container)):
                return container, True
            await asyncio.sleep(pause)
        return None, False

    async def recover(self) -> int:
        """Reconcile the journal with the runtime, and set going what is open. Returns of how many containers.

        Raises RuntimeCallError while the runtime does not answer, and JournalUnavailableError; call it again then.
        """
        await self._resumption.run()
        return len(self._actors)

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
            if self._hooks(container):
                return True
        except DeclarationError:
            return True
        self._hookless.put(container.ref.id, container.ref.sandbox_id)
        return False

    def _hooks(self, container: Container) -> tuple[Declared, ...]:
        return plan.hooks(container, self._tools.rules, self._tools.settings)

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise ClosingError("hookshim is shutting down; try again")

    @contextmanager
    def _actor(self, container_id: str) -> Iterator[Actor]:
        actor = self._actors.get(container_id)
        if actor is None:
            actor = self._actors[container_id] = Actor(
                self._tools, self._post_stops, self._kubelet, container_id, self._drop, self._resumption.take_up
            )
        with actor.used():
            self._resumption.go_on(container_id)
            yield actor

    def _drop(self, container_id: str) -> None:
        self._actors.pop(container_id, None)


async def _wait(work: asyncio.Task[T], caller: Caller) -> T:
    """Wait for ``work`` without owning it: it goes on when the caller leaves, if it was accepted."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        caller.left = True
        raise
