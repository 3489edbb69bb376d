"""Records as a journal holds them, for the tests of what keeps and moves them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from shim.changes import Change, InsertDelivery, InsertOperation
from shim.records import (
    ContainerRef,
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)

REF = ContainerRef("c1", "s1", "main", "web", "default", "uid-1")


def operation(number: int = 1, **fields: Any) -> Operation:
    """An accepted stop of a container of its own."""
    made = Operation(
        id=f"op{number}",
        kind=OperationKind.STOP,
        reason=Reason.STOP_CONTAINER,
        container=replace(REF, id=f"c{number}"),
        state=OperationState.ACCEPTED,
        timeout=30,
        deadline=1234.5,
        boot_id="boot",
        created_at=1000.25,
    )
    return replace(made, **fields)


def delivery(of: Operation, **fields: Any) -> Delivery:
    """Its PreStop, being delivered; of a start, its PostStart, armed."""
    starts = of.kind is OperationKind.START
    made = Delivery(
        id=of.id.replace("op", "d"),
        operation_id=of.id,
        container=of.container,
        hook=Hook.POST_START if starts else Hook.PRE_STOP,
        position=0,
        handler='{"exec": {"command": ["/hook"]}}',
        state=DeliveryState.ARMED if starts else DeliveryState.DELIVERING,
        created_at=1000.25,
        attempts=0 if starts else 1,
    )
    return replace(made, **fields)


def accepted(number: int) -> tuple[Change, ...]:
    """What a commit that accepts a stop is made of."""
    stop = operation(number)
    return InsertOperation(stop), InsertDelivery(delivery(stop))


def done(of: Operation) -> Operation:
    """The operation at its end."""
    return replace(of, state=OperationState.DONE, finished_at=2000.5)


def delivered(of: Delivery) -> Delivery:
    """The delivery at a good end."""
    outcome = Outcome(exit_status=0, output=b"\xff\x00out")
    return replace(of, state=DeliveryState.DELIVERED, finished_at=2000.5, outcome=outcome)


def write_version_1(path: Path) -> None:
    """A journal as version 1 has left it: a forwarded stop whose hook has failed, with its event."""
    script = (resources.files("shim") / "sql" / "migration_1.sql").read_text()
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.executescript(f"PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; {script}; PRAGMA user_version = 1;")
        file.execute("INSERT INTO container VALUES ('c1', 's1', 'main', 'web', 'default', 'uid-1')")
        file.execute(
            "INSERT INTO operation VALUES "
            "('op1', 'stop', 'StopContainer', 'c1', 'forwarded', 30, 1.5, 'boot', 1.0, NULL, '')"
        )
        file.execute(
            "INSERT INTO delivery VALUES "
            "('d1', 'op1', 'c1', 'preStop', 0, ?, 'failed', 1, 0, 'it failed', 1, NULL, x'00', 1.0, 2.0)",
            ('{"exec":{"command":["a"]}}',),
        )
        file.execute("INSERT INTO event VALUES (1, 2.0, 'Warning', 'FailedPreStopHook', 'c1', 'd1', 'told')")


def write_version_2(path: Path) -> None:
    """A journal as version 2 has left it: what it has taken over from version 1, and a postStop that has failed."""
    write_version_1(path)
    script = (resources.files("shim") / "sql" / "migration_2.sql").read_text()
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.executescript(f"BEGIN; {script}; PRAGMA user_version = 2; COMMIT;")
        file.execute(
            "INSERT INTO operation VALUES ('op2', 'end', 'Ended', 'c1', 'done', 0, NULL, 'boot', 2.0, 9.0, '', ?)",
            ('{"started": true, "exit_code": 3, "reason": "Error", "finished_at": 4.0, "started_at": 1.0}',),
        )
        file.execute(
            "INSERT INTO delivery VALUES ('d2', 'op2', 'c1', 'postStop', 0, ?, 'rule tell', 'failed', 2, 1, NULL, "
            "'no answer', NULL, 503, x'00', 2.0, 9.0)",
            ('{"httpGet":{"path":"/","port":80}}',),
        )
        file.executemany(
            "INSERT INTO attempt (delivery_id, number, began_at, ended_at, error) VALUES ('d2', ?, ?, ?, 'no answer')",
            [(1, 4.0, None), (2, 8.0, 9.0)],
        )
        file.execute("INSERT INTO event VALUES (2, 9.0, 'Warning', 'FailedPostStopHook', 'c1', 'd2', 'told')")
