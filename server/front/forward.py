"""One call carried from a client to containerd and back, as bytes.

Everything a peer can see goes through: messages, metadata, deadline, cancellation, half-close, status, details,
trailers. What is read here on one side is written on the other before more is read, so that a slow peer slows down
the other one, and nothing piles up in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import grpc
import structlog
from grpc import aio

from server.front.metadata import passed_on

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Never, TypeAlias

    from server.backend import Backend
    from server.front.metadata import Pairs
    from server.tap import Stopwatch

    Context: TypeAlias = aio.ServicerContext[bytes, bytes]
    StreamCall: TypeAlias = aio.StreamStreamCall[bytes, bytes]

_log = structlog.get_logger(__name__)

#: The end of a client's messages; the stubs know `read` as never returning it.
_EOF = cast("bytes", aio.EOF)

#: grpc shows a client's cancellation first as the end of its messages, and a few turns of the event loop later as
#: what it is. This many seconds are waited in between: containerd must not take a cancelled stream for a whole one.
_CANCEL_FOLLOWS = 0.01


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended. ``trailers`` includes the binary status details, if there are any."""

    code: grpc.StatusCode
    message: str = ""
    trailers: Pairs = ()


class Forwarder:
    """Carries calls to one containerd."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def unary(self, method: str, request: bytes, context: Context, watch: Stopwatch) -> bytes:
        """Carry one message there and one back. Anything but OK aborts the client's call with it.

        Headers come with the response, as grpc reads both at once.
        """
        watch.sent()
        call = self._backend.unary(method)(
            request, timeout=context.time_remaining(), metadata=passed_on(context.invocation_metadata())
        )
        try:
            response = await call
            watch.answered()
        except aio.AioRpcError as error:
            watch.answered()
            status = self._status_of(error)
            await _send_headers(context, error.initial_metadata())
            await abort(context, status)
        await _send_headers(context, await call.initial_metadata())
        if trailers := passed_on(await call.trailing_metadata()):
            context.set_trailing_metadata(trailers)
        return response

    async def stream(self, method: str, context: Context) -> None:
        """Carry any number of messages both ways: fits every method, whatever its cardinality."""
        call = self._backend.stream(method)(
            timeout=context.time_remaining(), metadata=passed_on(context.invocation_metadata())
        )
        requests = asyncio.create_task(_carry_requests(context, call), name=f"requests of {method}")
        requests.add_done_callback(lambda _: call.cancel() if _bug(requests) else None)
        try:
            status = await self._carry_responses(context, call)
        except asyncio.CancelledError:
            if (bug := _bug(requests)) is None:
                raise
            _log.exception("the requests of a call were not forwarded", method=method, exc_info=bug)
            status = Status(grpc.StatusCode.INTERNAL, f"hookshim failed to forward {method}: see its log")
        finally:
            requests.cancel()
            call.cancel()
            await asyncio.wait([requests])
        if status.code is not grpc.StatusCode.OK:
            await abort(context, status)
        context.set_trailing_metadata(status.trailers)

    async def _carry_responses(self, context: Context, call: StreamCall) -> Status:
        headers = await call.initial_metadata()
        # Of a call that failed at once they are empty; sent alone, they would be a frame that containerd did not send.
        if headers or not call.done():
            await _to_client(context.send_initial_metadata(passed_on(headers)))
        try:
            async for message in call:
                await _to_client(context.write(message))
        except aio.AioRpcError as error:
            return self._status_of(error)
        return Status(grpc.StatusCode.OK, trailers=passed_on(await call.trailing_metadata()))

    def _status_of(self, error: aio.AioRpcError) -> Status:
        message = error.details() or ""
        if self._backend.is_unreachable(error):
            message = self._backend.unreachable_text(message)
        return Status(error.code(), message, passed_on(error.trailing_metadata()))


async def abort(context: Context, status: Status) -> Never:
    """End the client's call with this status."""
    await context.abort(status.code, status.message, status.trailers)


def _bug(requests: asyncio.Task[None]) -> BaseException | None:
    return requests.exception() if requests.done() and not requests.cancelled() else None


async def _carry_requests(context: Context, call: StreamCall) -> None:
    # Not `call.write`: when the call is over it sets a status of its own over the one that containerd gave.
    send = call._cython_call.send_serialized_message  # type: ignore[attr-defined] # noqa: SLF001
    # When a message cannot be sent the call is over, and its status says why: the responses' side reports it.
    with contextlib.suppress(aio.AioRpcError, aio.InternalError):
        await call.wait_for_connection()
        while (message := await context.read()) is not _EOF:
            await send(message)
        await asyncio.sleep(_CANCEL_FOLLOWS)
        await call.done_writing()


async def _send_headers(context: Context, headers: aio.Metadata | None) -> None:
    if pairs := passed_on(headers):
        await _to_client(context.send_initial_metadata(pairs))


async def _to_client(sending: Awaitable[None]) -> None:
    try:
        await sending
    except aio.InternalError:
        # The client is gone: grpc is about to cancel this task, and would log anything else.
        raise asyncio.CancelledError from None
