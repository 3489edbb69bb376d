"""The bench reads a journal beside the daemon: it sees every commit, and counts what was delivered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shim.store import FILE
from tests.support.bench.journal import Commits, delivered


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A writer's connection to a file like the journal's."""
    with closing(sqlite3.connect(tmp_path / FILE)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE delivery (state TEXT)")
        made.commit()
        yield made


def test_a_commit_is_seen(journal: sqlite3.Connection, tmp_path: Path) -> None:
    """One row is enough, and one more commit is enough again."""
    with Commits(tmp_path) as commits:
        assert not commits.changed()
        journal.execute("INSERT INTO delivery VALUES ('pending')")
        assert not commits.changed()
        journal.commit()
        assert commits.changed()


def test_reading_is_no_commit(journal: sqlite3.Connection, tmp_path: Path) -> None:
    """Whoever only looks, the daemon included, has changed nothing."""
    with Commits(tmp_path) as commits:
        assert journal.execute("SELECT count(*) FROM delivery").fetchone() == (0,)
        assert delivered(tmp_path) == 0
        assert not commits.changed()


def test_only_what_was_delivered_counts(journal: sqlite3.Connection, tmp_path: Path) -> None:
    """A delivery that failed or is under way is none."""
    journal.executemany("INSERT INTO delivery VALUES (?)", [("delivered",), ("failed",), ("delivered",), ("pending",)])
    journal.commit()
    assert delivered(tmp_path) == 2
