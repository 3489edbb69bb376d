"""What a Kubernetes API server says to an Event: every reason to refuse it, in its words as far as they matter.

From kubernetes ``pkg/apis/core/validation/events.go`` and ``staging/src/k8s.io/apiserver/pkg/registry/rest``. Where
events.k8s.io/v1 is stricter than core/v1 (lengths, type, name), so is this: what passes here passes both.
"""

from __future__ import annotations

import re
from typing import Any

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

#: The fields of core/v1 Event, and what each has to be.
_FIELDS: dict[str, type] = {
    "apiVersion": str,
    "kind": str,
    "metadata": dict,
    "involvedObject": dict,
    "reason": str,
    "message": str,
    "source": dict,
    "firstTimestamp": str,
    "lastTimestamp": str,
    "count": int,
    "type": str,
    "reportingComponent": str,
    "reportingInstance": str,
}
_REFERENCE = {"apiVersion", "kind", "namespace", "name", "uid", "fieldPath", "resourceVersion"}
_METADATA = {"name", "namespace", "resourceVersion", "uid", "creationTimestamp", "annotations", "labels"}


def problems(event: dict[str, Any], namespace: str) -> list[str]:
    """Everything that is wrong with an Event posted to ``namespace``."""
    found = [f"{name}: unknown field" for name in event if name not in _FIELDS]
    found += [f"{name}: expected {kind.__name__}" for name, kind in _FIELDS.items() if _wrong(event.get(name), kind)]
    if found:
        return found
    metadata, about = event.get("metadata", {}), event.get("involvedObject")
    if about is None:
        return ["involvedObject: Required value"]
    found += [f"metadata.{name}: unknown field" for name in metadata if name not in _METADATA]
    found += [f"involvedObject.{name}: unknown field" for name in about if name not in _REFERENCE]
    found += [f"source.{name}: unknown field" for name in event.get("source", {}) if name not in {"component", "host"}]
    if (event.get("apiVersion", "v1"), event.get("kind", "Event")) != ("v1", "Event"):
        found.append("the object is no Event of v1")
    found += [f"metadata.name: {name!r} is no RFC 1123 subdomain" for name in _no_subdomain(metadata.get("name", ""))]
    if metadata.get("namespace", namespace) != namespace:
        found.append("metadata.namespace: does not match the namespace of the request")
    found += _about(about, namespace)
    if event.get("type") not in {"Normal", "Warning"}:
        found.append(f"type: has invalid value: {event.get('type')}")
    limits = (("reason", 128), ("message", 1024), ("reportingInstance", 128))
    found += [f"{name}: can have at most {most}" for name, most in limits if len(event.get(name, "").encode()) > most]
    found += [f"{name}: Required value" for name in ("reason", "message", "reportingComponent") if not event.get(name)]
    for name in ("firstTimestamp", "lastTimestamp"):
        if not _TIME.fullmatch(event.get(name, "")):
            found.append(f"{name}: {event.get(name)!r} is no time of RFC 3339")
    if not 1 <= event.get("count", 0) < 1 << 31:
        found.append("count: expected an int32, at least 1")
    return found


def _wrong(value: object, kind: type) -> bool:
    return value is not None and (not isinstance(value, kind) or isinstance(value, bool))


def _about(about: dict[str, Any], namespace: str) -> list[str]:
    found = [f"involvedObject.{name}: Required value" for name in ("kind", "name") if not about.get(name)]
    if (about.get("namespace") or "default") != namespace:
        found.append("involvedObject.namespace: does not match event.namespace")
    if about.get("kind") == "Node" and about.get("namespace"):
        found.append("involvedObject.namespace: not allowed for a node")
    return found


def _no_subdomain(name: str) -> list[str]:
    return [] if len(name) <= 253 and _SUBDOMAIN.fullmatch(name) else [name]
