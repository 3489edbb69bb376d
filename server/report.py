"""What the journal holds, read from its file, and as JSON for programs; ``server.tables`` is for people.

What a handler has said is in none of it: that is shown for one delivery alone (``server.show``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server.log import printable
from server.reading import ask
from shim import query
from shim.errors import JournalError
from shim.query import Filter, Story
from shim.records import Delivery, Event
from shim.store import FILE

_EVERYTHING = Filter()


def deliveries(state_dir: Path, wanted: Filter = _EVERYTHING) -> list[Delivery] | None:
    """The deliveries that are wanted, oldest first; None if there is no journal. Raises JournalError."""
    return ask(state_dir / FILE, lambda store: query.deliveries(store, wanted))


def events(state_dir: Path, wanted: Filter = _EVERYTHING) -> list[Event] | None:
    """The events that are wanted, oldest first; None if there is no journal. Raises JournalError."""
    told = ask(state_dir / FILE, lambda store: query.events(store, wanted))
    return None if told is None else list(told.events)


def story(state_dir: Path, key: str) -> Story:
    """One delivery, by its id or the beginning of it. Raises JournalError if there is none, or more than one."""
    path = state_dir / FILE
    why = "there is no delivery"
    try:
        if (found := ask(path, lambda store: query.story(store, key))) is not None:
            return found
    except query.NotOneError as error:
        why = str(error)
    raise JournalError(f"{why} {printable(key)} in {path}; `hookshim deliveries` lists them")


def nothing(state_dir: Path, what: str, *, journal: bool, wanted: Filter = _EVERYTHING) -> str:
    """The line for a person who asked and gets nothing: ``what`` is "deliveries" or "events"."""
    path = state_dir / FILE
    if not journal:
        return f"no {what}: there is no journal at {path} (no daemon has used this state directory; see --state-dir)"
    if wanted != Filter(limit=wanted.limit):
        return f"no such {what} in {path}"
    return f"no {what} yet in {path}"


def set_aside(state_dir: Path) -> list[Path]:
    """The journals that were found damaged and renamed, oldest first."""
    found = sorted(state_dir.glob(f"{FILE}.corrupt-*"))
    return [path for path in found if not path.name.endswith(("-wal", "-shm"))]


def damaged(state_dir: Path) -> list[str]:
    """A line for each journal that was found damaged and set aside; what it held is not in the tables."""
    return [
        f"note: a damaged journal was set aside as {path}; what it held is not shown here"
        for path in set_aside(state_dir)
    ]


def delivery_object(record: Delivery) -> dict[str, Any]:
    """A delivery as JSON has it. Times are RFC 3339 in UTC or null; handler output is not in it."""
    return {
        "id": record.id,
        "container_id": record.container.id,
        "container": record.container.name,
        "sandbox_id": record.container.sandbox_id,
        "pod": record.container.pod,
        "namespace": record.container.namespace,
        "uid": record.container.uid,
        "hook": record.hook,
        "position": record.position,
        "handler": kind_of(record.handler),
        "source": record.source,
        "state": record.state,
        "attempts": record.attempts,
        "created_at": utc(record.created_at),
        "next_attempt_at": utc(record.next_attempt_at),
        "finished_at": utc(record.finished_at),
        "exit_status": record.outcome.exit_status,
        "http_status": record.outcome.http_status,
        "error": record.outcome.error,
    }


def event_object(record: Event) -> dict[str, Any]:
    """An event as JSON has it, with the names that Kubernetes' Event has where it has one."""
    return {
        "at": utc(record.at),
        "type": "Warning",
        "reason": record.reason,
        "namespace": record.container.namespace,
        "pod": record.container.pod,
        "uid": record.container.uid,
        "container": record.container.name,
        "container_id": record.container.id,
        "field_path": record.field_path,
        "delivery_id": record.delivery_id,
        "message": record.message,
    }


def deliveries_json(records: Sequence[Delivery]) -> str:
    """A JSON array, one object a delivery."""
    return json.dumps([delivery_object(record) for record in records], indent=2)


def events_json(records: Sequence[Event]) -> str:
    """A JSON array, one object an event."""
    return json.dumps([event_object(record) for record in records], indent=2)


def kind_of(handler: str) -> str:
    """``exec`` or ``httpGet``; the declaration's own text (a header may hold a password) stays in the journal."""
    try:
        return str(next(iter(json.loads(handler))))
    except (ValueError, TypeError, StopIteration):
        return "malformed"


def local(at: float) -> str:
    """Month, day and time of this machine's zone."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%m-%d %H:%M:%S")


def utc(at: float | None) -> str | None:
    """RFC 3339 in UTC, milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
