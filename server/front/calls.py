"""The calls that are being served: how many, and how they are ended when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from server.front.forward import Status, abort

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeAlias

    from server.front.forward import Context

    _Task: TypeAlias = asyncio.Task[Any]

_T = TypeVar("_T")

_STOPPING = "hookshim is shutting down"


class Calls:
    """Calls in flight, each known by the task that grpc runs it in.

    Streams are counted apart: an event stream never ends by itself, so nobody waits for it.
    """

    def __init__(self) -> None:
        self._unary: set[_Task] = set()
        self._streams: set[_Task] = set()
        self._ended: set[_Task] = set()
        self._unary_over = asyncio.Event()
        #: Why no more calls are taken, once they are not.
        self.closed: str | None = None

    def __len__(self) -> int:
        """Count the calls being served, streams included."""
        return len(self._unary) + len(self._streams)

    async def serve_unary(self, context: Context, work: Coroutine[Any, Any, _T]) -> _T:
        """Serve one unary call: the result of ``work``, unless `drain` ends it."""
        return await self._serve(self._unary, context, work)

    async def serve_stream(self, context: Context, work: Coroutine[Any, Any, _T]) -> _T:
        """Serve one stream: the result of ``work``, unless `drain` ends it."""
        return await self._serve(self._streams, context, work)

    async def drain(self, grace: float) -> None:
        """Wait for the unary calls, ``grace`` seconds at most, then end all that is left with UNAVAILABLE."""
        self.closed = _STOPPING
        if self._unary:
            self._unary_over.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._unary_over.wait(), grace)
        for task in self._unary | self._streams:
            self._ended.add(task)
            task.cancel(_STOPPING)

    async def _serve(self, kind: set[_Task], context: Context, work: Coroutine[Any, Any, _T]) -> _T:
        task = cast("_Task", asyncio.current_task())
        kind.add(task)
        try:
            return await work
        except asyncio.CancelledError:
            if task not in self._ended or context.done():
                raise
            task.uncancel()
            await abort(context, Status(grpc.StatusCode.UNAVAILABLE, _STOPPING))
        finally:
            kind.discard(task)
            self._ended.discard(task)
            if not self._unary:
                self._unary_over.set()
