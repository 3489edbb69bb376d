"""An API server as far as Events go: over HTTP, with its authentication, checks, Status answers and troubles."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from tests.sinks.validation import problems
from tests.support.waiting import PATIENCE, until

_PATCHES = {"application/strategic-merge-patch+json", "application/merge-patch+json"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """An answer other than the right one; ``status`` 0 is none at all: the connection breaks."""

    status: int
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A request, and the status that it was answered with; ``at`` is of the loop's clock."""

    method: str
    path: str
    status: int
    at: float


class ApiServer:
    """Listens on loopback and a port of its own until it is closed; a context manager, with a thread of its own.

    Everything may be changed under way. ``trouble`` is asked before each request is looked at; ``hold`` holds each
    answer back, after the request had its effect, while it is not set.
    """

    def __init__(self, token: str = "", tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.token = token
        self.namespaces = {"default", "prod"}
        self.forbidden: set[str] = set()
        self.events: dict[tuple[str, str], dict[str, Any]] = {}
        self.seen: list[Seen] = []
        self.trouble: Callable[[web.Request], Trouble | None] = lambda _: None
        self.hold = threading.Event()
        self.hold.set()
        self.port = port
        self._tls = tls
        self._version = 0
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise TimeoutError("the API server's stand-in does not listen")
        return self

    def __exit__(self, *_: object) -> None:
        """End; what was stored stays to be looked at."""
        self.hold.set()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def described(self, name: str, uid: str, kind: str = "Pod") -> list[dict[str, Any]]:
        """The Events that ``kubectl describe`` shows of an object, oldest first (its field selectors)."""
        wanted = {"name": name, "uid": uid}
        # It leaves the kind out for a pod, and asks by name, namespace and uid.
        wanted |= {"kind": kind} if kind != "Pod" else {}
        return [event for event in list(self.events.values()) if wanted.items() <= event["involvedObject"].items()]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """All Events, once there are so many; their counts counted."""
        until(lambda: sum(event["count"] for event in list(self.events.values())) >= count, f"{count} events are told")
        return list(self.events.values())

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._around])
        app.router.add_post("/api/v1/namespaces/{namespace}/events", self._post)
        app.router.add_patch("/api/v1/namespaces/{namespace}/events/{name}", self._patch)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()
        # Connections whose TLS has failed are nobody's, and stay open until the loop forgets them.
        for transport in list(self._loop._transports.values()):  # type: ignore[attr-defined] # nothing else has them
            transport.abort()
        for _ in range(10):
            await asyncio.sleep(0)  # what was aborted is closed in the loop's next turns

    @web.middleware
    async def _around(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        trouble = self.trouble(request)
        if trouble is not None:
            self._note(request, trouble.status)
            if trouble.status == 0:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            if trouble.body is not None:
                return web.Response(status=trouble.status, text=trouble.body, headers=trouble.headers)
            return _status(trouble.status, trouble.reason, "trouble", trouble.headers)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            answer: web.StreamResponse = _status(401, "Unauthorized", "Unauthorized")
        else:
            try:
                answer = await handler(request)
            except web.HTTPException as error:
                answer = _status(error.status, error.reason, "the server could not find the requested resource")
        self._note(request, answer.status)
        while not self.hold.is_set():  # noqa: ASYNC110 - a test's hand sets it, from another thread
            await asyncio.sleep(0.01)
        return answer

    def _note(self, request: web.Request, status: int) -> None:
        self.seen.append(Seen(request.method, request.path, status, self._loop.time()))

    async def _post(self, request: web.Request) -> web.Response:
        namespace = request.match_info["namespace"]
        if refused := self._refused("create", namespace):
            return refused
        if request.content_type != "application/json":
            return _status(415, "UnsupportedMediaType", f"{request.content_type} is not supported")
        event = await request.json()
        if namespace not in self.namespaces:
            return _status(404, "NotFound", f'namespaces "{namespace}" not found')
        if event.get("metadata", {}).get("resourceVersion"):
            return _status(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if wrong := problems(event, namespace):
            return _status(422, "Invalid", "; ".join(wrong))
        key = (namespace, event["metadata"]["name"])
        if key in self.events:
            return _status(409, "AlreadyExists", f'events "{key[1]}" already exists')
        return web.json_response(self._stored(key, event), status=201)

    async def _patch(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if refused := self._refused("patch", namespace):
            return refused
        if request.content_type not in _PATCHES:
            return _status(415, "UnsupportedMediaType", f"{request.content_type} is not supported")
        stored = self.events.get((namespace, name))
        if stored is None:
            return _status(404, "NotFound", f'events "{name}" not found')
        change = await request.json()
        if (
            change.get("metadata", {}).get("resourceVersion", stored["metadata"]["resourceVersion"])
            != (stored["metadata"]["resourceVersion"])
        ):
            return _status(409, "Conflict", "the object has been modified")
        event = _merged(stored, change)
        if wrong := problems(event, namespace):
            return _status(422, "Invalid", "; ".join(wrong))
        return web.json_response(self._stored((namespace, name), event))

    def _refused(self, verb: str, namespace: str) -> web.Response | None:
        if verb not in self.forbidden:
            return None
        said = f'events is forbidden: User "hookshim" cannot {verb} resource "events" in the namespace "{namespace}"'
        return _status(403, "Forbidden", said)

    def _stored(self, key: tuple[str, str], event: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        made = {"namespace": key[0], "uid": f"event-{self._version}", "creationTimestamp": "2026-01-02T03:04:05Z"}
        event["metadata"] = made | event["metadata"] | {"resourceVersion": str(self._version)}
        self.events[key] = event
        return event


def _merged(stored: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(stored)
    for name, value in change.items():
        merged[name] = _merged(merged.get(name, {}), value) if isinstance(value, dict) else value
    return merged


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    body = json.dumps(status | {"message": message, "reason": reason, "code": code})
    return web.Response(status=code, text=body, content_type="application/json", headers=headers or {})
