"""Interception: the three calls whose container's hooks are looked up, decided before anything is forwarded.

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
    ClosingError,
    DeclarationError,
    HookFailedError,
    HookshimError,
    JournalUnavailableError,
    RuntimeCallError,
    StoppedError,
)

log = structlog.get_logger(__name__)

_CREATE = "/runtime.v1.RuntimeService/CreateContainer"
_START = "/runtime.v1.RuntimeService/StartContainer"
_STOP = "/runtime.v1.RuntimeService/StopContainer"

#: What a caller is told of an error of the engine's. The runtime's own errors keep their codes.
CODES: dict[type[HookshimError], str] = {
    DeclarationError: "INVALID_ARGUMENT",
    HookFailedError: "FAILED_PRECONDITION",
    StoppedError: "ABORTED",
    JournalUnavailableError: "UNAVAILABLE",
    ClosingError: "UNAVAILABLE",
}


class Interception:
    """Implements server.call.Interceptor over an engine."""

    methods = frozenset({_CREATE, _START, _STOP})

    def __init__(self, engine: Engine, runtime: CriRuntime) -> None:
        self._engine = engine
        self._runtime = runtime

    async def decide(self, call: Call) -> Decision:
        """Pass what has no hooks; everything else is the engine's, and its answer is containerd's."""
        way = {_CREATE: self._create, _START: self._start, _STOP: self._stop}[call.method]
        try:
            response = await way(call)
        except DecodeError:
            # containerd says what is wrong with it, in its own words.
            return Pass()
        except RuntimeCallError as error:
            return Refusal(error.code, error.message, error.details)
        except HookshimError as error:
            return Refusal(CODES[type(error)], str(error))
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
        container = await self._runtime.find(request.container_id)
        if container is None:
            return None
        return await self._engine.start(container, call.request, call.metadata, call.seconds_left)

    async def _stop(self, call: Call) -> bytes | None:
        request = cri.StopContainerRequest.FromString(call.request)
        try:
            container = await self._runtime.find(request.container_id)
        except RuntimeCallError as error:
            if error.ambiguous:
                raise
            # Better a hook that is lost, loudly, than a container that cannot be stopped.
            log.error("cannot look up a container; stopping it without its hooks", error=str(error))
            return None
        if container is None:
            return None
        return await self._engine.stop(container, request.timeout, call.request, call.metadata)
