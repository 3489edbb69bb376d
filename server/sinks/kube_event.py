"""An Event as the Kubernetes API takes it (core/v1), made from one of the journal's. Pure.

What it is about, what it is called and how it is worded are as a kubelet's (client-go ``tools/record/event.go``), so
that ``kubectl describe pod`` shows both alike.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from server.sinks.correlation import Draft, Posting
from shim.outbox import Entry
from shim.records import NODE, Event

#: ``source.component`` and ``reportingComponent``.
COMPONENT: Final = "hookshim"

#: Bytes (kubernetes ``pkg/apis/core/validation/events.go``, NoteLengthLimit; ReportingInstanceLengthLimit).
MESSAGE_LIMIT, INSTANCE_LIMIT = 1024, 128

#: RFC 1123 subdomains (apimachinery ``validation.IsDNS1123Subdomain``), at most this many characters.
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_LIMIT: Final = 253

#: Between the beginning of a message that is too long, and so many bytes of its end.
_ELLIPSIS, _TAIL = "…", 128


@dataclass(frozen=True, slots=True)
class Drafted:
    """A journal's event on its way: where it goes, what it is about, and what ``correlation`` works with."""

    namespace: str
    about: dict[str, str]
    reason: str
    draft: Draft


def draft(entry: Entry, node: str) -> Drafted:
    """The event of an entry; ``node`` is the node's name in Kubernetes."""
    event = entry.event
    about = involved(event, node)
    # A repeated hook has another delivery each time, which is shown, and makes it no other event.
    text = event.message.replace(f", delivery {event.delivery_id}", "") if event.delivery_id else event.message
    identity = "/".join(about.get(key, "") for key in ("kind", "namespace", "name", "uid", "apiVersion"))
    return Drafted(
        namespace=about.get("namespace", "default"),
        about=about,
        reason=event.reason,
        draft=Draft(
            name=_name(about["name"], entry),
            about=f"{node}/{identity}",
            part=about.get("fieldPath", ""),
            reason=event.reason,
            text=text,
            message=event.message,
            at=event.at,
        ),
    )


def involved(event: Event, node: str) -> dict[str, str]:
    """The ObjectReference: the container's pod, or the node.

    The uid is the one that the kubelet gives the runtime. A static pod's is the hash of its manifest, and ``kubectl
    describe pod`` looks for just that (the mirror pod's annotation ``kubernetes.io/config.mirror``). A node's is its
    name, as in a kubelet's own events. CRI does not tell init and ephemeral containers from the others.
    """
    if event.container == NODE:
        return {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node}
    pod = event.container
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.pod, "uid": pod.uid}
    return about | {"fieldPath": event.field_path}


def created(event: Drafted, posting: Posting, node: str) -> dict[str, Any]:
    """The whole Event, for a POST."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": posting.name, "namespace": event.namespace},
        "involvedObject": event.about,
        "reason": event.reason,
        "type": "Warning",
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node[:INSTANCE_LIMIT],
        "firstTimestamp": _time(posting.first),
        **counted(posting),
    }


def counted(posting: Posting) -> dict[str, Any]:
    """What changes when it is counted up, for a PATCH: absolute, so that a repeated one changes nothing."""
    return {"count": posting.count, "lastTimestamp": _time(posting.last), "message": bounded(posting.message)}


def bounded(message: str) -> str:
    """At most MESSAGE_LIMIT bytes: its beginning and its end, which names attempt and delivery."""
    data = message.encode(errors="replace")
    if len(data) <= MESSAGE_LIMIT:
        return data.decode()
    tail = data[-_TAIL:].decode(errors="ignore")
    head = data[: MESSAGE_LIMIT - len((_ELLIPSIS + tail).encode())].decode(errors="ignore")
    return head + _ELLIPSIS + tail


def _name(of: str, entry: Entry) -> str:
    """As client-go's (``util.GenerateEventName``), but from the row alone: told twice, it has one name.

    The time in nanoseconds has digits to spare for the row's id.
    """
    name = f"{of}.{int(entry.event.at * 1_000_000) * 1000 + entry.id % 1000:x}"
    if len(name) <= _NAME_LIMIT and _SUBDOMAIN.fullmatch(name):
        return name
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _time(at: float) -> str:
    """RFC 3339 in UTC, whole seconds (metav1.Time)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
