"""The journal's file as it is read from outside the daemon, whether there is one or not.

It answers also when the daemon is down, which is when the question is most urgent. It never writes: SQLite's own
read-only mode would leave new ``-wal`` and ``-shm`` files behind, so how the file is opened depends on what lies beside
it (sqlite.org/wal.html, "Read-Only Databases").
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

from shim.errors import JournalCorruptError, JournalError, JournalUnavailableError
from shim.store import FILE, VERSION, Store

T = TypeVar("T")

#: How often a read is begun again because a daemon started or ended under it.
_TRIES: Final = 5

#: Seconds to wait for a daemon that holds the journal's lock (it does while it recovers the file).
_BUSY: Final = 5.0


def ask(path: Path, question: Callable[[Store], T]) -> T | None:
    """What ``question`` gets from the journal at ``path``; None if there is none, or nothing was ever written to it.

    It is asked of one state of the journal, and may be asked again if that changed hands meanwhile. Raises
    JournalError.
    """
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
