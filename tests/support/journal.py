"""The journal's file as a test reads it beside the daemon, and changes it while there is none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from shim.store import FILE
from tests.support.hookshimd import Hookshim


def ask(daemon: Hookshim, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows that a query finds now."""
    with closing(sqlite3.connect(f"file:{daemon.state_dir / FILE}?mode=ro", uri=True, timeout=10)) as journal:
        return journal.execute(statement, values).fetchall()


def open_operations(daemon: Hookshim) -> list[tuple[str, str, str, float | None]]:
    """(kind, reason, state, deadline) of every operation that is not done, oldest first."""
    return ask(daemon, "SELECT kind, reason, state, deadline FROM operation WHERE state <> 'done' ORDER BY created_at")


def change(daemon: Hookshim, statement: str, *values: object) -> int:
    """Change rows of a journal that no daemon has open; how many they were. Raises RuntimeError if one runs."""
    if daemon.running:
        raise RuntimeError(f"pid {daemon.pid} has the journal open")
    with closing(sqlite3.connect(daemon.state_dir / FILE, timeout=10)) as journal, journal:
        return journal.execute(statement, values).rowcount
