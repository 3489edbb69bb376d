"""``httpGet`` hooks: one request from the node's network namespace, answered or not.

What the request looks like and what counts as a delivery is the kubelet's (``lifecycle/handlers.go``,
``probe/http/request.go``), so that a declaration means the same here. What it leaves to Go's HTTP client is bounded
here, since a stop waits for it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import aiohttp

from server import VERSION
from server.handlers.connector import connector
from server.handlers.exchange import BODY_SECONDS, LINE_LIMIT, DeliveryError, Exchange, once
from server.handlers.reach import CONNECT_SECONDS, POD_ONLY, Reach, is_own, to_address, trusted
from server.handlers.target import RefusedError, Target, UnresolvedError, resolve
from shim import texts
from shim.actions import HttpGetAction
from shim.errors import RuntimeCallError
from shim.ports import Attempt
from shim.records import Hook, Outcome

#: Seconds for which the node's certificates are taken to be the same.
_CERTIFICATES_SECONDS = 60.0

#: Whether the sandbox of an id is ready (CRI ``SANDBOX_READY``). Raises RuntimeCallError.
Ready = Callable[[str], Awaitable[bool]]


async def _not_ready(_sandbox_id: str) -> bool:
    return False


class HttpHandler:
    """Carries out ``httpGet`` actions, within what ``reach`` allows.

    ``ready`` tells whether a sandbox still has its address. ``body_seconds`` bounds the wait for a body after its
    headers.

    A postStop is a POST with the container's identity and end as JSON, and delivered only by a status of 2xx unless
    the hook says otherwise: it is there to tell somebody, who has not been told by an answer that refuses it.

    TLS is not verified, as in Kubernetes, but for a node rule's URL, which is no pod's: that is held against the
    node's certificates, and never tried again in plain HTTP.
    """

    def __init__(
        self,
        reach: Reach = POD_ONLY,
        ready: Ready = _not_ready,
        *,
        user_agent: str = f"hookshim/{VERSION}",
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._reach = reach
        self._ready = ready
        self._user_agent = user_agent
        self._body_seconds = body_seconds
        self._certificates: tuple[float, ssl.SSLContext] | None = None
        self._reading = asyncio.Lock()

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Send the request; any response is a success, whatever its status, unless the hook expects certain ones.

        Cancelling it closes the connection at once.
        """
        action = attempt.handler.action
        if not isinstance(action, HttpGetAction):
            raise TypeError(f"an httpGet handler was given {type(action).__name__}")
        try:
            target, addresses = await self._target(action, attempt)
            tls = await self._verifying() if action.url else False
            # Closed with everything in it after each attempt: no connection, cookie or address outlives it.
            async with aiohttp.ClientSession(
                connector=connector(addresses, tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(connect=CONNECT_SECONDS),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                auto_decompress=False,
                trust_env=False,
                middlewares=(once,),
                max_line_size=LINE_LIMIT,
                max_field_size=LINE_LIMIT,
            ) as session:
                exchange = Exchange(session, action, attempt, self._user_agent, self._body_seconds)
                return await exchange.run(target)
        except (DeliveryError, UnresolvedError) as error:
            text = texts.failed(action, attempt.container.ref, str(error))
            return Outcome(error=text, permanent=isinstance(error, RefusedError))

    async def _verifying(self) -> ssl.SSLContext:
        """TLS by the node's certificates, which are read now and then: that takes a processor's time."""
        now = asyncio.get_running_loop().time()
        async with self._reading:
            if self._certificates is None or now - self._certificates[0] > _CERTIFICATES_SECONDS:
                self._certificates = now, await asyncio.to_thread(ssl.create_default_context)
            return self._certificates[1]

    async def find(self, attempt: Attempt) -> Outcome | None:
        """None: a request ends with the process that made it, and is made again."""
        del attempt
        return None

    async def _target(self, action: HttpGetAction, attempt: Attempt) -> tuple[Target, tuple[str, ...]]:
        """Where to send it, and the only addresses to connect to. Raises UnresolvedError."""
        by_default = not action.host and not action.url
        if by_default:
            await self._must_be_there(attempt)
        target = resolve(action, attempt.container)
        addresses = await self._reach.addresses(attempt, target.host)
        pod = attempt.container.pod
        if not by_default and not trusted(attempt) and any(is_own(pod, to_address(one)) for one in addresses):
            await self._must_be_there(attempt)
        return target, addresses

    async def _must_be_there(self, attempt: Attempt) -> None:
        """A pod that has ended has given its address back: another pod would be told what is not its business."""
        if attempt.hook is not Hook.POST_STOP:
            return
        try:
            ready = await self._ready(attempt.container.ref.sandbox_id)
        except RuntimeCallError as error:
            raise DeliveryError(f"the runtime does not say whether the pod is still there: {error.code}") from None
        if not ready:
            raise RefusedError("the pod is not ready any more, and its address may be another's")
