"""``httpGet`` hooks: one GET from the node's network namespace, answered or not.

What the request looks like and what counts as a delivery is the kubelet's (``lifecycle/handlers.go``,
``probe/http/request.go``), so that a declaration means the same here. What it leaves to Go's HTTP client is bounded
here, since a stop waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from server import VERSION
from server.handlers.target import Target, UnresolvedError, names_scheme, redirected, resolve
from shim import texts
from shim.lifecycle import HttpGetAction, printable
from shim.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.ports import Attempt

    Header = tuple[str, str]

#: How much of a body is read, in bytes: the kubelet's bound (``maxRespBodyLength``).
BODY_LIMIT = 10 * 1024
#: How much of it is kept, in bytes: the beginning.
OUTPUT_LIMIT = 4 * 1024
#: Seconds to find and reach the server, TLS included: Go's default, which is the kubelet's.
CONNECT_SECONDS = 30.0
#: Seconds to wait for a body once the headers are there: the delivery is made, the body only kept for the owner.
BODY_SECONDS = 1.0
MAX_REDIRECTS = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Set here and by nobody else: framing, and the identity that a receiver deduplicates on. Host is its own case.
_RESERVED = frozenset(
    {"host", "content-length", "transfer-encoding", "trailer", "hookshim-delivery", "hookshim-attempt"}
)
#: Not to be said in the clear when they were meant for TLS (Go's net/http, shouldCopyHeaderOnRedirect).
_CREDENTIALS = frozenset({"authorization", "www-authenticate", "cookie", "cookie2"})
#: What OpenSSL calls a first record that is none.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
#: Header lines this long are read; a receiver's answer counts whatever it is.
_LINE_LIMIT = 64 * 1024


class _PlainAnswerError(Exception):
    """A TLS handshake was answered in something that is not TLS."""


class _NoAnswerError(Exception):
    """The request failed; out of a disguise that keeps aiohttp from sending it again."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__(str(error))
        self.error = error


class _DeliveryError(Exception):
    """There was no response; the message says why, in words that hold nothing of what was sent or received."""


class HttpHandler:
    """Carries out ``httpGet`` actions. ``body_seconds`` bounds the wait for a body after its headers."""

    def __init__(self, user_agent: str = f"hookshim/{VERSION}", body_seconds: float = BODY_SECONDS) -> None:
        self._user_agent = user_agent
        self._body_seconds = body_seconds

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Send the request; any response is a success, whatever its status.

        Cancelling it closes the connection at once.
        """
        action = attempt.action
        if not isinstance(action, HttpGetAction):
            raise TypeError(f"an httpGet handler was given {type(action).__name__}")
        try:
            # Closed with everything in it after each attempt: no connection, cookie or address outlives it.
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, use_dns_cache=False, ssl=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(connect=CONNECT_SECONDS),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                auto_decompress=False,
                trust_env=False,
                middlewares=(_once,),
                max_line_size=_LINE_LIMIT,
                max_field_size=_LINE_LIMIT,
            ) as session:
                exchange = _Exchange(session, action, attempt, self._user_agent, self._body_seconds)
                return await exchange.run(resolve(action, attempt.container))
        except (_DeliveryError, UnresolvedError) as error:
            return Outcome(error=texts.failed(action, attempt.container.ref, str(error)))


class _Exchange:
    """One attempt: the request, its redirects, and the answer that counts."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        action: HttpGetAction,
        attempt: Attempt,
        user_agent: str,
        body_seconds: float,
    ) -> None:
        self._session = session
        self._host = next((value.strip() for name, value in action.headers if name.lower() == "host"), "")
        self._headers = (
            *_declared(action.headers, user_agent),
            ("Hookshim-Delivery", attempt.delivery_id),
            ("Hookshim-Attempt", str(attempt.number)),
        )
        self._body_seconds = body_seconds
        # The answer is there before its body is: it must not be lost to a budget that ends while the body is awaited.
        loop = asyncio.get_running_loop()
        self._body_until = None if attempt.budget is None else loop.time() + attempt.budget - body_seconds / 4

    async def run(self, target: Target) -> Outcome:
        try:
            return await self._follow(target, self._headers)
        except _PlainAnswerError as error:
            if target.scheme == "http":
                raise _DeliveryError(f"redirected; {error}") from None
        plain = Target("http", target.host, target.port, target.path)
        safe = tuple(header for header in self._headers if header[0].lower() != "authorization")
        try:
            return await self._follow(plain, safe)
        except (_DeliveryError, _PlainAnswerError) as error:
            raise _DeliveryError(f"https was answered in plain http, and then in http: {error}") from None

    async def _follow(self, target: Target, headers: Sequence[Header]) -> Outcome:
        host = self._host or target.authority
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._get(target, host, headers)
            if isinstance(answer, Outcome):
                return answer
            following, relative = answer
            if not relative:
                host = following.authority
            if (target.scheme, following.scheme) == ("https", "http"):
                headers = tuple(header for header in headers if header[0].lower() not in _CREDENTIALS)
            target = following
        raise _DeliveryError(f"stopped after {MAX_REDIRECTS} redirects")

    async def _get(self, target: Target, host: str, headers: Sequence[Header]) -> Outcome | tuple[Target, bool]:
        """The outcome, or where to go on, and whether that was said relative to here."""
        try:
            async with self._session.get(
                URL(target.url, encoded=True),
                headers=CIMultiDict([("Host", host), *headers]),
                allow_redirects=False,
            ) as response:
                location = response.headers.get("Location", "")
                if response.status in _REDIRECTS and location:
                    following = redirected(target, location)
                    if following is not None:
                        return following, not names_scheme(location)
                return await self._outcome(response)
        except _NoAnswerError as failed:
            error = failed.error
            reason = getattr(getattr(error, "os_error", None), "reason", None)
            if isinstance(error, aiohttp.ClientConnectorSSLError) and reason in _NOT_TLS:
                raise _PlainAnswerError("https was answered in plain http") from error
            raise _DeliveryError(_reason(error, target)) from error

    async def _outcome(self, response: aiohttp.ClientResponse) -> Outcome:
        version = response.version
        number = f"{version.major}.{version.minor}" if version else "?"
        line = printable(f"HTTP/{number} {response.status} {response.reason or ''}".rstrip(), OUTPUT_LIMIT)
        body = await self._body(response)
        output = f"{line}\n".encode() + body[:OUTPUT_LIMIT]
        return Outcome(http_status=response.status, output=output)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        seconds = self._body_seconds
        if self._body_until is not None:
            left = self._body_until - asyncio.get_running_loop().time()
            seconds = max(0.0, min(seconds, left))
        body = bytearray()
        # What has come is kept; that more does not come takes nothing from the delivery.
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(seconds):
                while len(body) < BODY_LIMIT and (part := await response.content.read(BODY_LIMIT - len(body))):
                    body += part
        response.close()
        return bytes(body)


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again by itself when its connection breaks.

    The journal would know of one delivery where there were two.
    """
    try:
        return await handler(request)
    except aiohttp.ClientError as error:
        raise _NoAnswerError(error) from error


def _declared(headers: Sequence[Header], user_agent: str) -> list[Header]:
    """The declared headers with the kubelet's defaults: an empty User-Agent or Accept sends none at all."""
    spelt: dict[str, str] = {}
    # A name that is repeated in another case would replace the first in aiohttp: HTTP does not care how it is spelt.
    values = [
        (spelt.setdefault(name.lower(), name), value.strip(" \t"))
        for name, value in headers
        if name.lower() not in _RESERVED
    ]
    agents = [pair for pair in values if pair[0].lower() == "user-agent"] or [("User-Agent", user_agent)]
    accepts = [pair for pair in values if pair[0].lower() == "accept"] or [("Accept", "*/*")]
    others = [pair for pair in values if pair[0].lower() not in ("user-agent", "accept")]
    if all(name.lower() != "connection" for name, _ in others):
        others.append(("Connection", "close"))
    # Go sends the first User-Agent alone, and takes the first Accept as the answer to whether there is one.
    return [*(agents[:1] if agents[0][1] else ()), *(accepts if accepts[0][1] else ()), *others]


def _reason(error: aiohttp.ClientError, target: Target) -> str:
    where = target.authority
    match error:
        case aiohttp.ConnectionTimeoutError():
            reason = f"connect to {where}: timed out after {CONNECT_SECONDS:g} s"
        case aiohttp.ClientConnectorDNSError():
            reason = f"no address found for host {target.host}"
        case aiohttp.ClientConnectorSSLError():
            reason = f"TLS handshake with {where}: {_words(error.os_error)}"
        case aiohttp.ClientConnectorError():
            reason = f"connect to {where}: {_words(error.os_error)}"
        case aiohttp.ClientResponseError():
            reason = f"{where} answered with something that is not HTTP"
        case aiohttp.ServerDisconnectedError():
            reason = f"{where} closed the connection without an answer"
        case OSError():
            reason = f"connection to {where}: {_words(error)}"
        case _:
            reason = f"request to {where}: {type(error).__name__}"
    return reason


def _words(error: OSError) -> str:
    """An error in the system's words: those of the library hold addresses and OpenSSL's source lines."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "failed").lower().replace("_", " ")
    return os.strerror(error.errno).lower() if error.errno else "failed"
