"""What becomes of a call: the gate first, then the interceptor for the methods it names, then containerd."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import grpc
import structlog

from server.call import Answer, Call, Pass, Refusal
from server.front.forward import Status, abort
from server.front.metadata import STATUS_DETAILS, passed_on
from server.front.methods import FORWARDED, REFUSED_ON_BUG, UNARY, unimplemented_text
from server.tap import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    from server.call import Decision, Interceptor
    from server.front.calls import Calls
    from server.front.forward import Context, Forwarder
    from server.tap import CallTap

    T = TypeVar("T")
    Handler = grpc.RpcMethodHandler[bytes, bytes]

_log = structlog.get_logger(__name__)

#: Seconds before its deadline at which a caller that leaves has run out of time: here it began a little later.
_LATE = 0.05


@dataclass(slots=True)
class Gate:
    """Whether calls are let in: while ``reason`` is not None, every call is answered UNAVAILABLE with it."""

    reason: str | None = None


class Router(grpc.GenericRpcHandler):
    """Finds a call's way by its method's path. The paths are compared as they are: no other spelling gets through."""

    def __init__(self, forwarder: Forwarder, interceptor: Interceptor, gate: Gate, calls: Calls, tap: CallTap) -> None:
        self._forwarder = forwarder
        self._interceptor = interceptor
        self._gate = gate
        self._calls = calls
        self._tap = tap

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """How grpc is to serve this call."""
        method = handler_call_details.method
        intercepted = method in self._interceptor.methods
        if not method.startswith(FORWARDED):
            return self._refused(method)
        if intercepted or method in UNARY:
            return self._unary(method, intercepted=intercepted)
        return self._stream(method)

    def _refused(self, method: str) -> Handler:
        async def refuse(context: Context) -> None:
            await self._pass_gate(context)
            await abort(context, Status(grpc.StatusCode.UNIMPLEMENTED, unimplemented_text(method)))

        async def serve(_: object, context: Context) -> None:
            await self._counted(method, context, refuse(context))

        return grpc.stream_stream_rpc_method_handler(serve)

    def _stream(self, method: str) -> Handler:
        async def carry(context: Context) -> None:
            await self._pass_gate(context)
            await self._calls.serve_stream(context, self._forwarder.stream(method, context))

        async def serve(_: object, context: Context) -> None:
            await self._counted(method, context, carry(context))

        return grpc.stream_stream_rpc_method_handler(serve)

    def _unary(self, method: str, *, intercepted: bool) -> Handler:
        way = self._intercept if intercepted else self._forwarder.unary

        async def carry(request: bytes, context: Context, watch: Stopwatch) -> bytes:
            await self._pass_gate(context)
            return await self._calls.serve_unary(context, way(method, request, context, watch))

        async def serve(request: bytes, context: Context) -> bytes:
            watch = Stopwatch()
            return await self._counted(method, context, carry(request, context, watch), watch)

        return grpc.unary_unary_rpc_method_handler(serve)

    async def _counted(
        self, method: str, context: Context, work: Coroutine[Any, Any, T], watch: Stopwatch | None = None
    ) -> T:
        """Serve a call, and tell what it ended with."""
        code = "OK"
        try:
            return await work
        except BaseException as error:
            code = _code_of(context, error)
            raise
        finally:
            self._tap.ended(method, code, watch.added() if watch is not None else None)

    async def _pass_gate(self, context: Context) -> None:
        reason = self._calls.closed or self._gate.reason
        if reason is not None:
            await abort(context, Status(grpc.StatusCode.UNAVAILABLE, reason))

    async def _intercept(self, method: str, request: bytes, context: Context, watch: Stopwatch) -> bytes:
        decision = await self._decide(method, request, context)
        if isinstance(decision, Refusal):
            await abort(context, _status_of(decision))
        if isinstance(decision, Answer):
            return decision.response
        return await self._forwarder.unary(method, request, context, watch)

    async def _decide(self, method: str, request: bytes, context: Context) -> Decision:
        metadata = passed_on(context.invocation_metadata())
        task = asyncio.current_task()
        try:
            return await self._interceptor.decide(Call(method, request, metadata, context.time_remaining()))
        except asyncio.CancelledError:
            # Without a caller that leaves, a cancellation is a bug too; grpc would end the call without a word.
            if task is None or task.cancelling():
                raise
            _log.exception("the interceptor was cancelled", method=method)
        except Exception:  # noqa: BLE001 - whatever the bug is, this call must still be answered
            _log.exception("the interceptor failed", method=method)
        if method in REFUSED_ON_BUG:
            return Refusal("INTERNAL", f"hookshim failed to decide {method}, and did not forward it: see its log")
        return Pass()


def _code_of(context: Context, error: BaseException) -> str:
    """The name of the status that a call ends with, of which ``error`` is all that is seen here."""
    if not isinstance(error, asyncio.CancelledError):
        # It is the number of OK until the call is aborted; of a bug, grpc makes UNKNOWN itself.
        return str(getattr(context.code(), "name", grpc.StatusCode.UNKNOWN.name))
    left = cast("float | None", context.time_remaining())
    over = left is not None and left < _LATE
    return (grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED).name


def _status_of(refusal: Refusal) -> Status:
    code = getattr(grpc.StatusCode, refusal.code, grpc.StatusCode.UNKNOWN)
    details = ((STATUS_DETAILS, refusal.details),) if refusal.details else ()
    return Status(code, refusal.message, details)
