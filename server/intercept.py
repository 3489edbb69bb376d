"""Interception: the calls whose containers' hooks are looked up, decided before anything is forwarded.

Knows nothing of gRPC servers (``server.call`` is its port). Errors become gRPC codes here, and nowhere else.
"""

from __future__ import annotations

import structlog
from google.protobuf.message import DecodeError

from server.call import Answer, Call, Decision, Pass, Refusal
from server.runtime import CriRuntime
from server.wire.runtime.v1 import api_pb2 as cri
from shim.engine import Engine
from shim.errors import (
    CallerLeftError,
    ClosingError,
    DeclarationError,
    HookFailedError,
    HookshimError,
    JournalConflictError,
    JournalUnavailableError,
    PodStoppingError,
    RuntimeCallError,
    StoppedError,
)
from shim.ports import Container
from shim.records import Reason

log = structlog.get_logger(__name__)

_CREATE = "/runtime.v1.RuntimeService/CreateContainer"
_START = "/runtime.v1.RuntimeService/StartContainer"
_STOP = "/runtime.v1.RuntimeService/StopContainer"
_EXEC = "/runtime.v1.RuntimeService/ExecSync"
_REMOVE = "/runtime.v1.RuntimeService/RemoveContainer"
_STOP_POD = "/runtime.v1.RuntimeService/StopPodSandbox"
_REMOVE_POD = "/runtime.v1.RuntimeService/RemovePodSandbox"

#: What a caller is told of an error of the engine's. The runtime's own errors keep their codes.
CODES: dict[type[HookshimError], str] = {
    DeclarationError: "INVALID_ARGUMENT",
    HookFailedError: "FAILED_PRECONDITION",
    StoppedError: "ABORTED",
    PodStoppingError: "FAILED_PRECONDITION",
    JournalUnavailableError: "UNAVAILABLE",
    JournalConflictError: "UNAVAILABLE",
    ClosingError: "UNAVAILABLE",
    CallerLeftError: "CANCELLED",
}


class Interception:
    """Implements server.call.Interceptor over an engine."""

    def __init__(self, engine: Engine, runtime: CriRuntime, *, ensure_kubelet: bool = False) -> None:
        """``ensure_kubelet``: a kubelet's ExecSync may be its preStop, which is then the engine's."""
        self._engine = engine
        self._runtime = runtime
        self._ways = {
            _CREATE: self._create,
            _START: self._start,
            _STOP: self._stop,
            _REMOVE: self._remove,
            _STOP_POD: self._stop_pod,
            _REMOVE_POD: self._remove_pod,
        }
        if ensure_kubelet:
            self._ways[_EXEC] = self._exec

    @property
    def methods(self) -> frozenset[str]:
        """The methods to ask about."""
        return frozenset(self._ways)

    async def decide(self, call: Call) -> Decision:
        """Pass what has no hooks; everything else is the engine's, and its answer is containerd's."""
        try:
            response = await self._ways[call.method](call)
        except DecodeError:
            # containerd says what is wrong with it, in its own words.
            return Pass()
        except RuntimeCallError as error:
            return Refusal(error.code, error.message, error.details)
        except HookshimError as error:
            return Refusal(CODES.get(type(error), "INTERNAL"), str(error))
        return Pass() if response is None else Answer(response)

    async def _create(self, call: Call) -> None:
        """Refuse a declaration that could not be carried out, before anything is created."""
        request = cri.CreateContainerRequest.FromString(call.request)
        pod = await self._runtime.pod(request.pod_sandbox_id) if request.pod_sandbox_id else None
        if pod is not None:
            config = request.config
            self._engine.check(config.metadata.name, dict(config.annotations), pod.annotations)

    async def _start(self, call: Call) -> bytes | None:
        request = cri.StartContainerRequest.FromString(call.request)
        if self._engine.hookless(request.container_id):
            return None
        container = await self._runtime.find(request.container_id)
        if container is None:
            return None
        return await self._engine.start(container, call.request, call.metadata, call.seconds_left)

    async def _stop(self, call: Call) -> bytes | None:
        request = cri.StopContainerRequest.FromString(call.request)
        container = await self._find_to_end(request.container_id)
        if container is None:
            return None
        return await self._engine.stop(container, request.timeout, call.request, call.metadata, call.seconds_left)

    async def _exec(self, call: Call) -> bytes | None:
        request = cri.ExecSyncRequest.FromString(call.request)
        # A probe has a timeout, and need not be looked up.
        container = None if request.timeout else await self._find_to_end(request.container_id)
        if container is None:
            return None

        async def forward() -> bytes:
            return await self._runtime.exec(call.request, call.metadata)

        return await self._engine.exec(container, request.cmd, request.timeout, forward)

    async def _remove(self, call: Call) -> None:
        request = cri.RemoveContainerRequest.FromString(call.request)
        container = await self._find_to_end(request.container_id)
        if container is not None:
            await self._engine.end(container, Reason.REMOVE_CONTAINER)

    async def _stop_pod(self, call: Call) -> None:
        request = cri.StopPodSandboxRequest.FromString(call.request)
        await self._end_pod(request.pod_sandbox_id, Reason.STOP_POD_SANDBOX)

    async def _remove_pod(self, call: Call) -> None:
        request = cri.RemovePodSandboxRequest.FromString(call.request)
        await self._end_pod(request.pod_sandbox_id, Reason.REMOVE_POD_SANDBOX)

    async def _find_to_end(self, container_id: str) -> Container | None:
        if self._engine.hookless(container_id):
            return None
        try:
            return await self._runtime.find(container_id)
        except RuntimeCallError as error:
            _never_in_the_way(error)
            return None

    async def _end_pod(self, sandbox_id: str, reason: Reason) -> None:
        try:
            await self._engine.end_pod(sandbox_id, reason)
        except RuntimeCallError as error:
            _never_in_the_way(error)


def _never_in_the_way(error: RuntimeCallError) -> None:
    """Better a hook that is lost, loudly, than a container that cannot be stopped.

    A runtime that does not answer would not stop it either, so its caller is told.
    """
    if error.ambiguous:
        raise error
    log.error("the runtime refuses a look-up; its container ends without its hooks", error=str(error))
