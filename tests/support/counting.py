"""A runtime that counts what it is asked: the backend for tests of how often hookshim asks.

It has pods and containers in memory, starts and stops them at once, and runs commands as containerd's native API does.
A thread of the test's own process serves it, so that a test reads the counts where they are made.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from server.wire.containerd.services.containers.v1 import containers_pb2 as containers
from server.wire.containerd.services.tasks.v1 import tasks_pb2 as tasks
from tests.support.bench.http2 import Answer, Connection
from tests.support.bench.load import framed
from tests.support.waiting import PATIENCE
from tests.wire import cri_pb2 as cri

_CRI: Final = "/runtime.v1.RuntimeService/"
_TASKS: Final = "/containerd.services.tasks.v1.Tasks/"

#: How a Wait for a container itself is counted: not a command's.
WATCH: Final = "Wait for a container"

_NOT_FOUND, _ALREADY_EXISTS, _UNIMPLEMENTED = "5", "6", "12"

_PID: Final = 2**22 + 1  # Above pid_max: nobody's.


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, and what it declares."""

    id: str
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """A container, and what it declares."""

    id: str
    pod: Pod
    annotations: dict[str, str] = field(default_factory=dict)
    state: cri.ContainerState = cri.CONTAINER_CREATED

    def as_listed(self) -> cri.Container:
        """As ListContainers tells of it."""
        return cri.Container(
            id=self.id,
            pod_sandbox_id=self.pod.id,
            metadata=cri.ContainerMetadata(name="c"),
            state=self.state,
            annotations=self.annotations,
        )


class _Caller(Connection):
    """A connection that is in ``open_`` for as long as it is open."""

    def __init__(self, answer: Answer, open_: set[asyncio.BaseTransport]) -> None:
        super().__init__(answer)
        self._all = open_
        self._made: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._made = transport
        self._all.add(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        super().connection_lost(exc)
        if self._made is not None:
            self._all.discard(self._made)


class CountingRuntime:
    """What there is, and what was called: ``calls``, by the last names. ``socket`` is where it is served."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.containers: dict[str, Container] = {}
        self._pods: dict[str, Pod] = {}
        self.calls: list[str] = []
        self._execs: set[str] = set()
        self._methods: dict[str, Callable[[bytes], Message | str | None]] = {
            f"{_CRI}Version": lambda _: cri.VersionResponse(runtime_name="counting", runtime_api_version="v1"),
            f"{_CRI}ListContainers": self._list,
            f"{_CRI}ContainerStatus": self._status,
            f"{_CRI}PodSandboxStatus": self._pod_status,
            f"{_CRI}CreateContainer": self._create,
            f"{_CRI}StartContainer": self._start,
            f"{_CRI}StopContainer": self._stop,
            f"{_CRI}RemoveContainer": self._remove,
            f"{_CRI}StopPodSandbox": self._stop_pod,
            f"{_CRI}RemovePodSandbox": self._remove_pod,
            "/containerd.services.containers.v1.Containers/Get": self._spec,
            f"{_TASKS}Exec": self._exec,
            f"{_TASKS}Start": lambda _: tasks.StartResponse(pid=_PID),
            f"{_TASKS}Wait": self._wait,
            f"{_TASKS}DeleteProcess": self._delete,
        }

    def pod(self, pod_id: str, annotations: dict[str, str] | None = None) -> Pod:
        """A new pod."""
        pod = self._pods[pod_id] = Pod(pod_id, annotations or {})
        return pod

    def container(
        self,
        container_id: str,
        pod: Pod,
        annotations: dict[str, str] | None = None,
        state: cri.ContainerState = cri.CONTAINER_CREATED,
    ) -> str:
        """A new container; its id."""
        self.containers[container_id] = Container(container_id, pod, annotations or {}, state)
        return container_id

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Count what is called inside; filled in at the end."""
        before = len(self.calls)
        counts: Counter[str] = Counter()
        yield counts
        counts.update(self.calls[before:])

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serve it in a thread."""
        listening, loop = threading.Event(), asyncio.new_event_loop()
        ended = asyncio.Event()
        thread = threading.Thread(
            target=loop.run_until_complete, args=[self._serve(listening, ended)], name="counting runtime"
        )
        thread.start()
        try:
            assert listening.wait(PATIENCE)
            yield
        finally:
            loop.call_soon_threadsafe(ended.set)
            thread.join(PATIENCE)
            loop.close()

    async def _serve(self, listening: threading.Event, ended: asyncio.Event) -> None:
        open_: set[asyncio.BaseTransport] = set()
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: _Caller(self._answer, open_), str(self.socket))
        listening.set()
        await ended.wait()
        server.close()
        for transport in open_:
            transport.close()
        while open_:  # noqa: ASYNC110 - it takes a turn or two of the loop
            await asyncio.sleep(0)

    def _answer(self, method: str, message: bytes) -> bytes | str | None:
        name = method.rpartition("/")[2]
        if name == "Wait" and not tasks.WaitRequest.FromString(message).exec_id:
            name = WATCH
        self.calls.append(name)
        known = self._methods.get(method)
        answer = _UNIMPLEMENTED if known is None else known(message)
        return framed(answer.SerializeToString()) if isinstance(answer, Message) else answer

    def _find(self, prefix: str) -> Container | None:
        found = [one for one in self.containers.values() if prefix and one.id.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def _list(self, message: bytes) -> cri.ListContainersResponse:
        asked = cri.ListContainersRequest.FromString(message).filter
        found = [
            one.as_listed()
            for one in self.containers.values()
            if one.id.startswith(asked.id)
            and one.pod.id.startswith(asked.pod_sandbox_id)
            and (not asked.HasField("state") or asked.state.state == one.state)
        ]
        return cri.ListContainersResponse(containers=found)

    def _status(self, message: bytes) -> Message | str:
        found = self._find(cri.ContainerStatusRequest.FromString(message).container_id)
        if found is None:
            return _NOT_FOUND
        status = cri.ContainerStatus(id=found.id, state=found.state, annotations=found.annotations)
        status.started_at = int(found.state != cri.CONTAINER_CREATED)
        return cri.ContainerStatusResponse(status=status)

    def _pod_status(self, message: bytes) -> Message | str:
        prefix = cri.PodSandboxStatusRequest.FromString(message).pod_sandbox_id
        found = [pod for pod in self._pods.values() if pod.id.startswith(prefix)]
        if len(found) != 1:
            return _NOT_FOUND
        metadata = cri.PodSandboxMetadata(name="p", namespace="n", uid="u")
        network = cri.PodSandboxNetworkStatus(ip="192.0.2.1")
        status = cri.PodSandboxStatus(
            id=found[0].id, metadata=metadata, network=network, annotations=found[0].annotations
        )
        return cri.PodSandboxStatusResponse(status=status)

    def _create(self, message: bytes) -> Message:
        asked = cri.CreateContainerRequest.FromString(message)
        pod = self._pods[asked.pod_sandbox_id]
        made = self.container(f"{len(self.containers):064x}", pod, dict(asked.config.annotations))
        return cri.CreateContainerResponse(container_id=made)

    def _start(self, message: bytes) -> Message | str:
        found = self._find(cri.StartContainerRequest.FromString(message).container_id)
        return self._becomes(found, cri.CONTAINER_RUNNING, Empty())

    def _stop(self, message: bytes) -> Message | str:
        found = self._find(cri.StopContainerRequest.FromString(message).container_id)
        return self._becomes(found, cri.CONTAINER_EXITED, Empty())

    def _becomes(self, found: Container | None, state: cri.ContainerState, answer: Message) -> Message | str:
        if found is None:
            return _NOT_FOUND
        self.containers[found.id] = replace(found, state=state)
        return answer

    def _remove(self, message: bytes) -> Message:
        found = self._find(cri.RemoveContainerRequest.FromString(message).container_id)
        if found is not None:
            del self.containers[found.id]
        return Empty()

    def _stop_pod(self, message: bytes) -> Message:
        pod_id = cri.StopPodSandboxRequest.FromString(message).pod_sandbox_id
        for one in [one for one in self.containers.values() if one.pod.id == pod_id]:
            self.containers[one.id] = replace(one, state=cri.CONTAINER_EXITED)
        return Empty()

    def _remove_pod(self, message: bytes) -> Message:
        pod_id = cri.RemovePodSandboxRequest.FromString(message).pod_sandbox_id
        self._pods.pop(pod_id, None)
        for one in [one for one in self.containers.values() if one.pod.id == pod_id]:
            del self.containers[one.id]
        return Empty()

    def _spec(self, message: bytes) -> Message | str:
        asked = containers.GetContainerRequest.FromString(message)
        if asked.id not in self.containers:
            return _NOT_FOUND
        spec = AnyMessage(type_url="spec", value=json.dumps({"process": {"args": ["sleep"], "cwd": "/"}}).encode())
        found = containers.Container(id=asked.id, spec=spec)
        found.runtime.name = "io.containerd.runc.v2"
        return containers.GetContainerResponse(container=found)

    def _exec(self, message: bytes) -> Message | str:
        asked = tasks.ExecProcessRequest.FromString(message)
        if asked.exec_id in self._execs:
            return _ALREADY_EXISTS
        self._execs.add(asked.exec_id)
        return Empty()

    def _wait(self, message: bytes) -> Message | None:
        """A command ends at once, a container when it is stopped, which nobody is told of here."""
        return tasks.WaitResponse() if tasks.WaitRequest.FromString(message).exec_id else None

    def _delete(self, message: bytes) -> Message:
        self._execs.discard(tasks.DeleteProcessRequest.FromString(message).exec_id)
        return Empty()
