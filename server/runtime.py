"""containerd as the engine sees it: CRI for containers and pods, the native Tasks API for what CRI cannot tell.

On a connection of its own, so that nothing a client does to the front door's reaches a hook.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from server.backend import Backend
from server.native.caller import ASK, NAMESPACE, Caller
from server.wire.containerd.services.tasks.v1 import tasks_pb2 as tasks
from server.wire.runtime.v1 import api_pb2 as cri
from shim.errors import RuntimeCallError
from shim.memory import Memory
from shim.ports import Container, Metadata, Pod
from shim.records import ContainerRef, ContainerState, Ending
from shim.together import each

log = structlog.get_logger(__name__)

_CRI = "/runtime.v1.RuntimeService/"
_TASKS = "/containerd.services.tasks.v1.Tasks/"

#: Seconds between two looks at a container's state, for a runtime without the Tasks API: at first, and at most.
_LOOK_MIN, _LOOK = 0.1, 1.0

#: Pods that are remembered: more than a node runs.
_PODS = 1024

#: Pods that are asked for at once.
_AT_ONCE = 16

_SIGKILL = 9

_STATES = {
    cri.CONTAINER_CREATED: ContainerState.CREATED,
    cri.CONTAINER_RUNNING: ContainerState.RUNNING,
    cri.CONTAINER_EXITED: ContainerState.EXITED,
}


class CriRuntime:
    """Implements shim.ports.Runtime, and ExecSync for the exec handler."""

    def __init__(self, backend: Backend) -> None:
        self._caller = Caller(backend)
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

    async def find_all(self, container_ids: Collection[str]) -> dict[str, Container]:
        """Those of these containers that there are, from one list; each pod of one that has not ended is asked for."""
        wanted = frozenset(container_ids)
        found = [one for one in await self._list(cri.ContainerFilter()) if one.id in wanted]
        pods: dict[str, Pod | None] = {}

        async def look(sandbox_id: str) -> None:
            pods[sandbox_id] = await self.pod(sandbox_id)

        await each(_AT_ONCE, {one.pod_sandbox_id for one in found if one.state != cri.CONTAINER_EXITED}, look)
        return {one.id: _container(one, pods.get(one.pod_sandbox_id)) for one in found}

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
            answer = await self._caller.ask(f"{_CRI}PodSandboxStatus", request, cri.PodSandboxStatusResponse)
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
            labels=dict(status.labels),
            runtime_handler=status.runtime_handler,
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
            answer = await self._caller.ask(f"{_CRI}ContainerStatus", request, cri.ContainerStatusResponse)
        except RuntimeCallError as error:
            if error.code == "NOT_FOUND":
                return None
            raise
        status = answer.status
        started_at, finished_at = status.started_at / 1e9, status.finished_at / 1e9
        return Ending(status.started_at != 0, status.exit_code, status.reason, finished_at, started_at)

    async def start(self, request: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """StartContainer."""
        return await self._caller.call(f"{_CRI}StartContainer", request, metadata, timeout)

    async def stop(self, container_id: str, timeout: int, request: bytes, metadata: Metadata, within: float) -> bytes:
        """StopContainer."""
        message = cri.StopContainerRequest.FromString(request)
        message.container_id = container_id
        message.timeout = timeout
        return await self._caller.call(f"{_CRI}StopContainer", message.SerializeToString(), metadata, within)

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: int) -> cri.ExecSyncResponse:
        """Run a command in the container to its end. Cancelling it makes containerd kill the command."""
        request = cri.ExecSyncRequest(container_id=container_id, cmd=command, timeout=timeout)
        answer = await self._caller.call(f"{_CRI}ExecSync", request.SerializeToString(), (), None)
        return cri.ExecSyncResponse.FromString(answer)

    async def exec(self, request: bytes, metadata: Metadata) -> bytes:
        """ExecSync with the caller's own message."""
        return await self._caller.call(f"{_CRI}ExecSync", request, metadata, None)

    async def ready(self, sandbox_id: str) -> bool:
        """Whether the sandbox is there and ready: then its addresses are its own. Raises RuntimeCallError."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        try:
            answer = await self._caller.ask(f"{_CRI}PodSandboxStatus", request, cri.PodSandboxStatusResponse)
        except RuntimeCallError as error:
            if error.code == "NOT_FOUND":
                return False
            raise
        return answer.status.state == cri.SANDBOX_READY

    async def running(self) -> list[Container]:
        """All containers that run, each with its pod."""
        state = cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)
        listed = await self._list(cri.ContainerFilter(state=state))
        return [_container(found, await self.pod(found.pod_sandbox_id)) for found in listed]

    async def wait_ended(self, container_id: str) -> None:
        """Wait on containerd's own task: its end is known here as soon as containerd knows it."""
        request = tasks.WaitRequest(container_id=container_id).SerializeToString()
        try:
            await self._wait_once(container_id, request)
        except RuntimeCallError:
            await asyncio.sleep(_LOOK_MIN)
        else:
            return

        def ended(state: RetryCallState) -> None:
            log.debug("waiting for a container's end again", container=container_id, attempt=state.attempt_number)

        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RuntimeCallError)),
            wait=wait_exponential(_LOOK_MIN, max=_LOOK),
            after=ended,
        ):
            with attempt:
                await self._wait_once(container_id, request)

    async def _wait_once(self, container_id: str, request: bytes) -> None:
        try:
            await self._caller.call(f"{_TASKS}Wait", request, NAMESPACE, None)
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
            answer = await self._caller.ask(f"{_TASKS}Get", get, tasks.GetResponse, NAMESPACE)
            if answer.process.status != tasks.STOPPED:
                kill = tasks.KillRequest(container_id=container_id, signal=_SIGKILL, all=True)
                await self._caller.call(f"{_TASKS}Kill", kill.SerializeToString(), NAMESPACE, ASK)
                wait = tasks.WaitRequest(container_id=container_id)
                await self._caller.call(f"{_TASKS}Wait", wait.SerializeToString(), NAMESPACE, ASK)
            delete = tasks.DeleteTaskRequest(container_id=container_id)
            await self._caller.ask(f"{_TASKS}Delete", delete, tasks.DeleteResponse, NAMESPACE)
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
        found = (await self._caller.ask(f"{_CRI}ListContainers", request, cri.ListContainersResponse)).containers
        for container in found:
            if container.state == cri.CONTAINER_UNKNOWN and await self._never_ran(container.id):
                container.state = cri.CONTAINER_EXITED
        return found

    async def _never_ran(self, container_id: str) -> bool:
        """Whether a container that containerd knows nothing about has no process, and never had one.

        containerd that was killed while it created a container finds it without a status, and says UNKNOWN; what it
        says UNKNOWN of otherwise may be running, and counts so.
        """
        ending = await self.ending(container_id)
        if ending is None or ending.started:
            return False
        request = tasks.GetRequest(container_id=container_id)
        try:
            task = await self._caller.ask(f"{_TASKS}Get", request, tasks.GetResponse, NAMESPACE)
        except RuntimeCallError as error:
            return error.code == "NOT_FOUND"
        # A start that was cut off leaves a task whose process was never let run.
        return task.process.status in (tasks.CREATED, tasks.STOPPED)


def _state(container: cri.Container) -> ContainerState:
    return _STATES.get(container.state, ContainerState.UNKNOWN)


def _container(found: cri.Container, pod: Pod | None) -> Container:
    pod = pod or _pod_of_labels(found)
    ref = ContainerRef(found.id, found.pod_sandbox_id, found.metadata.name, pod.name, pod.namespace, pod.uid)
    # A kubelet creates from an image's id, and says beside it what the pod's owner wrote.
    image = found.image.user_specified_image or found.image.image
    return Container(ref, _state(found), dict(found.annotations), pod, image)


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
