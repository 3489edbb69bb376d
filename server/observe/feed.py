"""Tells open pages that there is something new (server-sent events); what it is, they ask for as every page does.

So a page that reads slowly has nothing to catch up with: it is told the newest state's name, or nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from aiohttp import web

from server.admin.answers import Status
from server.admin.client import AdminError
from server.observe.core import Core
from server.observe.reader import Reader

#: Pages at a time that are told.
MOST_CLIENTS: Final = 32

#: Seconds between two looks at the journal's files, and at the daemon; the shortest between two messages.
_LOOK, _ASK, _SPACING = 0.25, 2.0, 1.0

#: Seconds until what the files already hold can be read: a commit is written first and synced then.
_SYNCED = 2.0

#: Seconds after which a page is told that the connection lives, and that a message may wait for a page that reads none.
_HEARTBEAT, _PATIENCE = 15.0, 5.0


class Feed:
    """Looks for changes while somebody listens, and never otherwise."""

    def __init__(self, reader: Reader, core: Core) -> None:
        self._reader = reader
        self._core = core
        self._clients = 0
        self._changed = asyncio.Condition()
        self._version = ""
        self._round = 0
        self._looking: asyncio.Task[None] | None = None

    async def version(self) -> str:
        """The name of what pages show now: the journal's state and the daemon's."""
        status = await self._core.status()
        known = str(status) if isinstance(status, AdminError) else _shown(status)
        return hashlib.sha256(repr((self._reader.signature(), self._round, known)).encode()).hexdigest()[:16]

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """``GET /events``: one message for each change, with the new state's name."""
        if self._clients >= MOST_CLIENTS:
            raise web.HTTPServiceUnavailable(
                text=f"{MOST_CLIENTS} pages are open already; this one shows no live updates\n",
                headers={"Retry-After": "30"},
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        response.content_length = None
        self._clients += 1
        try:
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            async with aclosing(self._messages()) as messages:
                async for message in messages:
                    async with asyncio.timeout(_PATIENCE):
                        await response.write(message)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                # It reads nothing: what is buffered for it is dropped with it.
                request.transport.abort()
        finally:
            self._clients -= 1
            if not self._clients and self._looking is not None:
                self._looking.cancel()
                self._looking = None
        return response

    async def _messages(self) -> AsyncGenerator[bytes, None]:
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="changes")
        told = await self._now()
        yield _message(told)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT), self._changed:
                    await self._changed.wait_for(lambda: self._version != told)  # noqa: B023 - evaluated in this round
            if self._version == told:
                yield b": here\n\n"
            else:
                told = self._version
                yield _message(told)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        signature, asked = self._reader.signature(), loop.time()
        again: float | None = None
        while True:
            await asyncio.sleep(_LOOK)
            now = self._reader.signature()
            due = again is not None and loop.time() >= again
            if now == signature and not due and loop.time() - asked < _ASK:
                continue
            if due:
                # Nothing is seen when a commit's sync ends, which makes it readable: pages look once more.
                self._round += 1
                again = None
            if now != signature:
                again = loop.time() + _SYNCED
            signature, asked = now, loop.time()
            before = self._version
            if await self._now() != before:
                await asyncio.sleep(_SPACING)

    async def _now(self) -> str:
        """The version now; whoever has been told another hears of it."""
        version = await self.version()
        async with self._changed:
            if version != self._version:
                self._version = version
                self._changed.notify_all()
        return version


def _shown(status: Status) -> tuple[object, ...]:
    """What a page's banner is made of."""
    core = status.pid, status.serving, status.reason
    return *core, status.containerd_reachable, status.containerd_reason, status.journal_ok, status.journal_reason


def _message(version: str) -> bytes:
    return f"event: version\ndata: {version}\n\n".encode()
