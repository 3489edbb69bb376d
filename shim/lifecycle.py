"""The schema of a declaration, Kubernetes' own ``Lifecycle``, and the one place that reads it.

It is stricter than Kubernetes' API server where that one forgives (unknown fields, repeated keys): nobody looks at an
annotation again once the container exists, so a typing mistake has to be refused while its author is still there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shim.strictjson import NOTHING, Place, array, fields, load, members, printable, quoted, string

__all__ = [
    "EVERY_CONTAINER",
    "KEY",
    "MAX_BYTES",
    "Action",
    "ExecAction",
    "HttpGetAction",
    "Lifecycle",
    "action_from_json",
    "describe",
    "effective",
    "parse_container",
    "parse_pod",
    "printable",
    "to_json",
]

#: The annotation key, on the container's config and on the pod's.
KEY = "hookshim.dev/lifecycle"
#: The pod's entry for every container that it does not name.
EVERY_CONTAINER = "*"
#: A declaration's size in bytes of UTF-8. Kubernetes allows 256 KiB for all annotations of an object together.
MAX_BYTES = 64 * 1024

_HOOKS = ("postStart", "preStop")
_HANDLERS = ("exec", "httpGet")
_HTTP_GET = ("path", "port", "host", "scheme", "httpHeaders")
# What Kubernetes has beside them is refused: to ignore it would be a promise not kept.
_OTHER_HOOKS = ("stopSignal",)
_OTHER_HANDLERS = ("sleep", "tcpSocket")

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST_NAME = re.compile(r"(?=.{1,253}\.?\Z)(\w([-\w]{0,61}\w)?\.)*(?!\d+\.?\Z)\w([-\w]{0,61}\w)?\.?", re.ASCII)
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_AUTHORITY = re.compile(r"([-.~\w]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ExecAction:
    """``exec``: argv as given, no shell. At least one word."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpGetAction:
    """``httpGet``: a GET from the node's network namespace.

    ``port`` is 1..65535 or a name from the container's ports; ``host`` empty means the pod's own address;
    ``scheme`` is ``HTTP`` or ``HTTPS``; ``headers`` in declared order, names may repeat.
    """

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


Action = ExecAction | HttpGetAction


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What one container declares: at most one handler for each hook."""

    post_start: Action | None = None
    pre_stop: Action | None = None


def effective(
    container_name: str, container_annotations: Mapping[str, str], pod_annotations: Mapping[str, str]
) -> Lifecycle:
    """The hooks of one container, from its own annotation and its pod's.

    For each hook by itself, the container's own annotation wins over the pod's entry for its name, and that over
    ``*``: a container that adds a PostStart keeps the PreStop that its pod gives to all, as a container's
    ``securityContext`` overrides its pod's field by field. ``null`` is the same as absent, as everywhere in
    Kubernetes' API, and takes nothing away.

    Both annotations are read whole: a mistake in an entry for another container raises DeclarationError too.
    """
    own = container_annotations.get(KEY)
    pods = pod_annotations.get(KEY)
    entries = {} if pods is None else parse_pod(pods)
    none = Lifecycle()
    ranked = (
        none if own is None else parse_container(own),
        entries.get(container_name, none),
        entries.get(EVERY_CONTAINER, none),
    )
    return Lifecycle(
        post_start=next((one.post_start for one in ranked if one.post_start is not None), None),
        pre_stop=next((one.pre_stop for one in ranked if one.pre_stop is not None), None),
    )


def parse_container(text: str) -> Lifecycle:
    """Read a container's annotation: ``{"postStart": HANDLER, "preStop": HANDLER}``.

    Raises DeclarationError, which names the key, the JSON path, what was expected there and what was found.
    """
    place = Place(f"annotation {KEY} of the container")
    return _lifecycle(place, load(place, text, MAX_BYTES))


def parse_pod(text: str) -> dict[str, Lifecycle]:
    """Read a pod's annotation: what it declares by container name, and by ``*``.

    Raises DeclarationError, as ``parse_container`` does.
    """
    place = Place(f"annotation {KEY} of the pod")
    entries = members(place, load(place, text, MAX_BYTES))
    for name in entries:
        if name != EVERY_CONTAINER and not _DNS_LABEL.fullmatch(name):
            expected = 'a container\'s name (a DNS label: lower-case letters, digits and "-", at most 63) or "*"'
            raise place.error(expected, f"the key {quoted(name)}")
    return {name: _lifecycle(place.field(name), value) for name, value in entries.items()}


def to_json(action: Action) -> str:
    """The handler as it is declared, in canonical JSON: ``{"exec":{"command":["sync"]}}``.

    Of ``httpGet``, fields that have their default are left out, ``path`` excepted.
    """
    body: dict[str, object]
    if isinstance(action, ExecAction):
        body = {"exec": {"command": list(action.command)}}
    else:
        get: dict[str, object] = {"path": action.path, "port": action.port}
        if action.host:
            get["host"] = action.host
        if action.scheme != "HTTP":
            get["scheme"] = action.scheme
        if action.headers:
            get["httpHeaders"] = [{"name": name, "value": value} for name, value in action.headers]
        body = {"httpGet": get}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def action_from_json(text: str) -> Action:
    """The inverse of ``to_json``. Raises DeclarationError for what is no handler."""
    place = Place("the recorded handler")
    # No limit: escapes can make a declaration that was accepted longer than it came.
    return _action(place, load(place, text, None))


def describe(action: Action, limit: int = 60) -> str:
    """The handler in one printable line of at most ``limit`` characters, for tables. Names no header."""
    if isinstance(action, ExecAction):
        return f"exec [{printable(' '.join(action.command), limit - 7)}]"
    host = f"[{action.host}]" if ":" in action.host else action.host
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    return printable(f"httpGet {action.scheme.lower()}://{host}:{action.port}{path}", limit)


def _lifecycle(place: Place, value: object) -> Lifecycle:
    hooks = {name: _action(place.field(name), one) for name, one in fields(place, value, _HOOKS, _OTHER_HOOKS).items()}
    return Lifecycle(post_start=hooks.get("postStart"), pre_stop=hooks.get("preStop"))


def _action(place: Place, value: object) -> Action:
    handlers = fields(place, value, _HANDLERS, _OTHER_HANDLERS)
    if len(handlers) != 1:
        raise place.error(f"exactly one of {', '.join(_HANDLERS)}", " and ".join(handlers) or "none")
    ((kind, body),) = handlers.items()
    return (_exec if kind == "exec" else _http_get)(place.field(kind), body)


def _exec(place: Place, value: object) -> ExecAction:
    given = fields(place, value, ("command",))
    place = place.field("command")
    words = array(place, given.get("command", NOTHING), "strings")
    if not words:
        raise place.unexpected("an array of at least one string", words)
    command = tuple(string(place.item(index), word) for index, word in enumerate(words))
    for index, word in enumerate(command):
        if "\0" in word:
            raise place.item(index).error("a string without NUL", f"one at character {word.index(chr(0)) + 1}")
    if not command[0]:
        raise place.item(0).unexpected("a program", command[0])
    return ExecAction(command)


def _http_get(place: Place, value: object) -> HttpGetAction:
    given = fields(place, value, _HTTP_GET)
    scheme = string(place.field("scheme"), given.get("scheme", "HTTP")) or "HTTP"
    if scheme not in ("HTTP", "HTTPS"):
        raise place.field("scheme").unexpected("HTTP or HTTPS", scheme)
    headers = place.field("httpHeaders", secret=True)
    return HttpGetAction(
        port=_port(place.field("port"), given.get("port", NOTHING)),
        path=string(place.field("path"), given.get("path", "/")) or "/",
        host=_host(place.field("host"), given.get("host", "")),
        scheme=scheme,
        headers=tuple(
            _header(headers.item(index), one)
            for index, one in enumerate(array(headers, given.get("httpHeaders", []), "objects"))
        ),
    )


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
    if not host or _HOST_NAME.fullmatch(host):
        return host
    with contextlib.suppress(ValueError):
        # An address with a zone (fe80::1%eth0) means something on one node only, and nothing in a URL.
        if not getattr(ipaddress.ip_address(host), "scope_id", None):
            return host
    hint = "; the scheme has a field of its own" if "://" in host else ""
    raise place.unexpected("a host name or an IP address without brackets or port", host, hint)


def _header(place: Place, value: object) -> tuple[str, str]:
    given = fields(place, value, ("name", "value"))
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
