"""A journal of any earlier version opens, keeps all that it holds, and can be asked without being touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from server.reading import ask
from shim.lookup import find
from shim.moves import reopened, withdrawn
from shim.records import DeliveryState, OperationState
from shim.store import FILE, VERSION, Store
from tests.unit.records import write_version_1, write_version_2

VERSIONS: list[Callable[[Path], None]] = [write_version_1, write_version_2]

#: What a row of each table is known by.
KEYS = {"container": "id", "operation": "id", "delivery": "id", "event": "id", "attempt": "delivery_id, number"}


def rows(path: Path) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables that there are."""
    with closing(sqlite3.connect(path)) as file:
        file.row_factory = sqlite3.Row
        there = {row["name"] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            table: [dict(row) for row in file.execute(f"SELECT * FROM {table} ORDER BY {key}")]
            for table, key in KEYS.items()
            if table in there
        }


@pytest.mark.parametrize("write", VERSIONS, ids=["version 1", "version 2"])
def test_an_earlier_version_is_brought_up_and_keeps_every_field_of_every_row(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """What it did not know is empty; nothing refers to what is not there."""
    path = tmp_path / FILE
    write(path)
    before = rows(path)
    with closing(Store.open(path)) as store:
        assert store._db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert store._db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert store._db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        for delivery in store.deliveries():
            assert (delivery.retried_at, delivery.attempts_before) == (None, 0)
        assert [operation.forwarded_at for operation in store.open_operations()] == [None]
    after = rows(path)
    for table, kept in before.items():
        assert [{name: row[name] for name in old} for old, row in zip(kept, after[table], strict=True)] == kept


@pytest.mark.parametrize("write", VERSIONS, ids=["version 1", "version 2"])
def test_an_earlier_version_is_read_without_being_changed(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Its own daemon may still be running, or be wanted back."""
    path = tmp_path / FILE
    write(path)
    before = rows(path)
    found = ask(path, Store.deliveries)
    assert found is not None
    assert [one.state for one in found] == [DeliveryState.FAILED] * len(before["delivery"])
    assert rows(path) == before


def test_what_an_earlier_version_left_failed_can_be_sent_again(tmp_path: Path) -> None:
    """Its operation is open once more; a second one at the same time is a conflict."""
    path = tmp_path / FILE
    write_version_2(path)
    with closing(Store.open(path)) as store:
        found = find(store, "d2")
        operation, delivery, changes = reopened(20.0, "boot2", found.operation, found.delivery)
        assert store.commit([changes]) == [None]
        again = find(store, "d2")
        assert (again.operation, again.delivery) == (operation, replace(delivery, execution=again.delivery.execution))
        assert (delivery.state, delivery.attempts, delivery.tries) == (DeliveryState.PENDING, 2, 0)
        assert (operation.state, operation.ending) == (OperationState.FORWARDED, found.operation.ending)
        assert [one.id for one in store.open_operations()] == ["op1", "op2"]
        [conflict] = store.commit([changes])
        assert conflict is not None
        assert "is not done in the journal" in str(conflict)


def test_what_its_owner_takes_back_is_closed(tmp_path: Path) -> None:
    """With its reason, and what it had come to before."""
    path = tmp_path / FILE
    write_version_2(path)
    with closing(Store.open(path)) as store:
        found = find(store, "d2")
        operation, delivery, changes = reopened(20.0, "boot2", found.operation, found.delivery)
        taken_back, more = withdrawn(21.0, delivery, "skipped by the owner: no")
        assert store.commit([[*changes, *more]]) == [None]
        assert find(store, "d2").delivery == taken_back
        assert (taken_back.state, taken_back.finished_at) == (DeliveryState.SKIPPED, 21.0)
        assert (taken_back.attempts, taken_back.next_attempt_at) == (2, None)
        assert operation.finished_at is None
