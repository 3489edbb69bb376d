"""What holds for every request: it reads, it was meant for this server, and a browser is told to trust nothing else.

There is no login, so the answers must be of no use to a page that a browser on the node has open: its scripts cannot
read them (no CORS header), cannot frame them, and cannot reach them by a name of their own (DNS rebinding).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

#: ``Host`` as it is sent: a name or an address, with or without a port.
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

#: For every answer, refusals too.
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def guard(*, on_tcp: bool) -> Middleware:
    """Refuse what does not read, and on TCP what was meant for another host."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="this server only reads\n", headers={"Allow": "GET, HEAD"})
        if on_tcp and not is_loopback(request.headers.get("Host", "")):
            return web.Response(status=421, text="ask for localhost or a loopback address\n")
        if _foreign(request):
            return web.Response(status=403, text="this is no part of another site's page\n")
        return await handler(request)

    return guarded


def _foreign(request: web.Request) -> bool:
    """Whether a page of another site has this as a part of its own: a link to it is none (Fetch Metadata, W3C)."""
    site, mode = request.headers.get("Sec-Fetch-Site", "none"), request.headers.get("Sec-Fetch-Mode", "")
    return site not in ("none", "same-origin") and mode != "navigate"


async def secure(_request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers: a signal handler, so that streams have them too."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "hookshim"


def is_loopback(host: str) -> bool:
    """Whether a ``Host`` header names this node alone."""
    match = _HOST.fullmatch(host)
    if not match:
        return False
    name = match[1].strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
