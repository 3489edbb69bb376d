"""Execs of the native Tasks API, one call a method, so that the protocol above reads as its steps.

The API's traps are kept here: an Exec without a spec takes the pod down (so there is none without), and a status that
containerd could not find out in time is UNKNOWN without an error (so it is asked for again).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from server.native.caller import ASK, NAMESPACE, Caller
from server.wire.containerd.services.containers.v1 import containers_pb2 as containers
from server.wire.containerd.services.tasks.v1 import tasks_pb2 as tasks
from shim.errors import RuntimeCallError
from shim.memory import Memory

T = TypeVar("T")

log = structlog.get_logger(__name__)

_TASKS = "/containerd.services.tasks.v1.Tasks/"
_CONTAINERS = "/containerd.services.containers.v1.Containers/"

#: What Exec decodes its spec as (containerd ``pkg/oci``, runtime-spec 1).
_PROCESS = "types.containerd.io/opencontainers/runtime-spec/1/Process"

#: The shims whose execs are known to behave as written here; another one's process may not even be on this node.
_RUNTIME = re.compile(r"io\.containerd\.runc\.v\d+")

#: Seconds between two questions while containerd is away, at first and at most.
_PAUSE_MIN, _PAUSE = 0.05, 1.0

#: Containers of which it is known what they run: more than have hooks that are run at the same time.
_KNOWN = 128

#: Asking again does not help: it is an answer.
_ANSWERS = frozenset({"NOT_FOUND", "UNIMPLEMENTED"})


class UnsupportedError(Exception):
    """The runtime has no native counterpart of this container that execs could be run in."""


@dataclass(frozen=True, slots=True)
class ExecRef:
    """One exec: its container and its own id, unique in there."""

    container_id: str
    id: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as containerd shows it. ``pid`` 0: it was never started, whatever its status says."""

    status: tasks.Status
    pid: int

    @property
    def started(self) -> bool:
        """Whether its command runs or has run."""
        return self.pid != 0 and self.status != tasks.CREATED

    @property
    def running(self) -> bool:
        """Whether its command runs (or is frozen with its container)."""
        return self.started and self.status != tasks.STOPPED


class Execs:
    """The calls. All raise RuntimeCallError, unless it says that they wait while containerd is away."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._known: Memory[dict[str, Any]] = Memory(_KNOWN)
        self._asking: dict[str, asyncio.Task[None]] = {}

    def foresee(self, container_id: str) -> None:
        """Ask for what ``process`` will be asked for, once and with nobody waiting. To be called in the event loop."""
        if container_id in self._asking or self._known.get(container_id) is not None:
            return
        task = asyncio.create_task(self._foresee(container_id), name=f"what {container_id} runs")
        self._asking[container_id] = task
        task.add_done_callback(lambda _task: self._asking.pop(container_id))

    async def _foresee(self, container_id: str) -> None:
        # Whoever needs it asks again, and is told why there is no answer.
        with contextlib.suppress(RuntimeCallError, UnsupportedError):
            self._known.put(container_id, await self._ask(container_id))

    async def process(self, container_id: str) -> dict[str, Any]:
        """What the container's own process is run with (OCI runtime-spec, ``process``). Waits for containerd.

        It never changes, so that what is known of a container (by its whole id) is not asked for again.
        Raises UnsupportedError.
        """
        if asking := self._asking.get(container_id):
            await asyncio.wait({asking})
        known = self._known.get(container_id)
        if known is None:
            known = await self._process(container_id)
            self._known.put(container_id, known)
        return known

    async def _process(self, container_id: str) -> dict[str, Any]:
        try:
            return await _patiently("what a container runs", container_id, lambda: self._ask(container_id))
        except RuntimeCallError as error:
            raise UnsupportedError(str(error)) from error

    async def _ask(self, container_id: str) -> dict[str, Any]:
        request = containers.GetContainerRequest(id=container_id)
        response = await self._caller.ask(f"{_CONTAINERS}Get", request, containers.GetContainerResponse, NAMESPACE)
        found = response.container
        if not _RUNTIME.fullmatch(found.runtime.name):
            raise UnsupportedError(f"its runtime is {found.runtime.name!r}")
        try:
            process = json.loads(found.spec.value).get("process")
        except (ValueError, AttributeError) as error:
            raise UnsupportedError(f"its spec is {found.spec.type_url!r}") from error
        if not isinstance(process, dict) or not process:
            raise UnsupportedError("its spec has no process")
        return process

    async def exec(self, ref: ExecRef, process: dict[str, Any], outputs: Sequence[str]) -> None:
        """Make the exec, which starts nothing. ``outputs`` are the files of stdout and stderr; none: not kept."""
        stdout, stderr = outputs or ("", "")
        request = tasks.ExecProcessRequest(
            container_id=ref.container_id,
            exec_id=ref.id,
            stdout=stdout,
            stderr=stderr,
            spec=AnyMessage(type_url=_PROCESS, value=json.dumps(process).encode()),
        )
        await self._caller.call(f"{_TASKS}Exec", request.SerializeToString(), NAMESPACE, ASK)

    async def start(self, ref: ExecRef) -> int:
        """Start it and return its pid. To be called once, ever, and not to be cancelled: it may run all the same."""
        request = tasks.StartRequest(container_id=ref.container_id, exec_id=ref.id)
        answer = await self._caller.call(f"{_TASKS}Start", request.SerializeToString(), NAMESPACE, None)
        return tasks.StartResponse.FromString(answer).pid

    async def look(self, ref: ExecRef) -> Seen | None:
        """The exec (an empty id: the container's own process) now, None if there is none. Waits for containerd."""
        request = tasks.GetRequest(container_id=ref.container_id, exec_id=ref.id)

        async def get() -> Seen:
            found = (await self._caller.ask(f"{_TASKS}Get", request, tasks.GetResponse, NAMESPACE)).process
            if found.status == tasks.UNKNOWN:
                raise RuntimeCallError("UNKNOWN", "containerd did not find out its status in time")
            return Seen(found.status, found.pid)

        try:
            return await _patiently("an exec", ref.container_id, get)
        except RuntimeCallError:
            return None

    async def alive(self, container_id: str) -> bool:
        """Whether the container's own process runs. Waits for containerd."""
        seen = await self.look(ExecRef(container_id, ""))
        return seen is not None and seen.running

    async def wait(self, ref: ExecRef) -> int:
        """Wait for its end and return its exit status, 128 + n after signal n."""
        request = tasks.WaitRequest(container_id=ref.container_id, exec_id=ref.id)
        answer = await self._caller.call(f"{_TASKS}Wait", request.SerializeToString(), NAMESPACE, None)
        return tasks.WaitResponse.FromString(answer).exit_status

    async def delete(self, ref: ExecRef, within: float = ASK) -> None:
        """Delete an exec that does not run: from then on it cannot be started, and its output is complete."""
        request = tasks.DeleteProcessRequest(container_id=ref.container_id, exec_id=ref.id)
        await self._caller.call(f"{_TASKS}DeleteProcess", request.SerializeToString(), NAMESPACE, within)


def _unanswered(error: BaseException) -> bool:
    return isinstance(error, RuntimeCallError) and error.code not in _ANSWERS


async def _patiently(about: str, container_id: str, call: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer; the engine's bounds end that. Raises RuntimeCallError for one of _ANSWERS."""
    try:
        return await call()
    except RuntimeCallError as error:
        if not _unanswered(error):
            raise
        log.info("asking containerd again", about=about, container=container_id, reason=str(error))
    await asyncio.sleep(_PAUSE_MIN)

    def again(state: RetryCallState) -> None:
        # The first was said; now at the second, third, fifth, ninth … try.
        if state.attempt_number.bit_count() == 1:
            reason = str(state.outcome.exception()) if state.outcome else ""
            log.info("asking containerd again", about=about, container=container_id, reason=reason)

    async for trial in AsyncRetrying(
        retry=retry_if_exception(_unanswered),
        wait=wait_exponential(_PAUSE_MIN, max=_PAUSE),
        before_sleep=again,
        reraise=True,
    ):
        with trial:
            return await call()
    raise AssertionError("tenacity retries without end")


async def pause(turn: int) -> None:
    """Between two tries of the same step, 0 being the first."""
    await asyncio.sleep(min(_PAUSE, 0.05 * 2 ** min(turn, 10)))
