"""The addresses that are served: pages for people, text for Prometheus and probes, a stream for open pages."""

from __future__ import annotations

from importlib import resources
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from server.admin.client import AdminError
from server.observe.core import Core
from server.observe.feed import Feed
from server.observe.guard import guard, secure
from server.observe.pages import Asked, Pages
from shim.errors import JournalError

_STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}

#: The longest id that is looked for, in characters.
_LONGEST_ID: Final = 128


def site(pages: Pages, core: Core, feed: Feed, *, on_tcp: bool) -> web.Application:
    """The application; ``on_tcp``: everybody on the node can connect."""
    app = web.Application(middlewares=[guard(on_tcp=on_tcp)])
    app.on_response_prepare.append(secure)
    served = _Site(pages, core)
    app.add_routes(
        [
            web.get("/", served.index),
            web.get("/containers/{id}", served.container),
            web.get("/deliveries/{id}", served.delivery),
            web.get("/events", feed.stream),
            web.get("/metrics", served.metrics),
            web.get("/healthz", served.healthz),
            web.get("/readyz", served.readyz),
            *(web.get(f"/static/{name}", _static(name, kind)) for name, kind in _STATIC.items()),
            web.get("/{other:.*}", served.other),
        ]
    )
    return app


class _Site:
    def __init__(self, pages: Pages, core: Core) -> None:
        self._pages = pages
        self._core = core

    async def index(self, request: web.Request) -> web.Response:
        try:
            return _page(await self._pages.index(Asked.read(request.query)) or "")
        except JournalError as error:
            return await self._unreadable(error)

    async def container(self, request: web.Request) -> web.Response:
        return await self._one(request, "container")

    async def delivery(self, request: web.Request) -> web.Response:
        return await self._one(request, "delivery")

    async def other(self, _request: web.Request) -> web.Response:
        return _page(await self._pages.problem("No such page", "There is nothing at this address."), 404)

    async def metrics(self, _request: web.Request) -> web.Response:
        answer = await self._core.metrics()
        if isinstance(answer, AdminError):
            return _text(503, f"no metrics: {answer}")
        return web.Response(body=answer.encode(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def healthz(self, _request: web.Request) -> web.Response:
        answer = await self._core.status()
        return _text(503, str(answer)) if isinstance(answer, AdminError) else _text(200, "ok")

    async def readyz(self, _request: web.Request) -> web.Response:
        answer = await self._core.status()
        if isinstance(answer, AdminError):
            return _text(503, str(answer))
        return _text(200, "ok") if answer.serving else _text(503, answer.reason)

    async def _one(self, request: web.Request, kind: str) -> web.Response:
        key = request.match_info["id"][:_LONGEST_ID]
        look = self._pages.container if kind == "container" else self._pages.delivery
        try:
            page = await look(key)
        except JournalError as error:
            return await self._unreadable(error)
        if page is None:
            text = f"The journal has no {kind} {key}. What has ended is kept for as long as retention_hours says."
            return _page(await self._pages.problem(f"No such {kind}", text), 404)
        return _page(page)

    async def _unreadable(self, error: JournalError) -> web.Response:
        return _page(await self._pages.problem("The journal cannot be read", str(error)), 503)


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html")


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


def _static(name: str, kind: str) -> Handler:
    content = (resources.files("server.observe") / "static" / name).read_bytes()

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return serve
