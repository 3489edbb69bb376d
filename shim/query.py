"""What the node's owner asks of the journal: the deliveries and events that he means, and one of them in full.

The choice is made in SQL, so that a journal of many days costs no more than what is wanted of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from shim.errors import HookshimError
from shim.records import (
    NODE,
    AttemptRecord,
    ContainerRef,
    Delivery,
    DeliveryState,
    Event,
    Hook,
    Operation,
)
from shim.rows import to_delivery, to_operation
from shim.store import Store, statements

#: The fewest characters of a container's id that stand for it: what is shorter is a name.
SHORTEST_ID = 6

#: What tells one state of a delivery from another, without reading all of it.
Mark = tuple[str, int, float | None, float | None, float | None]

#: No bound, as SQLite's LIMIT has it.
_ALL = -1

_SQL = statements("queries.sql")


class NotOneError(HookshimError):
    """The beginning of an id is nobody's, or more than one's; the message is followed by what was asked for."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries, or events of which deliveries: those that meet all that is given.

    ``container`` is a name, or at least SHORTEST_ID characters of an id's beginning. ``states`` empty: any. ``since``:
    begun or ended since then, in seconds since the epoch. ``limit``: only the newest so many.
    """

    pod: str | None = None
    namespace: str | None = None
    container: str | None = None
    hook: Hook | None = None
    states: frozenset[DeliveryState] = frozenset()
    since: float | None = None
    limit: int | None = None

    def values(self) -> dict[str, Any]:
        """What the statements are asked with."""
        return {
            "pod": self.pod,
            "namespace": self.namespace,
            "container": self.container,
            "hook": self.hook,
            "states": json.dumps(sorted(self.states)) if self.states else None,
            "since": self.since,
            "limit": _ALL if self.limit is None else self.limit,
            "shortest": SHORTEST_ID,
        }


@dataclass(frozen=True, slots=True)
class Story:
    """One delivery in full, with what its handler said."""

    delivery: Delivery
    operation: Operation
    attempts: tuple[AttemptRecord, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """Events, oldest first, and how far they go: ``born`` says in which journal, ``newest`` up to which number."""

    events: tuple[Event, ...]
    born: float
    newest: int


def deliveries(store: Store, wanted: Filter) -> list[Delivery]:
    """Those that are wanted, oldest first, without output."""
    return [to_delivery(row) for row in reversed(store.rows(_SQL["deliveries"], wanted.values()))]


def deliveries_by_id(store: Store, ids: Collection[str]) -> list[Delivery]:
    """Those with these ids, oldest first, without output."""
    rows = store.rows(_SQL["deliveries_by_id"], {"ids": json.dumps(sorted(ids))})
    return [to_delivery(row) for row in reversed(rows)]


def marks(store: Store, wanted: Filter, also: Collection[str] = ()) -> dict[str, Mark]:
    """The marks of all that are wanted, whatever the limit, and of those with an id of ``also``; by id."""
    rows = store.rows(_SQL["marks"], wanted.values() | {"also": json.dumps(sorted(also))})
    return {
        row["id"]: (row["state"], row["attempts"], row["next_attempt_at"], row["finished_at"], row["retried_at"])
        for row in rows
    }


def mark(delivery: Delivery) -> Mark:
    """What is another after each step of a delivery that is shown."""
    return (
        delivery.state.value,
        delivery.attempts,
        delivery.next_attempt_at,
        delivery.finished_at,
        delivery.retried_at,
    )


def events(store: Store, wanted: Filter, before: Told | None = None) -> Told:
    """Those that are wanted; only what has come after ``before``, unless that was another journal."""
    born = store.born()
    after = before.newest if before is not None and before.born == born else 0
    # First the end and then what lies before it: between two questions a daemon may write.
    newest = store.rows(_SQL["newest_event"], {})[0]["newest"]
    rows = store.rows(_SQL["events"], wanted.values() | {"after": after, "newest": newest})
    return Told(tuple(_event(row) for row in reversed(rows)), born, max(after, newest))


def story(store: Store, key: str) -> Story:
    """The delivery with the id ``key``, or the only one whose id begins so. Raises NotOneError."""
    found = [to_delivery(row) for row in store.rows(_SQL["deliveries_that_begin"], {"key": key})]
    if len(found) > 1 and found[0].id != key:
        raise NotOneError("more than one delivery begins with")
    if not found:
        raise NotOneError("there is no delivery")
    delivery = found[0]
    [row] = store.rows(_SQL["operation"], {"id": delivery.operation_id})
    told = store.rows(_SQL["events_of_delivery"], {"delivery_id": delivery.id})
    return Story(delivery, to_operation(row), tuple(store.attempts_of(delivery.id)), tuple(_event(row) for row in told))


def delivery_ids(store: Store, key: str, limit: int) -> list[tuple[str, str]]:
    """Ids that begin with ``key``, the newest first, each with a few words about it."""
    rows = store.rows(_SQL["delivery_ids"], {"key": key, "limit": limit})
    return [(row["id"], f"{row['hook']}, {row['state']}") for row in rows]


def container_ids(store: Store, key: str, limit: int) -> list[tuple[str, str]]:
    """Ids of containers that begin with ``key``, the newest first, each with a few words about it."""
    rows = store.rows(_SQL["container_ids"], {"key": key, "limit": limit})
    return [(row["id"], f"{row['name']} in {row['pod']}") for row in rows]


def oldest_open(store: Store) -> tuple[str, DeliveryState, float, float | None] | None:
    """The oldest that is due and has no outcome: id, state, since when it is there, when it is tried again."""
    for row in store.rows(_SQL["oldest_open"], {}):
        return row["id"], DeliveryState(row["state"]), row["created_at"], row["next_attempt_at"]
    return None


def newest_time(store: Store) -> float:
    """The latest time that anything was written down with, in seconds since the epoch."""
    return float(store.rows(_SQL["newest_time"], {})[0]["newest"])


def start_handlers(store: Store, limit: int) -> list[str]:
    """Declarations of PostStart hooks that were due, each once, as JSON."""
    return [row["handler"] for row in store.rows(_SQL["start_handlers"], {"limit": limit})]


def damage(store: Store) -> str:
    """What SQLite finds wrong with the file; empty if nothing."""
    [found] = store.rows(_SQL["check"], {})[0]
    return "" if found == "ok" else str(found)


def file_of(store: Store) -> str:
    """The path of the file that is read: a copy's, where the journal itself cannot be."""
    return str(store.rows(_SQL["where"], {})[0]["file"])


def _event(row: sqlite3.Row) -> Event:
    about = NODE
    if row["container_id"] is not None:
        about = ContainerRef(
            row["container_id"], row["sandbox_id"], row["name"], row["pod"], row["namespace"], row["uid"]
        )
    return Event(row["at"], row["reason"], about, row["delivery_id"] or "", row["message"])
