"""The handlers that reach over the network, ``httpGet`` and ``tcpSocket``: what may be declared of them.

The names and defaults are Kubernetes' (``core/v1`` HTTPGetAction, TCPSocketAction); ``expectStatus`` and ``url`` are
ours. That something may be declared does not say that it may be reached.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable

from shim.actions import HttpGetAction, TcpSocketAction
from shim.author import Author
from shim.strictjson import NOTHING, Place, string

#: The most headers of a request, entries of ``expectStatus``, and characters of a URL.
MAX_HEADERS = 100
MAX_STATUSES = 32
MAX_URL = 2048
#: What is said of fields and handlers that an annotation may not have.
RULES_ONLY = "which only the node's rules may have"

# What a URL says in one piece.
_IN_A_URL = ("path", "port", "host", "scheme")

_HOST_NAME = re.compile(r"(?=.{1,253}\.?\Z)(\w([-\w]{0,61}\w)?\.)*(?!\d+\.?\Z)\w([-\w]{0,61}\w)?\.?", re.ASCII)
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_AUTHORITY = re.compile(r"([-.~\w]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# What more a URL may have (a user, a fragment, a backslash), readers of URLs understand in different ways.
_URL = re.compile(
    r"https?://(\[(?P<address>[0-9a-f:.]+)\]|(?P<host>[-.\w]+))(:(?P<port>[0-9]{1,5}))?([/?][!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_STATUS_CLASS = re.compile(r"[2-5]xx")


def read_http_get(place: Place, value: object, author: Author) -> HttpGetAction:
    """Read ``httpGet``. Raises DeclarationError."""
    allowed: tuple[str, ...] = (*_IN_A_URL, "httpHeaders")
    if author is not Author.KUBELET:
        allowed = (*allowed, "expectStatus")
    if author.trusted:
        allowed = (*allowed, "url")
    given = author.fields(place, value, allowed, {} if author.trusted else {"url": RULES_ONLY})
    headers = place.field("httpHeaders", secret=True)
    listed = author.array(headers, given.get("httpHeaders", []), "objects", MAX_HEADERS)
    read = tuple(_header(headers.item(index), one, author) for index, one in enumerate(listed))
    statuses = _statuses(place.field("expectStatus"), given.get("expectStatus"), author)
    if "url" in given:
        beside = [name for name in _IN_A_URL if name in given]
        if beside:
            raise place.error(f"url without {', '.join(_IN_A_URL)}", f"url and {', '.join(beside)}")
        return HttpGetAction(headers=read, expect_status=statuses, url=_url(place.field("url"), given["url"], author))
    scheme = string(place.field("scheme"), given.get("scheme", "HTTP")) or "HTTP"
    if scheme not in ("HTTP", "HTTPS"):
        raise place.field("scheme").unexpected("HTTP or HTTPS", scheme)
    return HttpGetAction(
        port=_port(place.field("port"), given.get("port", NOTHING)),
        path=string(place.field("path"), given.get("path", "/")) or "/",
        host=_host(place.field("host"), given.get("host", "")),
        scheme=scheme,
        headers=read,
        expect_status=statuses,
    )


def read_tcp_socket(place: Place, value: object, author: Author) -> TcpSocketAction:
    """Read ``tcpSocket``. Raises DeclarationError."""
    given = author.fields(place, value, ("port", "host"))
    port = _port(place.field("port"), given.get("port", NOTHING))
    return TcpSocketAction(port, _host(place.field("host"), given.get("host", "")))


def statuses_to_json(ranges: Iterable[tuple[int, int]]) -> list[int | str]:
    """The shortest ``expectStatus`` that means these ranges: whole classes (``"2xx"``), and single ones."""
    parts: list[int | str] = []
    for first, last in ranges:
        status = first
        while status <= last:
            whole = status % 100 == 0 and status + 99 <= last
            parts.append(f"{status // 100}xx" if whole else status)
            status += 100 if whole else 1
    return parts


def _statuses(place: Place, value: object, author: Author) -> tuple[tuple[int, int], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        return (_status(place, value, " or an array of them"),)
    items = author.array(place, value, "statuses", MAX_STATUSES)
    if not items:
        raise place.unexpected("at least one status", items)
    merged: list[tuple[int, int]] = []
    for first, last in sorted(_status(place.item(index), one) for index, one in enumerate(items)):
        if merged and first <= merged[-1][1] + 1:
            first, last = merged[-1][0], max(merged.pop()[1], last)  # noqa: PLW2901 - widened
        merged.append((first, last))
    return tuple(merged)


def _status(place: Place, value: object, more: str = "") -> tuple[int, int]:
    if isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 599:  # noqa: PLR2004 - RFC 9110's
        return value, value
    if isinstance(value, str) and _STATUS_CLASS.fullmatch(value):
        first = int(value[0]) * 100
        return first, first + 99
    hint = "; a number is written without quotes" if isinstance(value, str) and value.isdigit() else ""
    raise place.unexpected(f'a status from 200 to 599, a class of them as "2xx"{more}', value, hint)


def _header(place: Place, value: object, author: Author) -> tuple[str, str]:
    given = author.fields(place, value, ("name", "value"))
    name = string(place.field("name"), given.get("name", NOTHING))
    if not _HEADER_NAME.fullmatch(name):
        raise place.field("name").unexpected("an HTTP header's name (a token of RFC 9110)", name)
    # Kubernetes' schema requires the value, but not that it says anything.
    text = string(place.field("value"), given.get("value", ""))
    if control := _CONTROL.search(text):
        raise place.field("value").error("no control characters", f"one at character {control.start() + 1}")
    if name.lower() == "host" and text.strip() and not _AUTHORITY.fullmatch(text.strip()):
        raise place.field("value").unexpected("a host with an optional port", text)
    return name, text


def _port(place: Place, value: object) -> int | str:
    # Kubernetes' validation.IsValidPortName: "8080" is a name to it, and none that a port can have.
    hint = "; a number is written without quotes" if isinstance(value, str) and value.isdigit() else ""
    if isinstance(value, str) and _PORT_NAME.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:  # noqa: PLR2004 - TCP's own
        return value
    expected = 'a number from 1 to 65535 or a port\'s name (at most 15 of a-z, 0-9 and inner single "-", one a letter)'
    raise place.unexpected(expected, value, hint)


def _host(place: Place, value: object) -> str:
    host = string(place, value)
    if not host or _is_host(host):
        return host
    hint = "; the scheme has a field of its own" if "://" in host else ""
    raise place.unexpected("a host name or an IP address without brackets or port", host, hint)


def _is_host(host: str) -> bool:
    if _HOST_NAME.fullmatch(host):
        return True
    with contextlib.suppress(ValueError):
        # An address with a zone (fe80::1%eth0) means something on one node only, and nothing in a URL.
        return not getattr(ipaddress.ip_address(host), "scope_id", None)
    return False


def _url(place: Place, value: object, author: Author) -> str:
    url = string(place, value)
    if author.bounded and len(url) > MAX_URL:
        raise place.error(f"at most {MAX_URL} characters", str(len(url)))
    if not _is_url(url):
        # One that is refused may have a password in it: nothing of it is shown.
        expected = "an absolute http or https URL in ASCII, without user, backslash and fragment"
        raise place.error(expected, "something else")
    return url


def _is_url(url: str) -> bool:
    found = _URL.fullmatch(url)
    if found is None or "#" in url or "\\" in url or not 1 <= int(found["port"] or 80) <= 65535:  # noqa: PLR2004 - TCP's
        return False
    return _is_host(found["host"]) if found["host"] else ":" in found["address"] and _is_host(found["address"])
