"""One attempt of an ``httpGet`` hook: the request, its redirects, and the answer that counts.

It is apart from the handler, who decides what may be reached: these rules are HTTP's and those of the kubelet's client.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Sequence

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from server.handlers.headers import Header, declared_host, sent
from server.handlers.identity import document
from server.handlers.reach import CONNECT_SECONDS
from server.handlers.target import Target, names_scheme, redirected
from shim import texts
from shim.actions import HttpGetAction
from shim.endpoint import statuses_to_json
from shim.ports import Attempt
from shim.records import Hook, Outcome
from shim.strictjson import printable

#: How much of a body is read, in bytes: the kubelet's bound (``maxRespBodyLength``).
BODY_LIMIT = 10 * 1024
#: How much of it is kept, in bytes: the beginning.
OUTPUT_LIMIT = 4 * 1024
#: Seconds to wait for a body once the headers are there: the delivery is made, the body only kept for the owner.
BODY_SECONDS = 1.0
MAX_REDIRECTS = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Those that keep a POST what it is: after the others it would be a GET that tells nothing.
_SAME_METHOD = frozenset({307, 308})
#: What a postStop expects, as inclusive ranges, if it says nothing.
_SUCCESSES = ((200, 299),)
#: Not to be said in the clear when they were meant for TLS (Go's net/http, shouldCopyHeaderOnRedirect).
_CREDENTIALS = frozenset({"authorization", "www-authenticate", "cookie", "cookie2"})
#: What OpenSSL calls a first record that is none.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
#: Header lines this long are read; a receiver's answer counts whatever it is.
LINE_LIMIT = 64 * 1024


class _PlainAnswerError(Exception):
    """A TLS handshake was answered in something that is not TLS."""


class _NoAnswerError(Exception):
    """The request failed; out of a disguise that keeps aiohttp from sending it again."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__(str(error))
        self.error = error


class DeliveryError(Exception):
    """There was no response; the message says why, in words that hold nothing of what was sent or received."""


class Exchange:
    """One attempt, in a session that connects to its host and nowhere else. ``body_seconds`` as in the handler."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        action: HttpGetAction,
        attempt: Attempt,
        user_agent: str,
        body_seconds: float,
    ) -> None:
        self._session = session
        self._action = action
        self._ref = attempt.container.ref
        self._verified = bool(action.url)
        self._body = document(attempt) if attempt.hook is Hook.POST_STOP else None
        self._expected = action.expect_status or (_SUCCESSES if self._body is not None else ())
        self._host = declared_host(action.headers)
        self._headers = sent(action.headers, attempt, user_agent, posts=self._body is not None)
        self._body_seconds = body_seconds
        # The answer is there before its body is: it must not be lost to a budget that ends while the body is awaited.
        loop = asyncio.get_running_loop()
        self._body_until = None if attempt.budget is None else loop.time() + attempt.budget - body_seconds / 4

    async def run(self, target: Target) -> Outcome:
        """The answer, wherever redirects lead. Raises DeliveryError, UnresolvedError."""
        try:
            return await self._follow(target, self._headers)
        except _PlainAnswerError as error:
            if target.scheme == "http" or self._verified:
                raise DeliveryError(f"{'redirected; ' * (target.scheme == 'http')}{error}") from None
        plain = Target("http", target.host, target.port, target.path)
        safe = tuple(header for header in self._headers if header[0].lower() != "authorization")
        try:
            return await self._follow(plain, safe)
        except (DeliveryError, _PlainAnswerError) as error:
            raise DeliveryError(f"https was answered in plain http, and then in http: {error}") from None

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
        raise DeliveryError(f"stopped after {MAX_REDIRECTS} redirects")

    async def _get(self, target: Target, host: str, headers: Sequence[Header]) -> Outcome | tuple[Target, bool]:
        """The outcome, or where to go on, and whether that was said relative to here."""
        try:
            async with self._session.request(
                "GET" if self._body is None else "POST",
                URL(target.url, encoded=True),
                data=self._body,
                headers=CIMultiDict([("Host", host), *headers]),
                allow_redirects=False,
            ) as response:
                location = response.headers.get("Location", "")
                if location and response.status in (_REDIRECTS if self._body is None else _SAME_METHOD):
                    following = redirected(target, location)
                    if following is not None:
                        return following, not names_scheme(location)
                return await self._outcome(response)
        except _NoAnswerError as failed:
            error = failed.error
            reason = getattr(getattr(error, "os_error", None), "reason", None)
            if isinstance(error, aiohttp.ClientConnectorSSLError) and reason in _NOT_TLS:
                raise _PlainAnswerError("https was answered in plain http") from error
            raise DeliveryError(_reason(error, target)) from error

    async def _outcome(self, response: aiohttp.ClientResponse) -> Outcome:
        version = response.version
        number = f"{version.major}.{version.minor}" if version else "?"
        line = printable(f"HTTP/{number} {response.status} {response.reason or ''}".rstrip(), OUTPUT_LIMIT)
        body = await self._head_of_body(response)
        output = f"{line}\n".encode() + body[:OUTPUT_LIMIT]
        status, error = response.status, ""
        if self._expected and not any(first <= status <= last for first, last in self._expected):
            why = f"HTTP status {status}, expected {', '.join(map(str, statuses_to_json(self._expected)))}"
            error = texts.failed(self._action, self._ref, why)
        return Outcome(error=error, http_status=status, output=output)

    async def _head_of_body(self, response: aiohttp.ClientResponse) -> bytes:
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


async def once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again by itself when its connection breaks.

    The journal would know of one delivery where there were two.
    """
    try:
        return await handler(request)
    except aiohttp.ClientError as error:
        raise _NoAnswerError(error) from error


def _reason(error: aiohttp.ClientError, target: Target) -> str:
    where = target.authority
    match error:
        case aiohttp.ConnectionTimeoutError():
            reason = f"connect to {where}: timed out after {CONNECT_SECONDS:g} s"
        case aiohttp.ClientConnectorCertificateError():
            reason = f"TLS handshake with {where}: the certificate is not valid for it"
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
