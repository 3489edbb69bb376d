"""The journal's file: SQLite, and the SQL that guards its states a second time.

Synchronous and single-threaded; ``shim.journal`` puts it on its writer thread.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog

from shim.changes import (
    BeginAttempt,
    Change,
    EndAttempt,
    InsertDelivery,
    InsertEvent,
    InsertOperation,
    NoteExecution,
    UpdateDelivery,
    UpdateOperation,
)
from shim.errors import JournalConflictError, JournalCorruptError, JournalError, JournalUnavailableError
from shim.records import AttemptRecord, Delivery, Event, Execution, Operation, Outcome
from shim.rows import about, delivery_row, event_row, fields, operation_row, to_delivery, to_operation

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: The file's name in the state directory.
FILE = "journal.db"

#: The schema's version in PRAGMA user_version; one migration_N.sql leads to each.
VERSION = 4

_SQL = resources.files("shim") / "sql"


def statements(file: str) -> dict[str, str]:
    """The statements of a file of ``shim/sql``, each by the name that stands over it: ``-- name: NAME``."""
    parts = re.split(r"^-- name: (\w+)\n", (_SQL / file).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


_STATEMENTS = statements("statements.sql")


class Store:
    """An open journal file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._db.row_factory = sqlite3.Row
        # A byte that went bad on the disk spoils the one text that it is in, and not the whole answer.
        self._db.text_factory = lambda raw: raw.decode(errors="replace")

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create the journal at ``path`` for writing, check it, and bring its schema up to date.

        WAL with synchronous=FULL: a commit that returned survives the machine. Raises JournalCorruptError,
        JournalUnavailableError if it cannot be written now, JournalError for one of a newer version.
        """
        try:
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        except sqlite3.Error as error:
            raise JournalUnavailableError(f"journal {path} cannot be opened: {error}") from error
        store = cls(db)
        try:
            store._prepare(path)
        except sqlite3.Error as error:
            db.close()
            raise _problem(f"journal {path}", error) from error
        except JournalError:
            db.close()
            raise
        return store

    def _prepare(self, path: Path) -> None:
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = OFF"):
            self._db.execute(f"PRAGMA {pragma}")
        # The constraints of all rows that have ended would be most of the check; those of an open one are seen to when
        # it is read, and of any when it is written.
        self._db.execute("PRAGMA ignore_check_constraints = ON")
        [check] = self._db.execute("PRAGMA quick_check(1)").fetchone()
        self._db.execute("PRAGMA ignore_check_constraints = OFF")
        if check != "ok":
            raise JournalCorruptError(f"journal {path} is damaged: {check}")
        self._migrate(path)
        # Not before: a migration may have to drop a table that others refer to.
        self._db.execute("PRAGMA foreign_keys = ON")

    def _migrate(self, path: Path) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise JournalError(
                f"journal {path} has version {version}, newer than this hookshim's {VERSION}: "
                "run the newer hookshim, or move the journal away to begin a new one"
            )
        for number in range(version + 1, VERSION + 1):
            script = (_SQL / f"migration_{number}.sql").read_text()
            self._db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")

    def close(self) -> None:
        """Close the file; the WAL is folded into it by the last connection."""
        self._db.close()

    def commit(self, groups: Sequence[Sequence[Change]]) -> list[JournalConflictError | None]:
        """Apply each group whole or not at all, all of them in one transaction with one fsync.

        A group that finds a record in another state than it expects is left out, with its error at its place in the
        answer; the others stand. Raises JournalUnavailableError or JournalCorruptError: then nothing was written.
        """
        results: list[JournalConflictError | None] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for group in groups:
                self._db.execute("SAVEPOINT one")
                try:
                    for change in group:
                        self._apply(change)
                except (sqlite3.IntegrityError, JournalConflictError, ValueError, OverflowError) as error:
                    self._db.execute("ROLLBACK TO one")
                    results.append(JournalConflictError(str(error)))
                else:
                    results.append(None)
                self._db.execute("RELEASE one")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise _problem("the journal", error) from error
        finally:
            # Whatever went wrong, the next transaction begins outside of this one.
            with suppress(sqlite3.Error):
                self._db.rollback()
        return results

    def expire(self, before: float, limit: int) -> int:
        """Delete at most ``limit`` operations that were done before ``before``, with all that belongs to them.

        Returns how many they were. Raises what ``commit`` raises.
        """
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                values = {"before": before, "limit": limit}
                for name in ("expire_node_events", "expire_events", "expire_attempts", "expire_deliveries"):
                    self._run(name, values)
                expired = self._run("expire_operations", values).fetchall()
                self._db.executemany(_STATEMENTS["expire_container"], map(dict, expired))
        except sqlite3.Error as error:
            raise _problem("the journal", error) from error
        return len(expired)

    def _apply(self, change: Change) -> None:
        match change:
            case InsertOperation(operation):
                self._run("insert_container", fields(operation.container))
                self._run("insert_operation", operation_row(operation))
            case UpdateOperation(operation, expected):
                self._update("update_operation", operation_row(operation), expected, f"operation {operation.id}")
            case InsertDelivery(delivery):
                self._run("insert_delivery", delivery_row(delivery))
            case UpdateDelivery(delivery, expected):
                self._update("update_delivery", delivery_row(delivery), expected, f"delivery {delivery.id}")
            case BeginAttempt(delivery_id, number, at, execution):
                self._run("begin_attempt", {"delivery_id": delivery_id, "number": number, "at": at})
                self._note(delivery_id, number, execution)
            case NoteExecution(delivery_id, number, execution):
                self._note(delivery_id, number, execution)
            case EndAttempt(delivery_id, number, at, outcome):
                values = {"delivery_id": delivery_id, "number": number, "at": at}
                self._run("end_attempt", fields(outcome) | values)
            case InsertEvent(event):
                self._run("insert_event", event_row(event))

    def _note(self, delivery_id: str, number: int, execution: Execution | None) -> None:
        if execution is not None:
            self._run("note_execution", fields(execution) | {"delivery_id": delivery_id, "number": number})

    def _run(self, name: str, values: dict[str, Any]) -> sqlite3.Cursor:
        return self._db.execute(_STATEMENTS[name], values)

    def rows(self, sql: str, values: Mapping[str, Any]) -> list[sqlite3.Row]:
        """Every row of a question of somebody else's. Raises JournalUnavailableError and JournalCorruptError."""
        try:
            return self._db.execute(sql, dict(values)).fetchall()
        except sqlite3.Error as error:
            raise _problem("the journal", error) from error

    def _rows(self, name: str, values: Mapping[str, Any]) -> list[sqlite3.Row]:
        return self.rows(_STATEMENTS[name], values)

    def _of(self, name: str, container_id: str | None) -> list[sqlite3.Row]:
        which = name if container_id is None else f"{name}_of_container"
        return self._rows(which, {"container_id": container_id})

    def _update(self, name: str, values: dict[str, Any], expected: str, what: str) -> None:
        if self._run(name, values | {"expected": expected}).rowcount != 1:
            raise JournalConflictError(f"{what} is not {expected} in the journal; wanted {values['state']}")

    def born(self) -> float:
        """When this journal was begun, in seconds since the epoch."""
        return float(self._rows("born", {})[0]["born"])

    def open_operations(self, container_id: str | None = None) -> list[Operation]:
        """Every operation that is not done, or of one container, oldest first."""
        return _read(to_operation, self._of("open_operations", container_id))

    def deliveries_of_open_operations(self, container_id: str | None = None) -> list[Delivery]:
        """Every delivery, open or not, of an operation that is not done, or of one container."""
        return _read(to_delivery, self._of("deliveries_of_open_operations", container_id))

    def open_attempts(self) -> list[tuple[str, int]]:
        """Of every open delivery, its id and the number of its current attempt."""
        return [(row["id"], row["attempts"]) for row in self._rows("open_attempts", {})]

    def deliveries_of(self, container_id: str) -> list[Delivery]:
        """All that was ever recorded for one container, oldest first."""
        return [to_delivery(row) for row in self._rows("deliveries_of_container", {"container_id": container_id})]

    def executions_of(self, container_id: str) -> list[Operation]:
        """The kubelet's own runs of a container's preStop, oldest first."""
        return [to_operation(row) for row in self._rows("executions_of_container", {"container_id": container_id})]

    def deliveries(self) -> list[Delivery]:
        """All deliveries, oldest first."""
        return [to_delivery(row) for row in self._rows("deliveries", {})]

    def attempts_of(self, delivery_id: str) -> list[AttemptRecord]:
        """Every attempt of one delivery, the first one first."""
        return [
            AttemptRecord(
                row["number"],
                row["began_at"],
                row["ended_at"],
                Outcome(row["error"], row["exit_status"], row["http_status"], row["output"]),
            )
            for row in self._rows("attempts_of_delivery", {"delivery_id": delivery_id})
        ]

    def events(self) -> list[Event]:
        """All events, oldest first."""
        return [
            Event(row["at"], row["reason"], about(row), row["delivery_id"] or "", row["message"])
            for row in self._rows("events", {})
        ]


def _read(read: Callable[[sqlite3.Row], T], rows: Sequence[sqlite3.Row]) -> list[T]:
    """All rows that can be read: one that cannot is reported and left, and keeps nothing else from going on."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except (ValueError, TypeError) as error:
            log.error("a row of the journal cannot be read and is left", id=row["id"], error=str(error))
    return found


def set_aside(path: Path, suffix: str) -> Path:
    """Rename a damaged journal and what belongs to it, so that a new one can be begun; returns its new name.

    Nothing is deleted. Raises OSError.
    """
    for companion in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + companion).rename(path.with_name(f"{path.name}.{suffix}{companion}"))
    return path.rename(path.with_name(f"{path.name}.{suffix}"))


def _problem(what: str, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return JournalCorruptError(f"{what} is damaged: {error}")
    return JournalUnavailableError(f"{what} cannot be used: {error}")
