"""The journal's events as those read them who tell others: in order, a few at a time, from where they were.

A place is a row's id and the journal that it is of: a damaged journal is replaced by a new one, whose ids begin again.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from shim.records import NODE, ContainerRef, Event
from shim.store import Store, statements

_STATEMENTS = statements("outbox.sql")


@dataclass(frozen=True, slots=True)
class Place:
    """All up to and with row ``id`` is told. ``born`` names the journal (``Store.born``)."""

    born: float
    id: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One event with the id of its row. Ids go up by one; one that is missing was deleted."""

    id: int
    event: Event


@dataclass(frozen=True, slots=True)
class Batch:
    """The ``entries`` after ``place``, oldest first. ``gone``: how many between them are no longer in the journal."""

    place: Place
    entries: tuple[Entry, ...]
    gone: int = 0


def read(store: Store, place: Place | None, since: float, limit: int) -> Batch:
    """At most ``limit`` events after ``place``; without one, those since ``since`` (seconds since the epoch).

    Of another journal than the place's everything is new. One that was put back from a copy ends before the place: then
    it goes on at its end. Raises JournalUnavailableError, JournalCorruptError.
    """
    born = store.born()
    [row] = store.rows(_STATEMENTS["last"], {})
    last = int(row["last"])
    if place is None:
        [row] = store.rows(_STATEMENTS["before_since"], {"since": since})
        begin = last if row["place"] is None else int(row["place"])
    else:
        begin = min(place.id, last) if place.born == born else 0
    rows = store.rows(_STATEMENTS["events_after"], {"place": begin, "limit": limit})
    entries = tuple(_entry(row) for row in rows)
    gone = entries[-1].id - begin - len(entries) if entries else 0
    if not entries:
        # What is missing up to the journal's end was deleted too, and would else be counted with the next event.
        gone, begin = last - begin, last
    return Batch(Place(born, begin), entries, gone)


def _entry(row: sqlite3.Row) -> Entry:
    about = NODE
    if row["container_id"] is not None:
        about = ContainerRef(
            row["container_id"], row["sandbox_id"], row["name"], row["pod"], row["namespace"], row["uid"]
        )
    return Entry(row["event_id"], Event(row["at"], row["reason"], about, row["delivery_id"] or "", row["message"]))
