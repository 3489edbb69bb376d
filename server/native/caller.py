"""Calls to containerd, and what its errors mean: one place for CRI's and for the native services.

Every error becomes a RuntimeCallError, which says whether containerd refused or was not there.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from google.protobuf.message import Message
from grpc import aio
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from server.backend import Backend
from shim.errors import RuntimeCallError
from shim.ports import Metadata

M = TypeVar("M", bound=Message)

#: Where CRI keeps its containers (containerd ``internal/cri/constants``).
NAMESPACE: Metadata = (("containerd-namespace", "k8s.io"),)

#: Seconds for a question that is answered from memory, on a node under load.
ASK = 10.0

#: Seconds that a question waits for a connection: a little longer than grpc between two tries to make it.
_RECONNECT = 0.5

#: Seconds between two tries of it.
_AGAIN = 0.05

#: What containerd says while it starts; 1.6 with the code UNKNOWN (``cri/server/instrumented_service.go``).
_STARTING = "server is not initialized yet"

_CLOSED = "the connection to containerd was closed"

_DETAILS = "grpc-status-details-bin"


class Caller:
    """Unary calls on one connection. All raise RuntimeCallError; UNAVAILABLE if containerd was not reached."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def ask(self, method: str, request: Message, answer: type[M], metadata: Metadata = ()) -> M:
        """Ask what changes nothing. A connection that was lost gets the time to be made again."""
        message = request.SerializeToString()
        try:
            return answer.FromString(await self.call(method, message, metadata, ASK))
        except RuntimeCallError as error:
            if error.code != "UNAVAILABLE":
                raise
        await asyncio.sleep(_AGAIN)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RuntimeCallError) and error.code == "UNAVAILABLE"),
            wait=wait_fixed(_AGAIN),
            stop=stop_after_delay(_RECONNECT),
            reraise=True,
        ):
            with attempt:
                response = await self.call(method, message, metadata, ASK)
        return answer.FromString(response)

    async def call(self, method: str, request: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """Make one call, of at most ``timeout`` seconds."""
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
            raise RuntimeCallError("CANCELLED", _CLOSED) from None
        except aio.UsageError as error:
            raise RuntimeCallError("CANCELLED", _CLOSED) from error


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
