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

from shim.actor import DOUBT
from shim.errors import (
    ClosingError,
    HookFailedError,
    JournalUnavailableError,
    PodStoppingError,
    RuntimeCallError,
    StoppedError,
)
from shim.records import ContainerState, Reason
from tests.engine.sim_containerd import SimContainer, SimContainerd
from tests.engine.sim_daemon import Daemon

#: As ``server.intercept`` has them; that one imports protobuf, which has no place here.
_CODES: dict[type[BaseException], str] = {
    HookFailedError: "FAILED_PRECONDITION",
    StoppedError: "ABORTED",
    PodStoppingError: "FAILED_PRECONDITION",
    JournalUnavailableError: "UNAVAILABLE",
    ClosingError: "UNAVAILABLE",
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


class Surroundings(Protocol):
    """What a caller needs of the world around it."""

    loop: asyncio.AbstractEventLoop
    daemon: Daemon
    containerd: SimContainerd
    errors: list[str]

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
            found = await daemon.runtime.find(container.ref.id)
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
        arrived = self._world.loop.time()

        async def call(daemon: Daemon) -> bytes:
            found = await daemon.runtime.find(container.ref.id)
            answer = None if found is None else await daemon.engine.stop(found, timeout, b"", ())
            if answer is not None:
                return answer
            # Its countdown may have been over before a slow start was answered.
            waited = self._world.loop.time() - arrived >= min(max(timeout, 0) or DOUBT, DOUBT)
            if waited or not any(one.began < caller.began for one in self.starts(container)):
                container.overtaken = True
            return await daemon.runtime.stop(container.ref.id, timeout, b"", (), 1e9)

        self._call(caller, call, leave, None)
        return caller

    def stop_pod(self, container: SimContainer, leave: float | None = None) -> Caller:
        """StopPodSandbox of the container's pod, of a caller that leaves after ``leave`` seconds."""
        caller = Caller("stop pod", container)

        async def call(daemon: Daemon) -> bytes:
            await daemon.engine.end_pod(container.ref.sandbox_id, Reason.STOP_POD_SANDBOX)
            await daemon.runtime.stop_pod(container.ref.sandbox_id)
            return b""

        self._call(caller, call, leave, None)
        return caller

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
        caller.state = caller.container.state if caller.container.ref.id in self._world.containerd.containers else None
        caller.at = self._world.trace(f"{caller.container.ref.id} {caller.what} → {answer}")
