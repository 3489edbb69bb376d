"""Rows of the journal's file as records, and records as rows: every field, each way, in one place."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from typing import Any

from shim.records import (
    NODE,
    ContainerRef,
    Delivery,
    DeliveryState,
    Ending,
    Event,
    Execution,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
    Stage,
)


def fields(record: ContainerRef | Execution | Outcome) -> dict[str, Any]:
    """A record's fields by their names."""
    # Unlike dataclasses.asdict, which copies every value and takes longer than SQLite does.
    return {name: getattr(record, name) for name in record.__slots__}


def operation_row(operation: Operation) -> dict[str, Any]:
    """What ``insert_operation`` and ``update_operation`` are run with."""
    return {
        "id": operation.id,
        "kind": operation.kind,
        "reason": operation.reason,
        "container_id": operation.container.id,
        "state": operation.state,
        "timeout": operation.timeout,
        "deadline": operation.deadline,
        "boot_id": operation.boot_id,
        "created_at": operation.created_at,
        "forwarded_at": operation.forwarded_at,
        "finished_at": operation.finished_at,
        "error": operation.error,
        "ending": None if operation.ending is None else json.dumps(asdict(operation.ending)),
    }


def delivery_row(delivery: Delivery) -> dict[str, Any]:
    """What ``insert_delivery`` and ``update_delivery`` are run with."""
    return {
        "id": delivery.id,
        "operation_id": delivery.operation_id,
        "container_id": delivery.container.id,
        "hook": delivery.hook,
        "position": delivery.position,
        "handler": delivery.handler,
        "source": delivery.source,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "interruptions": delivery.interruptions,
        "next_attempt_at": delivery.next_attempt_at,
        "error": delivery.outcome.error,
        "exit_status": delivery.outcome.exit_status,
        "http_status": delivery.outcome.http_status,
        "output": delivery.outcome.output,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
        "retried_at": delivery.retried_at,
        "attempts_before": delivery.attempts_before,
    }


def event_row(event: Event) -> dict[str, Any]:
    """What ``insert_event`` is run with."""
    return {
        "at": event.at,
        "reason": event.reason,
        "container_id": event.container.id or None,
        "delivery_id": event.delivery_id or None,
        "message": event.message,
    }


def _container(row: sqlite3.Row) -> ContainerRef:
    return ContainerRef(row["container_id"], row["sandbox_id"], row["name"], row["pod"], row["namespace"], row["uid"])


def about(row: sqlite3.Row) -> ContainerRef:
    """Whom a row of an event is about."""
    return NODE if row["container_id"] is None else _container(row)


def to_operation(row: sqlite3.Row) -> Operation:
    """A row of an operation with its container's."""
    return Operation(
        id=row["id"],
        kind=OperationKind(row["kind"]),
        reason=Reason(row["reason"]),
        container=_container(row),
        state=OperationState(row["state"]),
        timeout=row["timeout"],
        deadline=row["deadline"],
        boot_id=row["boot_id"],
        created_at=row["created_at"],
        forwarded_at=row["forwarded_at"],
        finished_at=row["finished_at"],
        error=row["error"],
        ending=None if row["ending"] is None else Ending(**json.loads(row["ending"])),
    )


def to_delivery(row: sqlite3.Row) -> Delivery:
    """A row of ``delivery_read``."""
    return Delivery(
        id=row["id"],
        operation_id=row["operation_id"],
        container=_container(row),
        hook=Hook(row["hook"]),
        position=row["position"],
        handler=row["handler"],
        state=DeliveryState(row["state"]),
        created_at=row["created_at"],
        attempts=row["attempts"],
        interruptions=row["interruptions"],
        finished_at=row["finished_at"],
        outcome=Outcome(row["error"], row["exit_status"], row["http_status"], row["output"]),
        source=row["source"],
        next_attempt_at=row["next_attempt_at"],
        retried_at=row["retried_at"],
        attempts_before=row["attempts_before"],
        execution=_execution(row) if row["stage"] is not None else None,
    )


def _execution(row: sqlite3.Row) -> Execution:
    return Execution(Stage(row["stage"]), row["pid"], row["pid_started"], row["execution_status"])
