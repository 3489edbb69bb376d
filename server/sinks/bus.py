"""Failed hooks on containerd's own event bus, where a node without Kubernetes has its listeners: ``ctr events``.

It runs in the daemon. containerd is asked once at a time, with a deadline, and nobody waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage

from server.config import Config
from server.native.caller import NAMESPACE, Caller
from server.sinks.courier import Courier, NotNowError, RefusedError
from server.sinks.cursor import CursorFile
from server.sinks.source import Ask, OwnJournal
from server.wire.containerd.services.events.v1 import events_pb2 as pb
from shim.errors import RuntimeCallError
from shim.outbox import Entry
from shim.records import Event

_NAME: Final = "containerd"

_PUBLISH: Final = "/containerd.services.events.v1.Events/Publish"

#: Seconds for one event.
_TIMEOUT: Final = 5.0

#: ``ctr events`` prints the types that it knows, and complains about others. Of those this one says what it is (the
#: media type), has room for everything, and means nothing to anybody who listens for containerd's own.
_TYPE: Final = "containerd.types.Descriptor"
MEDIA_TYPE: Final = "application/vnd.hookshim.event.v1"

#: What containerd says of an event that it will never take; all else may pass.
_FINAL: Final = frozenset({"INVALID_ARGUMENT", "UNIMPLEMENTED", "PERMISSION_DENIED", "OUT_OF_RANGE"})


class Bus:
    """containerd's event bus as a receiver."""

    name = _NAME

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def take(self, entry: Entry, memory: Mapping[str, Any]) -> Mapping[str, Any]:
        """As in Receiver. It was published, also if nobody has listened."""
        # Never without an event: that crashes containerd 1.6.
        request = pb.PublishRequest(topic=topic(entry.event.reason), event=_any(entry))
        try:
            await self._caller.call(_PUBLISH, request.SerializeToString(), NAMESPACE, _TIMEOUT)
        except RuntimeCallError as error:
            said = f"containerd does not take an event: {error.code}: {error}"
            if error.code in _FINAL:
                raise RefusedError(error.code, said) from error
            raise NotNowError(said) from error
        return memory


def topic(reason: str) -> str:
    """``/hookshim/failed-pre-stop-hook`` for FailedPreStopHook.

    One component, as containerd wants it (``pkg/identifiers``), and none of the CRI plugin's, which takes ``/images/``.
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", reason)
    return "/hookshim/" + ("-".join(words).lower()[:76].rstrip("-") or "event")


def fields(entry: Entry) -> dict[str, str]:
    """What is told of an event, with the names that ``hookshim events --json`` has, and its number in the journal."""
    event = entry.event
    told = {
        "number": str(entry.id),
        "at": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "type": "Warning",
        "reason": event.reason,
        "message": event.message,
    }
    return told | _whose(event) if event.delivery_id else told


def _whose(event: Event) -> dict[str, str]:
    whose = event.container
    return {
        "delivery_id": event.delivery_id,
        "namespace": whose.namespace,
        "pod": whose.pod,
        "uid": whose.uid,
        "container": whose.name,
        "container_id": whose.id,
        "sandbox_id": whose.sandbox_id,
        "field_path": event.field_path,
    }


def _any(entry: Entry) -> AnyMessage:
    descriptor = pb.Descriptor(media_type=MEDIA_TYPE, annotations=fields(entry))
    return AnyMessage(type_url=_TYPE, value=descriptor.SerializeToString(deterministic=True))


def bus_sink(config: Config, caller: Caller, ask_journal: Ask) -> Courier:
    """The sink of ``[events] containerd``, whose ``run`` the daemon has as a task and cancels at its end."""
    return Courier(Bus(caller), OwnJournal(ask_journal), CursorFile(config.state_dir, _NAME))
