"""What the status page asks of the journal: bounded questions, and what handlers said only for who may see it.

Nothing here grows with the journal but the search itself: every answer has at most as many rows as a page shows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from shim.records import (
    NODE,
    AttemptRecord,
    ContainerRef,
    Delivery,
    DeliveryState,
    Event,
    Operation,
    Outcome,
)
from shim.rows import to_delivery, to_operation
from shim.store import Store, statements

T = TypeVar("T")

log = structlog.get_logger(__name__)

_STATEMENTS: Final = statements("timeline.sql")

#: The most operations and deliveries of one container that are shown, and the most events.
MOST: Final = 50

#: The most attempts of one delivery: the newest, where a page is about it or its container, and beside many others.
MOST_ATTEMPTS, FEW_ATTEMPTS = 200, 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which containers a page shows: those with a delivery that is all of this.

    ``text`` is part of a pod's, namespace's or container's name, of an id or of NAMESPACE/POD; empty is any, as are no
    ``states`` and no ``hook``.
    """

    text: str = ""
    states: tuple[DeliveryState, ...] = ()
    hook: str = ""
    limit: int = 20
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """One container: its operations and deliveries, oldest first, and the attempts by their delivery's id."""

    container: ContainerRef
    operations: tuple[Operation, ...]
    deliveries: tuple[Delivery, ...]
    attempts: Mapping[str, tuple[AttemptRecord, ...]]

    def deliveries_of(self, operation: Operation) -> list[Delivery]:
        """Those that belong to one operation, in the order in which they run."""
        found = [one for one in self.deliveries if one.operation_id == operation.id]
        return sorted(found, key=lambda one: (one.created_at, one.position))


@dataclass(frozen=True, slots=True)
class Overview:
    """A page of containers. ``counts`` are of the whole journal, ``total`` is how many containers were wanted."""

    counts: Mapping[DeliveryState, int]
    tracks: tuple[Track, ...]
    total: int
    node_events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Detail:
    """One container in full; the newest events first."""

    track: Track
    events: tuple[Event, ...]


def overview(store: Store, wanted: Wanted) -> Overview:
    """The containers that are wanted, those that need somebody first. Output is not in it."""
    pattern = "".join("\\" + letter if letter in "\\%_" else letter for letter in wanted.text)
    values = {
        "hook": wanted.hook,
        "states": json.dumps(wanted.states),
        "pattern": f"%{pattern}%" if pattern else "",
        "limit": wanted.limit,
        "offset": wanted.offset,
    }
    found = _rows(store, "containers", values)
    ids = [str(row["id"]) for row in found]
    tracks = _tracks(store, ids, FEW_ATTEMPTS, output=False)
    node = [Event(row["at"], row["reason"], NODE, "", row["message"]) for row in _rows(store, "node_events", limit=5)]
    return Overview(
        counts=dict(_read(lambda row: (DeliveryState(row["state"]), int(row["number"])), _rows(store, "counts"))),
        tracks=tuple(tracks[one] for one in ids if one in tracks),
        total=found[0]["total"] if found else 0,
        node_events=tuple(node),
    )


def container(store: Store, container_id: str, *, output: bool) -> Detail | None:
    """One container by its whole id; None if the journal does not know it. ``output``: with what handlers said."""
    tracks = _tracks(store, [container_id], MOST_ATTEMPTS, output=output)
    if container_id not in tracks:
        return None
    rows = _rows(store, "events", container_id=container_id, limit=MOST)
    events = (Event(row["at"], row["reason"], _ref(row), row["delivery_id"], row["message"]) for row in rows)
    return Detail(tracks[container_id], tuple(events))


def delivery(store: Store, delivery_id: str, *, output: bool) -> Detail | None:
    """The container of one delivery, by the delivery's whole id; else as ``container``."""
    rows = _rows(store, "container_of", delivery_id=delivery_id)
    return container(store, rows[0]["container_id"], output=output) if rows else None


def _tracks(store: Store, ids: Sequence[str], attempts: int, *, output: bool) -> dict[str, Track]:
    within = {"containers": json.dumps(ids), "limit": MOST}
    refs = _read(_ref, _rows(store, "refs", containers=within["containers"]))
    operations = _read(to_operation, _rows(store, "operations", within))
    deliveries = _read(to_delivery, _rows(store, "deliveries", within))
    values = {"deliveries": json.dumps([one.id for one in deliveries]), "limit": attempts, "output": output}
    tried = [(str(row["delivery_id"]), _attempt(row)) for row in _rows(store, "attempts", values)]
    return {
        ref.id: Track(
            container=ref,
            operations=tuple(one for one in operations if one.container.id == ref.id),
            deliveries=(mine := tuple(one for one in deliveries if one.container.id == ref.id)),
            attempts={
                one.id: tuple(sorted((a for owner, a in tried if owner == one.id), key=lambda a: a.number))
                for one in mine
            },
        )
        for ref in refs
    }


def _rows(store: Store, name: str, values: Mapping[str, Any] | None = None, **more: object) -> list[sqlite3.Row]:
    return store.rows(_STATEMENTS[name], {**(values or {}), **more})


def _read(read: Callable[[sqlite3.Row], T], rows: Sequence[sqlite3.Row]) -> list[T]:
    """All rows that can be read: one that a bad disk has spoiled keeps no other from being shown."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except (ValueError, TypeError) as error:
            log.warning("a row of the journal cannot be read and is not shown", error=str(error))
    return found


def _ref(row: sqlite3.Row) -> ContainerRef:
    return ContainerRef(row["container_id"], row["sandbox_id"], row["name"], row["pod"], row["namespace"], row["uid"])


def _attempt(row: sqlite3.Row) -> AttemptRecord:
    outcome = Outcome(row["error"], row["exit_status"], row["http_status"], row["output"])
    return AttemptRecord(row["number"], row["began_at"], row["ended_at"], outcome)
