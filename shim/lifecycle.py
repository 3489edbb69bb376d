"""Where hooks are declared, which declaration wins, and what the journal keeps of one.

Annotations are read more strictly than Kubernetes' API server reads a ``Lifecycle`` (unknown fields, repeated keys):
nobody looks at one again once the container exists, so a typing mistake has to be refused while its author is still
there. The schema of a single hook is in ``shim.declaration``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache

from shim.actions import (
    Action,
    Declared,
    ExecAction,
    HttpGetAction,
    Lifecycle,
    LifecycleHandler,
    OnFailure,
    Retry,
    RunAction,
    SleepAction,
    TcpSocketAction,
)
from shim.author import Author
from shim.declaration import UNLIMITED, parse_handler, read_handler
from shim.endpoint import statuses_to_json
from shim.records import CONTAINER, POD, Hook
from shim.strictjson import Place, fields, load, members, printable, quoted

__all__ = [
    "EVERY_CONTAINER",
    "KEY",
    "KUBELET_KEY",
    "MAX_BYTES",
    "MAX_ENTRIES",
    "MAX_KUBELET_BYTES",
    "describe",
    "effective",
    "handler_from_json",
    "parse_container",
    "parse_handler",
    "parse_kubelet",
    "parse_pod",
    "to_json",
]

#: The annotation key, on the container's config and on the pod's.
KEY = "hookshim.dev/lifecycle"
#: The pod's entry for every container that it does not name.
EVERY_CONTAINER = "*"
#: A declaration's size in bytes of UTF-8. Kubernetes allows 256 KiB for all annotations of an object together.
MAX_BYTES = 64 * 1024
#: The most containers that a pod's annotation may name.
MAX_ENTRIES = 256
#: Where a kubelet puts a container's own preStop (kubelet ``kuberuntime/labels.go``).
KUBELET_KEY = "io.kubernetes.container.preStopHandler"
#: The size of that in bytes of UTF-8: a kubelet does not bound it, but reading it takes time from everybody.
MAX_KUBELET_BYTES = 256 * 1024

# What Kubernetes has beside the hooks is refused: to ignore it would be a promise not kept.
_OTHER_HOOKS = {"stopSignal": "which Kubernetes has and hookshim does not carry out"}

#: Declarations that are remembered as they were read: a container's is asked for several times, and those of one
#: workload are all alike. Longer ones, in characters, are read anew each time, so that memory stays bounded.
_REMEMBERED, _LONG = 512, 4096

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def effective(
    container_name: str, container_annotations: Mapping[str, str], pod_annotations: Mapping[str, str]
) -> tuple[Declared, ...]:
    """The hooks of one container, from its own annotation and its pod's: at most one of each, in the order of Hook.

    For each hook by itself, the container's own annotation wins over the pod's entry for its name, and that over
    ``*``: a container that adds a PostStart keeps the PreStop that its pod gives to all, as a container's
    ``securityContext`` overrides its pod's field by field. A hook is taken whole, with its retries and its timeout.
    ``null`` is the same as absent, as everywhere in Kubernetes' API, and takes nothing away.

    Both annotations are read whole: a mistake in an entry for another container raises DeclarationError too.
    """
    own = container_annotations.get(KEY)
    pods = pod_annotations.get(KEY)
    if own is None and pods is None:
        return ()
    short = len(container_name) + len(own or "") + len(pods or "") <= _LONG
    return (_effective if short else _effective.__wrapped__)(container_name, own, pods)


@lru_cache(_REMEMBERED)
def _effective(container_name: str, own: str | None, pods: str | None) -> tuple[Declared, ...]:
    entries = {} if pods is None else parse_pod(pods)
    none = Lifecycle()
    ranked = (
        (CONTAINER, none if own is None else parse_container(own)),
        (POD, entries.get(container_name, none)),
        (POD, entries.get(EVERY_CONTAINER, none)),
    )
    declared: dict[Hook, Declared] = {}
    for source, lifecycle in ranked:
        for hook, handler in _hooks(lifecycle):
            declared.setdefault(hook, Declared(hook, handler, source))
    return tuple(declared[hook] for hook in Hook if hook in declared)


def parse_container(text: str) -> Lifecycle:
    """Read a container's annotation: ``{"postStart": HANDLER, "preStop": HANDLER, "postStop": HANDLER}``.

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
    if len(entries) > MAX_ENTRIES:
        raise place.error(f"at most {MAX_ENTRIES} containers", str(len(entries)))
    for name in entries:
        if name != EVERY_CONTAINER and not _DNS_LABEL.fullmatch(name):
            expected = 'a container\'s name (a DNS label: lower-case letters, digits and "-", at most 63) or "*"'
            raise place.error(expected, f"the key {quoted(name)}")
    return {name: _lifecycle(place.field(name), value) for name, value in entries.items()}


def parse_kubelet(text: str) -> Action:
    """Read the preStop that a kubelet writes at ``KUBELET_KEY``: Go's JSON of a handler.

    Fields that are not known here are a newer kubelet's, and are passed over. Raises DeclarationError, which names
    that annotation.
    """
    place = Place(f"annotation {KUBELET_KEY} of the container")
    return read_handler(place, load(place, text, MAX_KUBELET_BYTES), Hook.PRE_STOP, Author.KUBELET).action


def to_json(handler: LifecycleHandler) -> str:
    """The hook as it is declared, in canonical JSON, the handler first: ``{"exec":{"command":["sync"]}}``.

    Of what is beside the handler, and of ``httpGet``, what has its default is left out, ``path`` excepted. The
    defaults are those of a postStart and a preStop: what a postStop has by default is written.
    """
    body: dict[str, object] = _body(handler.action)
    if handler.timeout is not None:
        body["timeoutSeconds"] = _number(handler.timeout)
    retry = handler.retry
    if retry != Retry():
        body["retry"] = {
            "attempts": UNLIMITED if retry.attempts is None else retry.attempts,
            "backoffSeconds": _number(retry.backoff),
            "maxBackoffSeconds": _number(retry.max_backoff),
        }
    if handler.on_failure is not OnFailure.KILL:
        body["onFailure"] = handler.on_failure
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def handler_from_json(text: str) -> LifecycleHandler:
    """The inverse of ``to_json``. Raises DeclarationError for what is no handler."""
    return (_recorded if len(text) <= _LONG else _recorded.__wrapped__)(text)


@lru_cache(_REMEMBERED)
def _recorded(text: str) -> LifecycleHandler:
    place = Place("the recorded handler")
    # No limit: escapes can make a declaration that was accepted longer than it came.
    return read_handler(place, load(place, text, None), None, Author.JOURNAL)


def describe(action: Action, limit: int = 60) -> str:
    """The handler in one printable line of at most ``limit`` characters, for tables. Names no header."""
    match action:
        case ExecAction(command):
            return f"exec [{printable(' '.join(command), limit - 7)}]"
        case RunAction(command):
            return f"run [{printable(' '.join(command), limit - 6)}]"
        case SleepAction(seconds):
            return printable(f"sleep {seconds} s", limit)
        case TcpSocketAction(port, host):
            return printable(f"tcpSocket {_bracketed(host)}:{port}", limit)
        case HttpGetAction(url=""):
            path = action.path if action.path.startswith("/") else f"/{action.path}"
            return printable(f"httpGet {action.scheme.lower()}://{_bracketed(action.host)}:{action.port}{path}", limit)
        case HttpGetAction(url=url):
            # What follows the path may hold a credential of the node's owner.
            return printable(f"httpGet {url.partition('?')[0]}", limit)


def _lifecycle(place: Place, value: object) -> Lifecycle:
    given = fields(place, value, tuple(Hook), _OTHER_HOOKS)
    hooks = {hook: parse_handler(place.field(hook), given[hook], hook, trusted=False) for hook in Hook if hook in given}
    return Lifecycle(hooks.get(Hook.POST_START), hooks.get(Hook.PRE_STOP), hooks.get(Hook.POST_STOP))


def _hooks(lifecycle: Lifecycle) -> list[tuple[Hook, LifecycleHandler]]:
    handlers = (lifecycle.post_start, lifecycle.pre_stop, lifecycle.post_stop)
    return [(hook, handler) for hook, handler in zip(Hook, handlers, strict=True) if handler is not None]


def _body(action: Action) -> dict[str, object]:
    match action:
        case ExecAction(command):
            return {"exec": {"command": list(command)}}
        case RunAction(command):
            return {"run": {"command": list(command)}}
        case SleepAction(seconds):
            return {"sleep": {"seconds": seconds}}
        case TcpSocketAction(port, host):
            return {"tcpSocket": {"port": port} | ({"host": host} if host else {})}
        case HttpGetAction():
            return {"httpGet": _http_get(action)}


def _http_get(action: HttpGetAction) -> dict[str, object]:
    get: dict[str, object] = {"url": action.url} if action.url else {"path": action.path, "port": action.port}
    if action.host:
        get["host"] = action.host
    if action.scheme != "HTTP":
        get["scheme"] = action.scheme
    if action.headers:
        get["httpHeaders"] = [{"name": name, "value": value} for name, value in action.headers]
    if action.expect_status:
        statuses = statuses_to_json(action.expect_status)
        get["expectStatus"] = statuses[0] if len(statuses) == 1 else statuses
    return get


def _number(seconds: float) -> int | float:
    return int(seconds) if seconds.is_integer() else seconds


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
