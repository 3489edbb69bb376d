"""What the daemon asks of its journal costs what is open, not what has ended: no question reads a whole table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shim.changes import InsertOperation, UpdateOperation
from shim.records import OperationState
from shim.store import Store, statements
from tests.unit.records import accepted, delivered, delivery, done, operation

#: What the daemon's own thread asks, at the start, for a call, and to clear up. Who only looks has a connection of his
#: own, and ``deliveries`` and ``events`` are such.
ASKED = {
    "statements.sql": {
        "open_operations",
        "deliveries_of_open_operations",
        "open_operations_of_container",
        "deliveries_of_open_operations_of_container",
        "open_attempts",
        "executions_of_container",
        "deliveries_of_container",
        "expire_node_events",
        "expire_events",
        "expire_attempts",
        "expire_deliveries",
        "expire_operations",
        "expire_container",
        "update_operation",
        "update_delivery",
        "note_execution",
        "end_attempt",
    },
    "unfinished.sql": {"unfinished"},
    "lookup.sql": {"deliveries_that_begin", "operation", "deliveries_of_operation"},
    "outbox.sql": {"events_after", "before_since"},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new journal."""
    with closing(Store.open(tmp_path / "journal.db")) as made:
        yield made


@pytest.mark.parametrize("statement", [f"{file} {name}" for file, names in ASKED.items() for name in sorted(names)])
def test_no_question_of_the_daemons_reads_a_whole_table(store: Store, statement: str) -> None:
    """SQLite's own plan has an index for every table; the one that is read from end to end holds what is open."""
    file, name = statement.split()
    sql = statements(file)[name]
    values = dict.fromkeys(re.findall(r":(\w+)", sql), "")
    plan = [row["detail"] for row in store.rows(f"EXPLAIN QUERY PLAN {sql}", values)]
    scans = {line for line in plan if line.startswith("SCAN")}
    assert scans <= {"SCAN operation USING INDEX operation_unfinished"}, plan


def test_what_is_open_of_one_container_is_told_alone(store: Store) -> None:
    """Its operations with all their deliveries, and nothing of another one's."""
    store.commit([accepted(1), accepted(2)])
    assert store.open_operations("c2") == [operation(2)]
    assert store.deliveries_of_open_operations("c2") == [delivery(operation(2))]
    assert (store.open_operations("c3"), store.deliveries_of_open_operations("c3")) == ([], [])
    store.commit([[UpdateOperation(done(operation(2)), OperationState.ACCEPTED)]])
    assert (store.open_operations("c2"), store.deliveries_of_open_operations("c2")) == ([], [])


def test_open_attempts_are_those_of_open_deliveries(store: Store) -> None:
    """Neither of one that has an outcome, nor of an operation that is done."""
    store.commit([accepted(1), accepted(2), accepted(3)])
    store.commit([[UpdateOperation(done(operation(2)), OperationState.ACCEPTED)]])
    row = delivered(delivery(operation(3)))
    store._db.execute(
        "UPDATE delivery SET state = 'delivered', finished_at = ? WHERE id = ?", (row.finished_at, row.id)
    )
    assert store.open_attempts() == [("d1", 1)]


def test_a_container_goes_with_its_last_operation(store: Store) -> None:
    """Not before: one that has another operation stays, and so does one that nothing of was deleted."""
    early, late, other = operation(1), replace(operation(4), container=operation(1).container), operation(2)
    for one, at in ((early, 10.0), (late, 20.0), (other, 30.0)):
        store.commit([[InsertOperation(replace(done(one), finished_at=at))]])
    assert store.expire(15.0, 500) == 1
    assert containers(store) == ["c1", "c2"]
    assert store.expire(25.0, 500) == 1
    assert containers(store) == ["c2"]
    assert store.expire(25.0, 500) == 0


def containers(store: Store) -> list[str]:
    """The containers that the journal knows."""
    return [row["id"] for row in store.rows("SELECT id FROM container ORDER BY id", {})]


def test_the_containers_of_one_batch_do_not_wait_for_the_last(store: Store) -> None:
    """Every batch leaves the journal as if there were no more."""
    for number in range(1, 6):
        store.commit([[InsertOperation(done(operation(number)))]])
    assert store.expire(3000.0, 2) == 2
    assert len(containers(store)) == 3


def test_what_a_row_cannot_be_is_refused_after_the_journal_was_opened_again(store: Store, tmp_path: Path) -> None:
    """That its rows' constraints are not gone through when it is opened does not lift them."""
    store.commit([accepted(1)])
    with closing(Store.open(tmp_path / "journal.db")) as again:
        [conflict] = again.commit([[InsertOperation(replace(operation(2), timeout=-1))]])
    assert "CHECK constraint failed" in str(conflict)
