"""What the admin service does for each question. Errors become gRPC codes here, and nowhere else in the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from grpc import aio

from server import VERSION
from server.admin.answers import AppliedHook, ContainerHooks, Status
from server.admin.messages import SERVICE, from_hooks, from_status
from server.admin.reachability import Reachability
from server.config import Config
from server.front import Gate
from server.log import printable
from server.runtime import CriRuntime
from server.wire.hookshim.admin.v1 import admin_pb2 as pb
from shim import lifecycle
from shim.actions import Declared
from shim.engine import Engine
from shim.errors import (
    AskedWronglyError,
    ClosingError,
    HookshimError,
    JournalUnavailableError,
    RefusedError,
    RuntimeCallError,
    UnknownDeliveryError,
)
from shim.journal import Journal
from shim.plan import KUBELET_KEY
from shim.ports import Container

log = structlog.get_logger(__name__)

#: Makes Prometheus' text; it must not block.
Metrics = Callable[[], Awaitable[str]]

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Context = aio.ServicerContext[Request, Response]

#: Seconds that the journal may take to answer somebody who only wants to know how it does, and waits for 2 s.
_PATIENCE: Final = 0.8

#: Characters of a handler in a line.
_LIMIT: Final = 1024

_CODES: Final[dict[type[HookshimError], grpc.StatusCode]] = {
    UnknownDeliveryError: grpc.StatusCode.NOT_FOUND,
    AskedWronglyError: grpc.StatusCode.INVALID_ARGUMENT,
    RefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    JournalUnavailableError: grpc.StatusCode.UNAVAILABLE,
    ClosingError: grpc.StatusCode.UNAVAILABLE,
    RuntimeCallError: grpc.StatusCode.UNAVAILABLE,
}


class _UnknownContainerError(HookshimError):
    """The runtime has no container by that id."""


class _NotServingError(HookshimError):
    """hookshim does not serve yet."""


_CODES[_UnknownContainerError] = grpc.StatusCode.NOT_FOUND
_CODES[_NotServingError] = grpc.StatusCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Daemon:
    """What the service knows of the daemon that it speaks for. ``rules`` counts the node's rules in force."""

    config: Config
    engine: Engine
    runtime: CriRuntime
    journal: Journal
    gate: Gate
    reachability: Reachability
    rules: Callable[[], int]
    metrics: Metrics
    started_at: float


class AdminService:
    """Answers for one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, for a grpc.aio server."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Status": _unary(pb.StatusRequest, self._status),
                "Hooks": _unary(pb.HooksRequest, self._hooks),
                "RetryDelivery": _unary(pb.RetryDeliveryRequest, self._retry),
                "SkipDelivery": _unary(pb.SkipDeliveryRequest, self._skip),
                "Metrics": _unary(pb.MetricsRequest, self._metrics),
            },
        )

    async def _status(self, _request: pb.StatusRequest) -> pb.StatusResponse:
        daemon, config = self._daemon, self._daemon.config
        reachable, (problem, operations) = await asyncio.gather(daemon.reachability.look(), self._journal())
        reason = daemon.gate.reason or ""
        status = Status(
            version=VERSION,
            pid=os.getpid(),
            started_at=daemon.started_at,
            serving=not reason,
            reason=reason,
            listen=config.listen,
            containerd=config.containerd,
            state_dir=config.state_dir,
            containerd_reachable=reachable.now,
            containerd_since=reachable.since,
            containerd_reason=reachable.reason,
            journal_ok=not problem,
            journal_reason=problem,
            journals_set_aside=daemon.journal.set_aside,
            open_operations=operations,
        )
        return from_status(status)

    async def _journal(self) -> tuple[str, int | None]:
        """What is wrong with the journal, and how many operations are open."""
        journal = self._daemon.journal
        try:
            async with asyncio.timeout(_PATIENCE):
                return journal.problem, len(await journal.open_work())
        except JournalUnavailableError as error:
            return str(error), None
        except TimeoutError:
            return f"the journal has not answered for {_PATIENCE:g} s", None

    async def _hooks(self, request: pb.HooksRequest) -> pb.HooksResponse:
        container = await self._daemon.runtime.find(request.container_id)
        if container is None:
            text = printable(request.container_id)
            if not text:
                raise AskedWronglyError("a container's id is needed; `crictl ps -a` lists them")
            raise _UnknownContainerError(
                f"the runtime has no container {text}, or several whose ids begin so; `crictl ps -a` lists them"
            )
        hooks, problem = self._daemon.engine.declared(container)
        ref = container.ref
        answer = ContainerHooks(
            id=ref.id,
            sandbox_id=ref.sandbox_id,
            name=ref.name,
            pod=ref.pod,
            namespace=ref.namespace,
            uid=ref.uid,
            state=container.state,
            hooks=tuple(_applied(hook) for hook in hooks),
            none_because="" if hooks else self._why_none(container, problem),
            problem=problem,
        )
        return from_hooks(answer)

    def _why_none(self, container: Container, problem: str) -> str:
        key = lifecycle.KEY
        if problem:
            annotations = "its own declaration cannot be read"
        elif key in container.annotations or key in container.pod.annotations:
            annotations = f"the annotation {key} declares none for it"
        else:
            annotations = f"neither it nor its pod has the annotation {key}"
        rules = self._daemon.rules()
        of_node = f"none of the node's rules ({rules}) matches it" if rules else "the node has no rules"
        why = f"{annotations}, and {of_node}"
        if KUBELET_KEY in container.annotations and self._daemon.config.kubelet_prestop != "ensure":
            why += '; its own preStop is left to the kubelet, since kubelet_prestop is not "ensure"'
        return why

    async def _retry(self, request: pb.RetryDeliveryRequest) -> pb.RetryDeliveryResponse:
        self._refuse_unless_serving()
        done = await self._daemon.engine.retry(request.delivery_id)
        log.info("the owner has asked for a delivery again", delivery=done.delivery_id)
        return pb.RetryDeliveryResponse(delivery_id=done.delivery_id, message=done.message)

    async def _skip(self, request: pb.SkipDeliveryRequest) -> pb.SkipDeliveryResponse:
        self._refuse_unless_serving()
        done = await self._daemon.engine.skip(request.delivery_id, request.reason)
        log.info("the owner has skipped a delivery", delivery=done.delivery_id, reason=request.reason)
        return pb.SkipDeliveryResponse(delivery_id=done.delivery_id, message=done.message)

    async def _metrics(self, _request: pb.MetricsRequest) -> pb.MetricsResponse:
        return pb.MetricsResponse(text=await self._daemon.metrics())

    def _refuse_unless_serving(self) -> None:
        if self._daemon.gate.reason is not None:
            raise _NotServingError(self._daemon.gate.reason)


def _unary(
    kind: type[Request], answer: Callable[[Request], Awaitable[Response]]
) -> grpc.RpcMethodHandler[Request, Response]:
    async def serve(request: Request, context: Context[Request, Response]) -> Response:
        try:
            return await answer(request)
        except HookshimError as error:
            text = f"containerd: {error.code}: {error.message}" if isinstance(error, RuntimeCallError) else str(error)
            await context.abort(_CODES.get(type(error), grpc.StatusCode.INTERNAL), text)
        except Exception:
            log.exception("the admin service met a bug", request=kind.__name__)
            await context.abort(grpc.StatusCode.INTERNAL, "hookshim has met a bug: see its log")

    return grpc.unary_unary_rpc_method_handler(
        serve, request_deserializer=kind.FromString, response_serializer=lambda message: message.SerializeToString()
    )


def _applied(declared: Declared) -> AppliedHook:
    handler = declared.handler
    return AppliedHook(
        hook=declared.hook,
        source=declared.source,
        handler=lifecycle.describe(handler.action, _LIMIT),
        timeout=handler.timeout,
        attempts=handler.retry.attempts,
        backoff=handler.retry.backoff,
        max_backoff=handler.retry.max_backoff,
        on_failure=handler.on_failure,
    )
