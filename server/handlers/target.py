"""Where an ``httpGet`` or ``tcpSocket`` goes: its address, port and request target, as the kubelet works them out.

It is apart from the client because these rules are Kubernetes' and Go's ``net/url``, and the client's are HTTP's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes, urljoin, urlsplit

from shim.actions import HttpGetAction, TcpSocketAction
from shim.ports import Container
from shim.strictjson import printable

#: The kubelet's annotation on a container: a JSON list of name, hostPort, containerPort, protocol, hostIP.
PORTS = "io.kubernetes.container.ports"

_PORT_MAX = 65535
# What Go's url.EscapedPath leaves as it is.
_PATH_SAFE = "/!$&'()*+,;=:@[]-._~"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HALF_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_VISIBLE = re.compile(r"[^!-~]+")
_SCHEME = re.compile(r"[A-Za-z][-+.A-Za-z0-9]*:")
_ORIGIN = re.compile(rf"(?:{_SCHEME.pattern})?//[^/?]*")


class UnresolvedError(Exception):
    """There is nowhere to send the request to; the message says why."""


class RefusedError(UnresolvedError):
    """It may not be reached, and another attempt would come to the same; the message says what, why and who allows."""


@dataclass(frozen=True, slots=True)
class Target:
    """One URL, taken apart. ``path`` is the request target: the path and its query, ready for the wire."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return authority(self.host, self.port)

    @property
    def url(self) -> str:
        """The URL as text."""
        return f"{self.scheme}://{self.authority}{self.path}"


def authority(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def resolve(action: HttpGetAction, container: Container) -> Target:
    """Where a hook of this container goes.

    Raises UnresolvedError if the pod has no address, the container no port of that name, or a rule's URL is none.
    """
    if action.url:
        return _absolute_url(action.url)
    host, port = endpoint(action, container)
    return Target(action.scheme.lower(), host, port, request_target(action.path))


def endpoint(action: HttpGetAction | TcpSocketAction, container: Container) -> tuple[str, int]:
    """Host and port of a hook of this container.

    Raises UnresolvedError if the pod has no address, or the container no port of that name.
    """
    return action.host or _pod_address(container), _port(action.port, container)


def _absolute_url(url: str) -> Target:
    """A rule's URL: it has a host, and no user (a password in it would be in every table that shows the hook)."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts = urlsplit("")
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UnresolvedError("the URL is not of the form http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH")
    return Target(parts.scheme, parts.hostname, port, _wire(parts.path, "?" if parts.query else "", parts.query))


def redirected(target: Target, location: str) -> Target | None:
    """Where a redirect leads; None if that is another host, which is not followed.

    ``location`` is the header as aiohttp decodes it. Raises UnresolvedError if it cannot be followed at all.
    """
    # Bytes that a header may hold and a URL may not are encoded, as browsers and Go do.
    raw = location.encode(errors="surrogateescape")
    text = quote_from_bytes(raw, safe=bytes(range(0x21, 0x7F)))
    try:
        parts = urlsplit(urljoin(target.url, text))
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise UnresolvedError("redirected to a malformed URL") from None
    if (parts.hostname or "").lower() != target.host.lower():
        return None
    if parts.scheme not in ("http", "https"):
        raise UnresolvedError(f"redirected to an unsupported scheme, {printable(parts.scheme, 16)}")
    return Target(parts.scheme, target.host, port, _wire(parts.path, "?" if parts.query else "", parts.query))


def names_scheme(location: str) -> bool:
    """Whether a redirect says all of its URL: it ends a ``Host`` that the hook has set (Go's net/http)."""
    return _SCHEME.match(location) is not None


def request_target(path: str) -> str:
    """A declared ``path`` as it goes over the wire: absolute, its query kept, nothing encoded twice.

    What Go's ``url.Parse`` does not take (a control character, half an escape) is all path, ``?`` included; an origin
    or a fragment in it is dropped. Both are the kubelet's (``probe/http/request.go``, formatURL).
    """
    without_fragment, _, fragment = path.partition("#")
    origin = _ORIGIN.match(without_fragment)
    plain, mark, query = without_fragment[origin.end() if origin else 0 :].partition("?")
    if _CONTROL.search(path) or _HALF_ESCAPE.search(f"{plain}#{fragment}"):
        return _absolute(quote(path, safe=_PATH_SAFE))
    return _wire(plain, mark, query)


def _wire(path: str, mark: str, query: str) -> str:
    # The query is not re-encoded, but a request line ends at a space and is ASCII.
    return _absolute(quote(path, safe=f"{_PATH_SAFE}%")) + mark + _NOT_VISIBLE.sub(lambda found: quote(found[0]), query)


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _pod_address(container: Container) -> str:
    if container.pod.host_network:
        return "127.0.0.1"
    if not container.pod.ips:
        raise UnresolvedError("the pod has no IP address")
    return container.pod.ips[0]


def _port(port: int | str, container: Container) -> int:
    if isinstance(port, int):
        return port
    text = container.annotations.get(PORTS)
    if text is None:
        raise UnresolvedError(f'port "{port}" not found: the container has no annotation {PORTS}')
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        entries = None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == port:
            number = entry.get("containerPort")
            if type(number) is int and 0 < number <= _PORT_MAX:
                return number
            raise UnresolvedError(f'port "{port}" has no valid containerPort in the annotation {PORTS}')
    if not isinstance(entries, list):
        raise UnresolvedError(f'port "{port}" not found: the annotation {PORTS} is not a JSON list')
    raise UnresolvedError(f'port "{port}" not found in the annotation {PORTS}')
