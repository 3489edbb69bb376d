"""containerd as the engine sees it: CRI for containers and pods, the native Tasks API for what CRI cannot tell.

On a connection of its own, so that nothing a client does to the front door's reaches a hook.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from google.protobuf.message import Message
from grpc import aio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_exponential, wait_fixed

from server.backend import Backend
from server.wire.containerd.services.tasks.v1 import tasks_pb2 as tasks
from server.wire.runtime.v1 import api_pb2 as cri
from shim.errors import RuntimeCallError
from shim.memory import Memory
from shim.ports import Container, Ending, Metadata, Pod
from shim.records import ContainerRef, ContainerState

M = TypeVar("M", bound=Message)

log = structlog.get_logger(__name__)

_CRI = "/runtime.v1.RuntimeService/"
_TASKS = "/containerd.services.tasks.v1.Tasks/"

#: Where CRI keeps its containers (containerd ``internal/cri/constants``).
_NAMESPACE: Metadata = (("containerd-namespace", "k8s.io"),)

#: Seconds for a question that is answered from memory, on a node under load.
_ASK = 10.0

#: Seconds that a question waits for a connection: a little longer than grpc between two tries to make it.
_RECONNECT = 0.5

#: Seconds between two looks at a container's state, for a runtime without the Tasks API.
_LOOK = 1.0

#: What containerd says while it starts; 1.6 with the code UNKNOWN (``cri/server/instrumented_service.go``).
_STARTING = "server is not initialized yet"

#: Pods that are remembered: more than a node runs.
_PODS = 1024

_SIGKILL = 9

_DETAILS = "grpc-status-details-bin"

_STATES = {
    cri.CONTAINER_CREATED: ContainerState.CREATED,
    cri.CONTAINER_RUNNING: ContainerState.RUNNING,
    cri.CONTAINER_EXITED: ContainerState.EXITED,
}


class CriRuntime:
    """Implements shim.ports.Runtime, and ExecSync for the exec handler."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._pods: Memory[Pod] = Memory(_PODS)

    def is_pod(self, container_id: str) -> bool:
        """Whether the id is known to be a sandbox's: its pause process is no container of CRI's."""
        return self._pods.get(container_id) is not None

    async def find(self, container_id: str) -> Container | None:
        """The container with its pod; an empty id is nobody's (CRI would list every container)."""
        found = await self._one(container_id)
        if found is None:
            return None
        return _container(found, await self.pod(found.pod_sandbox_id))

    async def in_pod(self, sandbox_id: str, wanted: Callable[[str, ContainerState], bool]) -> list[Container]:
        """The pod's containers that are ``wanted``; the pod itself is asked for only if there are any."""
        if not sandbox_id:
            return []
        listed = await self._list(cri.ContainerFilter(pod_sandbox_id=sandbox_id))
        found = [container for container in listed if wanted(container.id, _state(container))]
        pod = await self.pod(sandbox_id) if found else None
        return [_container(container, pod) for container in found]

    async def pod(self, sandbox_id: str) -> Pod | None:
        """The pod sandbox, None if the runtime knows none by that id. Raises RuntimeCallError.

        What is kept of it never changes, so a whole id is asked for once.
        """
        if (known := self._pods.get(sandbox_id)) is not None:
            return known
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        try:
            answer = await self._ask(f"{_CRI}PodSandboxStatus", request, cri.PodSandboxStatusResponse)
        except RuntimeCallError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        status = answer.status
        ips = (status.network.ip, *(more.ip for more in status.network.additional_ips))
        pod = Pod(
            id=status.id,
            name=status.metadata.name,
            namespace=status.metadata.namespace,
            uid=status.metadata.uid,
            annotations=dict(status.annotations),
            ips=tuple(ip for ip in ips if ip),
            host_network=status.linux.namespaces.options.network == cri.NODE,
        )
        if pod.ips or pod.host_network:
            self._pods.put(pod.id, pod)
        return pod

    async def state(self, container_id: str) -> ContainerState | None:
        """The state now."""
        found = await self._one(container_id)
        return None if found is None else _state(found)

    async def ending(self, container_id: str) -> Ending | None:
        """How the container ended; a start that failed leaves ``started_at`` 0."""
        request = cri.ContainerStatusRequest(container_id=container_id)
        try:
            answer = await self._ask(f"{_CRI}ContainerStatus", request, cri.ContainerStatusResponse)
        except RuntimeCallError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        status = answer.status
        return Ending(status.started_at != 0, status.exit_code, status.reason, status.finished_at / 1e9)

    async def start(self, request: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """StartContainer."""
        return await self._call(f"{_CRI}StartContainer", request, metadata, timeout)

    async def stop(self, container_id: str, timeout: int, request: bytes, metadata: Metadata, within: float) -> bytes:
        """StopContainer."""
        message = cri.StopContainerRequest.FromString(request)
        message.container_id = container_id
        message.timeout = timeout
        return await self._call(f"{_CRI}StopContainer", message.SerializeToString(), metadata, within)

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: int) -> cri.ExecSyncResponse:
        """Run a command in the container to its end. Cancelling it makes containerd kill the command."""
        request = cri.ExecSyncRequest(container_id=container_id, cmd=command, timeout=timeout)
        answer = await self._call(f"{_CRI}ExecSync", request.SerializeToString(), (), None)
        return cri.ExecSyncResponse.FromString(answer)

    async def wait_ended(self, container_id: str) -> None:
        """Wait on containerd's own task: its end is known here as soon as containerd knows it."""
        request = tasks.WaitRequest(container_id=container_id).SerializeToString()

        def ended(state: RetryCallState) -> None:
            log.debug("waiting for a container's end again", container=container_id, attempt=state.attempt_number)

        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RuntimeCallError)),
            wait=wait_exponential(0.1, max=_LOOK),
            after=ended,
        ):
            with attempt:
                try:
                    await self._call(f"{_TASKS}Wait", request, _NAMESPACE, None)
                except RuntimeCallError:
                    # No task, no containerd, or no Tasks API: only the state tells.
                    if await self._running(container_id):
                        raise

    async def _running(self, container_id: str) -> bool:
        state = await self.state(container_id)
        return state is not None and state.stoppable

    async def clear_leftover(self, container_id: str) -> None:
        """Kill and delete the native task; CRI does not know that it exists, and could never remove the pod."""
        get = tasks.GetRequest(container_id=container_id)
        try:
            answer = await self._ask(f"{_TASKS}Get", get, tasks.GetResponse, _NAMESPACE)
            if answer.process.status != tasks.STOPPED:
                kill = tasks.KillRequest(container_id=container_id, signal=_SIGKILL, all=True)
                await self._call(f"{_TASKS}Kill", kill.SerializeToString(), _NAMESPACE, _ASK)
                wait = tasks.WaitRequest(container_id=container_id)
                await self._call(f"{_TASKS}Wait", wait.SerializeToString(), _NAMESPACE, _ASK)
            delete = tasks.DeleteTaskRequest(container_id=container_id)
            await self._ask(f"{_TASKS}Delete", delete, tasks.DeleteResponse, _NAMESPACE)
        except RuntimeCallError as error:
            if error.code not in ("NOT_FOUND", "UNIMPLEMENTED"):
                raise
            return
        log.warning("deleted a task that a cut-off start had left behind", container=container_id)

    async def ended(self) -> list[str]:
        """The ids of all containers that have ended. Raises RuntimeCallError."""
        return [found.id for found in await self._list(cri.ContainerFilter()) if found.state == cri.CONTAINER_EXITED]

    async def clear_leftovers(self) -> None:
        """Clear up after every start that was cut off and that the runtime has given up. Raises RuntimeCallError."""
        for container_id in await self.ended():
            try:
                ending = await self.ending(container_id)
                if ending is not None and not ending.started:
                    await self.clear_leftover(container_id)
            except RuntimeCallError as error:
                log.warning("cannot clear up after a start", container=container_id, error=str(error))

    async def _one(self, container_id: str) -> cri.Container | None:
        if not container_id:
            return None
        found = await self._list(cri.ContainerFilter(id=container_id))
        return found[0] if len(found) == 1 else None

    async def _list(self, which: cri.ContainerFilter) -> Sequence[cri.Container]:
        request = cri.ListContainersRequest(filter=which)
        return (await self._ask(f"{_CRI}ListContainers", request, cri.ListContainersResponse)).containers

    async def _ask(self, method: str, request: Message, answer: type[M], metadata: Metadata = ()) -> M:
        """Ask what changes nothing. A connection that was lost gets the time to be made again."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RuntimeCallError) and error.code == "UNAVAILABLE"),
            wait=wait_fixed(0.05),
            stop=stop_after_delay(_RECONNECT),
            reraise=True,
        ):
            with attempt:
                response = await self._call(method, request.SerializeToString(), metadata, _ASK)
        return answer.FromString(response)

    async def _call(self, method: str, request: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        try:
            return await self._backend.unary(method)(request, timeout=timeout, metadata=tuple(metadata))
        except aio.AioRpcError as error:
            message = error.details() or ""
            if self._backend.is_unreachable(error):
                message = self._backend.unreachable_text(message)
            code = "UNAVAILABLE" if _STARTING in message else error.code().name
            details = next((value for key, value in error.trailing_metadata() or () if key == _DETAILS), b"")
            raise RuntimeCallError(code, message, _bytes(details)) from error
        except asyncio.CancelledError:
            # grpc cancels the call of a closed channel in the same way as a caller does its task.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise RuntimeCallError("CANCELLED", "the connection to containerd was closed") from None


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _state(container: cri.Container) -> ContainerState:
    return _STATES.get(container.state, ContainerState.UNKNOWN)


def _container(found: cri.Container, pod: Pod | None) -> Container:
    pod = pod or _pod_of_labels(found)
    ref = ContainerRef(found.id, found.pod_sandbox_id, found.metadata.name, pod.name, pod.namespace, pod.uid)
    return Container(ref, _state(found), dict(found.annotations), pod)


def _pod_of_labels(container: cri.Container) -> Pod:
    """A pod that the runtime no longer has, as the kubelet's labels on its container name it."""
    labels = container.labels
    return Pod(
        id=container.pod_sandbox_id,
        name=labels.get("io.kubernetes.pod.name", ""),
        namespace=labels.get("io.kubernetes.pod.namespace", ""),
        uid=labels.get("io.kubernetes.pod.uid", ""),
        annotations={},
        ips=(),
        host_network=False,
    )
