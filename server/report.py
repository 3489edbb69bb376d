"""What the journal holds, for the node's owner: as a table to read, or as JSON to work with.

It reads the journal's file itself, so that it answers also when the daemon is down, which is when the question is most
urgent. It never writes: SQLite's own read-only mode would leave new ``-wal`` and ``-shm`` files behind, so how the file
is opened depends on what lies beside it (sqlite.org/wal.html, "Read-Only Databases").
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from server.log import printable
from shim.errors import JournalCorruptError, JournalError, JournalUnavailableError
from shim.records import NODE, AttemptRecord, Delivery, DeliveryState, Event
from shim.store import FILE, VERSION, Store

T = TypeVar("T")

#: How often a read is begun again because a daemon started or ended under it.
_TRIES: Final = 5

#: Seconds to wait for a daemon that holds the journal's lock (it does while it recovers the file).
_BUSY: Final = 5.0

_MINUTE: Final = 60

#: The narrowest column, in characters, that an error text is still readable in.
_TEXT_WIDTH: Final = 20

#: Characters of an id (``shim.ports``, Clock.new_id): with it a line of the narrow form stays below 80.
_ID_WIDTH: Final = 32

#: Wider than any table, in characters.
_UNBOUNDED: Final = 1 << 20

_STYLES: Final = {
    DeliveryState.DELIVERED: "green",
    DeliveryState.FAILED: "red",
    DeliveryState.MISSED: "red",
    DeliveryState.ARMED: "yellow",
    DeliveryState.PENDING: "yellow",
    DeliveryState.DELIVERING: "yellow",
}


def deliveries(state_dir: Path) -> list[Delivery] | None:
    """All deliveries, oldest first; None if there is no journal. Raises JournalError."""
    return _ask(state_dir / FILE, Store.deliveries)


def delivery(state_dir: Path, key: str) -> tuple[Delivery, list[AttemptRecord]]:
    """One delivery, by its id or the beginning of it, with its attempts. Raises JournalError if it is not there."""
    path = state_dir / FILE

    def find(store: Store) -> list[tuple[Delivery, list[AttemptRecord]]]:
        found = [record for record in store.deliveries() if record.id.startswith(key)]
        return [(record, store.attempts_of(record.id)) for record in found[:2]]

    found = _ask(path, find) or []
    if len(found) != 1:
        many = "more than one delivery begins with" if found else "there is no delivery"
        raise JournalError(f"{many} {printable(key)} in {path}; `hookshim deliveries` lists them")
    return found[0]


def events(state_dir: Path) -> list[Event] | None:
    """All events, oldest first; None if there is no journal. Raises JournalError."""
    return _ask(state_dir / FILE, Store.events)


def nothing(state_dir: Path, what: str, *, journal: bool) -> str:
    """The line for a person who asked and gets nothing: ``what`` is "deliveries" or "events"."""
    path = state_dir / FILE
    if journal:
        return f"no {what} yet in {path}"
    return f"no {what}: there is no journal at {path} (no daemon has used this state directory; see --state-dir)"


def damaged(state_dir: Path) -> list[str]:
    """A line for each journal that was found damaged and set aside; what it held is not in the tables."""
    return [
        f"note: a damaged journal was set aside as {path}; what it held is not shown here"
        for path in sorted(state_dir.glob(f"{FILE}.corrupt-*"))
        if not path.name.endswith(("-wal", "-shm"))
    ]


def deliveries_json(records: Sequence[Delivery]) -> str:
    """A JSON array, one object a delivery. Times are RFC 3339 in UTC or null; handler output is not in it."""
    return json.dumps(
        [
            {
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
            for record in records
        ],
        indent=2,
    )


def events_json(records: Sequence[Event]) -> str:
    """A JSON array, one object an event, with the names that Kubernetes' Event has where it has one."""
    return json.dumps(
        [
            {
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
            for record in records
        ],
        indent=2,
    )


def print_deliveries(console: Console, records: Sequence[Delivery]) -> None:
    """Print a line for each where the console is wide enough, else a few lines for each. Ids are never cut."""
    wide = _table("id", "pod", "container", "hook", "handler", "state", "tries", "created", "took", folding="error")
    narrow: list[RenderableType] = [_head("id", "hook", "handler", "state", "took", style="bold")]
    for record in records:
        pod, name = f"{record.container.namespace}/{record.container.pod}", record.container.name
        kind, state, took = kind_of(record.handler), record.state, _took(record)
        tries, created, error = str(record.attempts), local(record.created_at), record.outcome.error
        style = _STYLES.get(record.state, "")
        cells = (record.id, pod, name, record.hook, kind, state, tries, created, took, error)
        wide.add_row(*(_text(cell, style if cell is state else "") for cell in cells))
        narrow += [
            _head(record.id, record.hook, kind, state, took, style=style),
            _indented(f"{pod} {name}, {created}, {tries} {'try' if record.attempts == 1 else 'tries'}"),
            *([_indented(error)] if error else []),
        ]
    _print(console, wide, narrow)


def print_events(console: Console, records: Sequence[Event]) -> None:
    """Print a line for each where the console is wide enough, else a few lines for each."""
    wide = _table("at", "reason", "pod", "container", folding="message")
    narrow: list[RenderableType] = []
    for record in records:
        pod, name = f"{record.container.namespace}/{record.container.pod}", record.container.name
        if record.container == NODE:
            pod = "the node"
        at = local(record.at)
        wide.add_row(*map(_text, (at, record.reason, pod, name, record.message)))
        narrow += [_text(f"{at}  {record.reason}"), _indented(f"{pod} {name}"), _indented(record.message)]
    _print(console, wide, narrow)


def _ask(path: Path, question: Callable[[Store], T]) -> T | None:
    """Ask a journal that may have a daemon or not; None if there is none, or nothing was ever written to it."""
    for _ in range(_TRIES):
        before = _signature(path)
        if before is None:
            return None
        try:
            answer = _ask_once(path, question)
        except (OSError, sqlite3.Error, JournalCorruptError, JournalUnavailableError) as error:
            if before == _signature(path):
                raise JournalError(f"the journal {path} cannot be read: {error}") from error
            continue
        # A daemon's own locks make the answer one state of the journal; without one, that nothing has changed.
        if _live(path) or before == _signature(path):
            return answer
    raise JournalError(f"the journal {path} kept changing hands while it was read: try again")


def _ask_once(path: Path, question: Callable[[Store], T]) -> T | None:
    uri = path.absolute().as_uri()
    wal = _beside(path, "-wal")
    if not wal.exists():
        # The daemon ended in peace: all is in the one file, and nobody writes to it.
        return _query(f"{uri}?mode=ro&immutable=1", question, path)
    if _live(path):
        # A daemon runs, or was killed; with readonly_shm SQLite reads what it left without taking part in it.
        return _query(f"{uri}?mode=ro&readonly_shm=1", question, path)
    # Only a copy has this shape, or a daemon in its first moment. SQLite cannot read it in place without writing.
    with tempfile.TemporaryDirectory(prefix="hookshim-") as scratch:
        copy = Path(scratch) / FILE
        shutil.copyfile(path, copy)
        shutil.copyfile(wal, _beside(copy, "-wal"))
        return _query(copy.as_uri(), question, path)


def _query(uri: str, question: Callable[[Store], T], path: Path) -> T | None:
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise JournalError(f"the journal {path} has version {version}, this hookshim reads up to {VERSION}")
        if version == VERSION:
            return question(Store(db))
        # Version 0 is a file whose first migration was cut off.
        return _brought_up(db, question) if version else None


def _brought_up(db: sqlite3.Connection, question: Callable[[Store], T]) -> T:
    """Ask a copy of an older version's journal: bringing the journal itself up to date is its daemon's to do."""
    with tempfile.TemporaryDirectory(prefix="hookshim-") as scratch:
        copy = Path(scratch) / FILE
        with closing(sqlite3.connect(copy)) as target:
            db.backup(target)
        with closing(Store.open(copy)) as store:
            return question(store)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _live(path: Path) -> bool:
    return _beside(path, "-wal").exists() and _beside(path, "-shm").exists()


def _signature(path: Path) -> tuple[tuple[int, int, int] | None, ...] | None:
    """What changes when the journal's files do; None if there is no journal. Raises JournalError."""
    found: list[tuple[int, int, int] | None] = []
    for file in (path, _beside(path, "-wal")):
        try:
            status = file.stat()
        except FileNotFoundError:
            found.append(None)
        except OSError as error:
            hint = "; the state directory is its owner's alone" if isinstance(error, PermissionError) else ""
            raise JournalError(f"the journal {file} cannot be read: {error.strerror}{hint}") from error
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found) if found[0] else None


def _table(*columns: str, folding: str) -> Table:
    """A table whose columns are as wide as what is in them, but for the last, which folds."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    table.add_column(folding, overflow="fold", min_width=_TEXT_WIDTH)
    return table


def _print(console: Console, wide: Table, narrow: Sequence[RenderableType]) -> None:
    # Measured without the console's own bound, which would make everything fit.
    unbounded = console.options.update(width=_UNBOUNDED)
    fits = console.measure(wide, options=unbounded).minimum <= console.width
    console.print(*([wide] if fits else narrow), sep="\n")


def _head(key: str, hook: str, kind: str, state: str, took: str, *, style: str) -> Text:
    return _text(f"{key:<{_ID_WIDTH}}  {hook:<9}  {kind:<9}  {state:<10}  {took}", style)


def _indented(text: str) -> Padding:
    return Padding(_text(text), (0, 0, 0, 4))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style, overflow="fold")


def kind_of(handler: str) -> str:
    """``exec`` or ``httpGet``; the declaration's own text (a header may hold a password) stays in the journal."""
    try:
        return str(next(iter(json.loads(handler))))
    except (ValueError, TypeError, StopIteration):
        return "malformed"


def _took(record: Delivery) -> str:
    if record.finished_at is None:
        return ""
    seconds = max(0.0, record.finished_at - record.created_at)
    return f"{seconds:.1f} s" if seconds < _MINUTE else str(timedelta(seconds=round(seconds)))


def local(at: float) -> str:
    """Month, day and time of this machine's zone."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%m-%d %H:%M:%S")


def utc(at: float | None) -> str | None:
    """RFC 3339 in UTC, milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
