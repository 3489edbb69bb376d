"""A hookshim's journal as a reader sees it: what was delivered, and whether anything was committed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Self

from shim.store import FILE


class Commits:
    """Tells whether anybody has committed to the journal since it was opened here. A context manager."""

    def __init__(self, state_dir: Path) -> None:
        self._connection = _open(state_dir)
        self._before = self._version()

    def changed(self) -> bool:
        """Whether there was a commit (SQLite's ``data_version``, which another connection's commit changes)."""
        return self._version() != self._before

    def __enter__(self) -> Self:
        """Nothing to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._connection.close()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def delivered(state_dir: Path) -> int:
    """How many deliveries have been made."""
    with closing(_open(state_dir)) as journal:
        return int(journal.execute("SELECT count(*) FROM delivery WHERE state = 'delivered'").fetchone()[0])


def _open(state_dir: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{state_dir / FILE}?mode=ro", uri=True, timeout=10)
