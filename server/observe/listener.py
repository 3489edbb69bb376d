"""Where HTTP is listened at, however long it takes to get the address.

The number of connections is bounded: whoever may connect must not be able to take this process's file descriptors from
what else it does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from server.config import Config
from server.front.address import Address, ListenError
from server.observe.core import Core
from server.observe.feed import Feed
from server.observe.pages import Pages
from server.observe.reader import Reader
from server.observe.site import site

log = structlog.get_logger(__name__)

HttpAddress = Path | tuple[str, int]

#: Connections that have not asked for anything yet.
Silent = set[web.RequestHandler]

#: Connections at a time; one more is closed at once.
MOST_CONNECTIONS: Final = 128

_BACKLOG: Final = 64

#: Seconds within which a connection has to ask for something: one that says nothing takes another's place.
_FIRST_WORDS: Final = 5.0

#: The socket's: it shows what handlers said.
_MODE: Final = 0o600

#: Seconds between two tries to get the address.
_PAUSE, _LONGEST_PAUSE = 0.2, 10.0

#: Seconds that answers may still take when this ends.
_FAREWELL: Final = 0.2


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line is to be logged: what is no HTTP is its sender's affair, and anybody may send much of it."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


async def serve(config: Config, address: HttpAddress) -> None:
    """Serve HTTP at ``address`` until this is cancelled, from when it can be had."""
    core = Core(config.admin)
    # The one place that decides who sees what handlers said: a port can be reached by every user of the node.
    reader = Reader(config.state_dir, output=isinstance(address, Path))
    feed = Feed(reader, core)
    pages = Pages(config, reader, core, feed)
    logging.getLogger("aiohttp.server").addFilter(_is_news)
    app = site(pages, core, feed, on_tcp=not isinstance(address, Path))
    silent: Silent = set()
    app.middlewares.insert(0, _noting(silent))
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_FAREWELL,
    )
    await runner.setup()
    place = _place(address)
    try:
        await _listen(runner, address, place, silent)
    finally:
        place.release()
        await runner.cleanup()
        reader.close()
        core.close()


def _noting(silent: Silent) -> Middleware:
    """Notes each connection that has asked for something."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        silent.discard(request.protocol)
        return await handler(request)

    return note


async def _listen(runner: web.AppRunner, address: HttpAddress, place: _Place, silent: Silent) -> None:
    told: set[str] = set()

    def again(state: RetryCallState) -> None:
        error = str(state.outcome.exception()) if state.outcome else ""
        if error not in told:
            told.add(error)
            log.error(
                "HTTP cannot be served; it is tried until it can, and hooks and calls go on without",
                listen=_text(address),
                reason=error,
            )

    trying = AsyncRetrying(
        retry=retry_if_exception_type((OSError, ListenError)),
        wait=wait_exponential(_PAUSE, max=_LONGEST_PAUSE),
        before_sleep=again,
    )
    listening: asyncio.Server = await trying(_begin, runner, place, silent)
    name = listening.sockets[0].getsockname()
    log.info("HTTP is served", listen=_text(name[:2] if isinstance(name, tuple) else address))
    try:
        await asyncio.Event().wait()
    finally:
        listening.close()


async def _begin(runner: web.AppRunner, place: _Place, silent: Silent) -> asyncio.Server:
    made = place.take()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    try:
        return await asyncio.get_running_loop().create_server(_Bounded(server, silent), sock=made, backlog=_BACKLOG)
    except BaseException:
        made.close()
        place.release()
        raise


class _Bounded:
    """Makes the protocol of each new connection."""

    def __init__(self, server: web.Server, silent: Silent) -> None:
        self._server = server
        self._silent = silent
        self._coming = 0

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) + self._coming >= MOST_CONNECTIONS:
            return _Full()
        # A crowd is accepted at once, before the server has counted the first of it.
        self._coming += 1
        loop = asyncio.get_running_loop()
        loop.call_soon(self._came)
        made = self._server()
        self._silent.add(made)
        loop.call_later(_FIRST_WORDS, self._leave_if_silent, made)
        return made

    def _leave_if_silent(self, made: web.RequestHandler) -> None:
        if made in self._silent:
            self._silent.discard(made)
            if made.transport is not None:
                made.transport.abort()

    def _came(self) -> None:
        self._coming -= 1


class _Full(asyncio.Protocol):
    """Somebody for whom there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Port:
    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def take(self) -> socket.socket:
        made = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(self._address)
            made.listen(_BACKLOG)
            made.setblocking(False)  # noqa: FBT003 - its only argument
        except OSError as error:
            made.close()
            hint = "stop what listens there (ss -tlnp shows it), or choose another port ([http] listen)"
            raise ListenError(f"{_text(self._address)}: {error.strerror}: {hint}") from error
        return made

    def release(self) -> None:
        """The kernel gives a port back by itself."""


class _Socket:
    """As ``front.address`` has it, but nobody's except its owner's."""

    def __init__(self, path: Path) -> None:
        self._address = Address(path)
        self._path = path

    def take(self) -> socket.socket:
        with suppress(OSError):
            self._path.parent.mkdir(0o755, parents=True, exist_ok=True)
        self._address.check()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        private: list[Path] = []

        def bind(path: Path) -> None:
            made.bind(str(path))
            private.append(path)

        try:
            self._address.bind(bind)
            private[0].chmod(_MODE)
            made.listen(_BACKLOG)
            made.setblocking(False)  # noqa: FBT003 - its only argument
            self._address.publish()
        except BaseException:
            made.close()
            raise
        return made

    def release(self) -> None:
        self._address.release()


_Place = _Port | _Socket


def _place(address: HttpAddress) -> _Place:
    return _Socket(address) if isinstance(address, Path) else _Port(*address)


def _text(address: HttpAddress) -> str:
    if isinstance(address, Path):
        return os.fspath(address)
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
