"""The clients of a node: each calls through hookshim's front door, and may leave or lose its connection.

The front door decides as ``server.intercept`` does: look the container up, ask the engine, and forward untouched what
it passes on.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from shim.errors import (
    ClosingError,
    DeclarationError,
    HookFailedError,
    JournalUnavailableError,
    PodStoppingError,
    RefusedError,
    RuntimeCallError,
    StoppedError,
)
from shim.owner import Done
from shim.ports import Container
from shim.records import ContainerState, Operation, Reason
from tests.engine.sim_containerd import SimContainer, SimContainerd
from tests.engine.sim_daemon import Daemon

#: As ``server.intercept`` has them; that one imports protobuf, which has no place here.
_CODES: dict[type[BaseException], str] = {
    HookFailedError: "FAILED_PRECONDITION",
    StoppedError: "ABORTED",
    PodStoppingError: "FAILED_PRECONDITION",
    JournalUnavailableError: "UNAVAILABLE",
    DeclarationError: "INVALID_ARGUMENT",
    ClosingError: "UNAVAILABLE",
    RefusedError: "FAILED_PRECONDITION",
}


@dataclass(slots=True)
class Caller:
    """A client's call; ``answer`` is ``OK``, an error's code, ``left``, or empty while it waits."""

    what: str
    container: SimContainer
    answer: str = ""
    message: str = ""
    #: The container's state at the answer, and the positions of call and answer in the world's trace.
    state: ContainerState | None = None
    began: int = -1
    at: int = -1
    #: When it was answered, in seconds.
    ended: float = 0.0


class Surroundings(Protocol):
    """What a caller needs of the world around it."""

    loop: asyncio.AbstractEventLoop
    daemon: Daemon
    containerd: SimContainerd
    errors: list[str]
    all: list[SimContainer]
    operations: dict[str, tuple[float, Operation]]

    def count(self, *what: str) -> None:
        """Note that this was reached."""
        ...

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` as the world's."""
        ...

    def trace(self, text: str) -> int:
        """Write a line; returns its position."""
        ...


class Callers:
    """Every call that was made, and how it was answered."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world
        self.all: list[Caller] = []

    def start(self, container: SimContainer, leave: float | None = None, deadline: float | None = None) -> Caller:
        """StartContainer of a caller that leaves after ``leave`` seconds, or has a ``deadline``."""
        caller = Caller("start", container)
        request = container.ref.id.encode()

        async def call(daemon: Daemon) -> bytes:
            hookless = daemon.engine.hookless(container.ref.id)
            found = None if hookless else await daemon.runtime.find(container.ref.id)
            answer = None if found is None else await daemon.engine.start(found, request, (), deadline)
            return answer if answer is not None else await daemon.runtime.start(request, (), deadline)

        self._call(caller, call, leave, deadline)
        return caller

    def starts(self, container: SimContainer) -> list[Caller]:
        """The calls to start it."""
        return [one for one in self.all if one.container is container and one.what == "start"]

    def stop(self, container: SimContainer, timeout: int, leave: float | None = None) -> Caller:
        """StopContainer of a caller that leaves after ``leave`` seconds."""
        caller = Caller(f"stop({timeout})", container)

        async def call(daemon: Daemon) -> bytes:
            found = await self._find_to_end(daemon, container)
            answer = None if found is None else await daemon.engine.stop(found, timeout, b"", ())
            if answer is not None:
                return answer
            return await daemon.runtime.stop(container.ref.id, timeout, b"", (), 1e9)

        self._call(caller, call, leave, None)
        return caller

    def stop_pod(self, container: SimContainer, leave: float | None = None) -> Caller:
        """StopPodSandbox of the container's pod, of a caller that leaves after ``leave`` seconds."""
        caller = Caller("stop pod", container)

        async def call(daemon: Daemon) -> bytes:
            await self._end_pod(daemon, container, Reason.STOP_POD_SANDBOX)
            await daemon.runtime.stop_pod(container.ref.sandbox_id)
            return b""

        self._call(caller, call, leave, None)
        return caller

    def remove(self, container: SimContainer, leave: float | None = None) -> Caller:
        """RemoveContainer of a caller that leaves after ``leave`` seconds."""
        caller = Caller("remove", container)

        async def call(daemon: Daemon) -> bytes:
            found = await self._find_to_end(daemon, container)
            if found is not None:
                await daemon.engine.end(found, Reason.REMOVE_CONTAINER)
            await daemon.runtime.remove(container.ref.id)
            return b""

        self._call(caller, call, leave, None)
        return caller

    def remove_pod(self, container: SimContainer, leave: float | None = None) -> Caller:
        """RemovePodSandbox of the container's pod, of a caller that leaves after ``leave`` seconds."""
        caller = Caller("remove pod", container)

        async def call(daemon: Daemon) -> bytes:
            await self._end_pod(daemon, container, Reason.REMOVE_POD_SANDBOX)
            await daemon.runtime.remove_pod(container.ref.sandbox_id)
            return b""

        self._call(caller, call, leave, None)
        return caller

    def retry(self, container: SimContainer, delivery_id: str) -> Caller:
        """The node's owner asks for a delivery again."""
        return self._ask(Caller("retry", container), lambda daemon: daemon.engine.retry(delivery_id))

    def skip(self, container: SimContainer, delivery_id: str) -> Caller:
        """The node's owner takes a delivery back."""
        return self._ask(Caller("skip", container), lambda daemon: daemon.engine.skip(delivery_id, "it hangs"))

    def _ask(self, caller: Caller, ask: Callable[[Daemon], Coroutine[Any, Any, Done]]) -> Caller:
        async def call(daemon: Daemon) -> bytes:
            return (await ask(daemon)).message.encode()

        self._call(caller, call, None, None)
        return caller

    async def _find_to_end(self, daemon: Daemon, container: SimContainer) -> Container | None:
        if daemon.engine.hookless(container.ref.id):
            return None
        try:
            return await daemon.runtime.find(container.ref.id)
        except RuntimeCallError as error:
            self._never_in_the_way(error, container.ref.sandbox_id)
            return None

    async def _end_pod(self, daemon: Daemon, container: SimContainer, reason: Reason) -> None:
        try:
            await daemon.engine.end_pod(container.ref.sandbox_id, reason)
        except RuntimeCallError as error:
            self._never_in_the_way(error, container.ref.sandbox_id)

    def _never_in_the_way(self, error: RuntimeCallError, sandbox_id: str) -> None:
        """What the runtime refuses to tell keeps nobody from ending a container, also without its hooks."""
        if error.ambiguous:
            raise error
        for container in self._world.all:
            if container.ref.sandbox_id == sandbox_id:
                container.unseen = True

    def _call(
        self,
        caller: Caller,
        call: Callable[[Daemon], Coroutine[Any, Any, bytes]],
        leave: float | None,
        deadline: float | None,
    ) -> None:
        self.all.append(caller)
        caller.began = self._world.trace(f"{caller.container.ref.id} → {caller.what}")
        self._world.spawn(self._wait(caller, call, leave, deadline))

    async def _wait(
        self,
        caller: Caller,
        call: Callable[[Daemon], Coroutine[Any, Any, bytes]],
        leave: float | None,
        deadline: float | None,
    ) -> None:
        daemon = self._world.daemon
        if not daemon.serving:
            self._answered(caller, "UNAVAILABLE", "hookshim does not serve yet")
            return
        work = self._world.loop.create_task(call(daemon))
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
            self._world.errors.append("".join(traceback.format_exception(error)))

    def _answered(self, caller: Caller, answer: str, message: str = "") -> None:
        caller.answer, caller.message = answer, message
        self._world.count("answer", caller.what.partition("(")[0], answer)
        caller.state = caller.container.state if caller.container.ref.id in self._world.containerd.containers else None
        caller.ended = self._world.loop.time()
        caller.at = self._world.trace(f"{caller.container.ref.id} {caller.what} → {answer}")
