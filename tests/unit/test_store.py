"""The journal's file refuses what must not be in it, whoever writes, and applies a change whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shim import moves
from shim.changes import (
    Change,
    InsertDelivery,
    InsertEvent,
    InsertOperation,
    NoteExecution,
    UpdateDelivery,
    UpdateOperation,
)
from shim.errors import JournalConflictError, JournalCorruptError, JournalError, JournalUnavailableError
from shim.records import (
    CONTAINER,
    DeliveryState,
    Event,
    Execution,
    Hook,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
    Stage,
)
from shim.rows import delivery_row, operation_row
from shim.store import VERSION, Store, set_aside
from tests.unit.records import REF, accepted, delivered, delivery, done, operation, write_version_1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal will be."""
    return tmp_path / "journal.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A new journal."""
    with closing(Store.open(path)) as made:
        yield made


STOP = operation()
START = operation(kind=OperationKind.START, reason=Reason.START_CONTAINER)
PRE_STOP = delivery(STOP)


def test_what_is_written_is_read_again(store: Store) -> None:
    """Every field of every record, with bytes that are no text."""
    stop, hook = done(STOP), replace(delivered(PRE_STOP), interruptions=1, attempts=3)
    failed = replace(delivery(operation(2)), state=DeliveryState.FAILED, finished_at=1.5, outcome=Outcome("no", 3, 500))
    event = Event(1.5, "FailedPreStopHook", failed.container, failed.id, "no (attempt 1)")
    groups: list[list[Change]] = [
        [InsertOperation(STOP), InsertDelivery(PRE_STOP)],
        [UpdateOperation(stop, STOP.state), UpdateDelivery(hook, PRE_STOP.state)],
        [InsertOperation(operation(2)), InsertDelivery(failed), InsertEvent(event)],
    ]
    assert store.commit(groups) == [None, None, None]
    assert store.deliveries() == [hook, failed]
    assert store.deliveries_of("c1") == [hook]
    assert store.open_operations() == [operation(2)]
    assert store.deliveries_of_open_operations() == [failed]
    assert store.events() == [event]


def test_how_far_a_process_may_be_is_there_with_its_attempt(store: Store) -> None:
    """A daemon that is killed right after the attempt's beginning is followed by one that looks for the process."""
    starting, ran = Execution(Stage.STARTING), Execution(Stage.EXITED, 7, 70, 3)
    at_once = replace(PRE_STOP, execution=starting)
    store.commit([[InsertOperation(STOP), *moves.inserted(at_once)]])
    assert store.deliveries_of("c1") == [at_once]
    later = delivery(operation(2), state=DeliveryState.PENDING, attempts=0)
    store.commit([[InsertOperation(operation(2)), InsertDelivery(later)]])
    sent, changes = moves.sent(2.0, later, starting)
    store.commit([changes])
    assert store.deliveries_of("c2") == [sent] == [replace(sent, execution=starting)]
    store.commit([[NoteExecution(sent.id, sent.attempts, ran)]])
    assert store.deliveries_of("c2") == [replace(sent, execution=ran)]
    again, changes = moves.sent(3.0, replace(sent, execution=ran))
    store.commit([changes])
    assert store.deliveries_of("c2") == [again] == [replace(again, execution=None)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": None},
        {"kind": "pause"},
        {"reason": "Whim"},
        {"reason": "StartContainer"},
        {"kind": "start"},
        {"container_id": "nobody"},
        {"state": "open"},
        {"timeout": -1},
        {"timeout": "soon"},
        {"boot_id": None},
        {"created_at": None},
        {"state": "done"},
        {"finished_at": 1.0},
        {"kind": "start", "reason": "StartContainer", "state": "hooks_done"},
        {"kind": "end", "reason": "Ended", "forwarded_at": 1.0},
    ],
    ids=str,
)
def test_an_operation_that_cannot_be_is_refused(store: Store, wrong: dict[str, Any]) -> None:
    """By the file's own CHECKs, which no bug gets past."""
    store.commit([[InsertOperation(operation(2))]])
    row = operation_row(replace(STOP, container=operation(2).container, state=OperationState.ACCEPTED))
    store.commit([[UpdateOperation(done(operation(2)), OperationState.ACCEPTED)]])
    with pytest.raises(sqlite3.IntegrityError):
        store._run("insert_operation", row | wrong)
    store._run("insert_operation", row)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"operation_id": "nobody"},
        {"container_id": "nobody"},
        {"hook": "preStart"},
        {"position": -1},
        {"handler": None},
        {"state": "lost"},
        {"attempts": -1},
        {"interruptions": -1},
        {"interruptions": 2},
        {"output": "text"},
        {"attempts_before": -1, "retried_at": 1.0},
        {"attempts_before": 2, "retried_at": 1.0},
        {"attempts_before": 1},
        {"attempts_before": None},
        {"error": None},
        {"finished_at": 1.0},
        {"attempts": 0},
        {"state": "armed", "attempts": 0},
        {"state": "armed", "hook": "postStart"},
        {"state": "delivered"},
        {"state": "delivered", "finished_at": 1.0, "error": "no"},
        {"state": "delivered", "finished_at": 1.0, "attempts": 0},
        {"state": "exited", "finished_at": 1.0, "attempts": 0},
        *({"state": str(state)} for state in DeliveryState if not state.open),
        *({"state": state, "finished_at": 1.0} for state in ("armed", "pending", "delivering")),
    ],
    ids=str,
)
def test_a_delivery_that_cannot_be_is_refused(store: Store, wrong: dict[str, Any]) -> None:
    """By the file's own CHECKs, which no bug gets past."""
    store.commit([[InsertOperation(STOP)]])
    row = delivery_row(PRE_STOP)
    with pytest.raises(sqlite3.IntegrityError):
        store._run("insert_delivery", row | wrong)
    store._run("insert_delivery", row)


def test_a_container_has_one_open_operation_of_each_kind(store: Store) -> None:
    """A second stop is refused while the first is open, a start beside it is not."""
    start = replace(START, id="start")
    assert store.commit([[InsertOperation(STOP)], [InsertOperation(start)]]) == [None, None]
    [again] = store.commit([[InsertOperation(replace(STOP, id="again"))]])
    assert "UNIQUE" in str(again)
    later: list[list[Change]] = [
        [UpdateOperation(done(STOP), STOP.state)],
        [InsertOperation(replace(STOP, id="again"))],
    ]
    assert store.commit(later) == [None, None]


def test_a_hook_of_a_container_has_one_record(store: Store) -> None:
    """Void and skipped ones aside: after them it can be due again."""
    store.commit([[InsertOperation(STOP), InsertDelivery(PRE_STOP)]])
    [again] = store.commit([[InsertDelivery(replace(PRE_STOP, id="again"))]])
    assert "UNIQUE" in str(again)
    others = [replace(PRE_STOP, id="other", hook=Hook.POST_START), replace(PRE_STOP, id="second", position=1)]
    assert store.commit([[InsertDelivery(other)] for other in others]) == [None, None]
    skipped = replace(PRE_STOP, state=DeliveryState.SKIPPED, finished_at=1.0)
    store._db.execute("DELETE FROM delivery")
    groups = [[InsertDelivery(replace(skipped, id=name))] for name in ("a", "b")]
    assert store.commit([*groups, [InsertDelivery(PRE_STOP)]]) == [None, None, None]


def test_a_change_that_finds_another_state_applies_nothing_of_its_group(store: Store) -> None:
    """What comes before it in the group is taken back; the other groups of the transaction stand."""
    store.commit([accepted(1)])
    wrong = (
        UpdateDelivery(delivered(PRE_STOP), DeliveryState.DELIVERING),
        InsertOperation(operation(9)),
        UpdateOperation(done(STOP), OperationState.FORWARDED),
    )
    first, conflict, last = store.commit([accepted(2), wrong, accepted(3)])
    assert (first, last) == (None, None)
    assert isinstance(conflict, JournalConflictError)
    assert str(conflict) == "operation op1 is not forwarded in the journal; wanted done"
    assert [each.id for each in store.open_operations()] == ["op1", "op2", "op3"]
    assert store.deliveries_of("c1") == [PRE_STOP]


def test_a_change_of_a_record_that_is_not_there_is_a_conflict(store: Store) -> None:
    """It names the record and what was wanted."""
    [conflict] = store.commit([[UpdateDelivery(delivered(PRE_STOP), DeliveryState.DELIVERING)]])
    assert str(conflict) == "delivery d1 is not delivering in the journal; wanted delivered"


def test_a_container_is_kept_once(store: Store) -> None:
    """Its operations share its row."""
    store.commit([[InsertOperation(STOP)], [InsertOperation(replace(START, id="start"))]])
    assert store._db.execute("SELECT id FROM container").fetchall() != []
    [count] = store._db.execute("SELECT count(*) FROM container").fetchone()
    assert count == 1


def test_a_new_file_is_brought_to_the_version_of_today(path: Path) -> None:
    """WAL, full synchronisation, foreign keys; opening it again changes nothing."""
    with closing(Store.open(path)) as made:
        made.commit([accepted(1)])
        values = [made._db.execute(f"PRAGMA {name}").fetchone()[0] for name in PRAGMAS]
    assert values == [VERSION, "wal", 2, 1]
    with closing(Store.open(path)) as again:
        assert again.open_operations() == [STOP]


PRAGMAS = ("user_version", "journal_mode", "synchronous", "foreign_keys")


def test_an_unfinished_migration_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The schema and its version are one transaction."""
    scripts = tmp_path / "sql"
    scripts.mkdir()
    (scripts / "migration_1.sql").write_text("CREATE TABLE one (id TEXT); CREATE TABLE one (id TEXT);")
    monkeypatch.setattr("shim.store._SQL", scripts)
    with pytest.raises(JournalError, match="table one already exists"):
        Store.open(path)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert file.execute("PRAGMA user_version").fetchone() == (0,)


def test_a_journal_of_version_1_keeps_what_it_holds(path: Path) -> None:
    """Rows, their order and what guards them; what version 1 did not know has its default."""
    write_version_1(path)
    with closing(Store.open(path)) as store:
        [delivery] = store.deliveries()
        assert (delivery.id, delivery.source, delivery.next_attempt_at, delivery.execution) == (
            "d1",
            CONTAINER,
            None,
            None,
        )
        assert (delivery.state, delivery.outcome.error) == (DeliveryState.FAILED, "it failed")
        [operation] = store.open_operations()
        assert (operation.id, operation.state, operation.timeout) == ("op1", OperationState.FORWARDED, 30)
        [event] = store.events()
        assert (event.delivery_id, event.message) == ("d1", "told")
        assert store._db.execute("PRAGMA foreign_key_check").fetchall() == []
        [conflict] = store.commit([[InsertDelivery(replace(delivery, id="d2"))]])
        assert conflict is not None
        [unknown] = store.commit([[InsertDelivery(replace(delivery, id="d2", operation_id="nobody's", position=1))]])
        assert unknown is not None


def test_a_journal_of_a_newer_version_is_refused(path: Path) -> None:
    """It is left as it is, and the message says what to do."""
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=f"has version {VERSION + 1}, newer than .* run the newer hookshim, or move"):
        Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_journal_is_damaged(path: Path, content: bytes) -> None:
    """And it can be set aside, with nothing deleted."""
    path.write_bytes(content)
    with pytest.raises(JournalCorruptError, match="is damaged: "):
        Store.open(path)
    place = set_aside(path, "corrupt-1")
    assert place == path.with_name("journal.db.corrupt-1")
    assert place.read_bytes() == content
    Store.open(path).close()


def test_a_reader_beside_the_writer_sees_what_is_committed_and_writes_nothing(path: Path, store: Store) -> None:
    """For the command line, beside a running daemon."""
    store.commit([accepted(1)])
    with closing(Store(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None))) as reader:
        assert reader.deliveries() == [PRE_STOP]
        store.commit([accepted(2)])
        assert len(reader.deliveries()) == 2
        with pytest.raises(JournalUnavailableError, match="readonly"):
            reader.commit([accepted(3)])


def test_what_is_kept_long_enough_is_deleted_and_nothing_else(store: Store) -> None:
    """Operations done before the moment, with their deliveries, events and containers; never an open one."""
    store.commit([accepted(number) for number in (1, 2, 3)])
    for number, at in ((1, 10.0), (2, 20.0)):
        ended = replace(done(operation(number)), finished_at=at)
        hook = delivery(operation(number))
        event = Event(at, "FailedPreStopHook", hook.container, hook.id, "no")
        failed = replace(hook, state=DeliveryState.FAILED, finished_at=at, outcome=Outcome("no"))
        changes = (UpdateDelivery(failed, hook.state), UpdateOperation(ended, OperationState.ACCEPTED))
        assert store.commit([[*changes, InsertEvent(event)]]) == [None]
    assert store.expire(20.0, 500) == 1
    assert [each.id for each in store.deliveries()] == ["d2", "d3"]
    assert [each.delivery_id for each in store.events()] == ["d2"]
    assert [row["id"] for row in store._db.execute("SELECT id FROM container ORDER BY id")] == ["c2", "c3"]
    assert store.expire(1e9, 500) == 1
    assert [each.id for each in store.open_operations()] == ["op3"]


def test_the_container_that_the_records_are_of_is_whole(store: Store) -> None:
    """Name, pod, namespace, uid and sandbox come back with every record."""
    store.commit([accepted(1)])
    assert store.deliveries()[0].container == replace(REF, id="c1")
    assert store.open_operations()[0].container == replace(REF, id="c1")
